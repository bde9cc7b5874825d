package authdata

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
)

// sealer encrypts as Auth does, written from the description of its data and
// sharing nothing with the reader but the primitives.
type sealer struct{ master [64]byte }

func newSealer(key string) *sealer {
	s := &sealer{}
	for block := range uint32(2) {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte("auth_deterministic_encryption_salt_v1"))
		mac.Write(binary.BigEndian.AppendUint32(nil, block+1))
		u := mac.Sum(nil)
		sum := append([]byte(nil), u...)
		for range 99_999 {
			mac.Reset()
			mac.Write(u)
			u = mac.Sum(u[:0])
			for i := range sum {
				sum[i] ^= u[i]
			}
		}
		copy(s.master[block*32:], sum)
	}
	return s
}

const theKey = "correct horse battery staple"

var theSealer = sync.OnceValue(func() *sealer { return newSealer(theKey) })

func hmac256(key []byte, parts ...string) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}

func seal(key []byte, plain string) string {
	iv := hmac256(key[32:], plain)[:16]
	block, err := aes.NewCipher(key[:32])
	if err != nil {
		panic(err)
	}
	out := append([]byte(nil), iv...)
	out = append(out, plain...)
	cipher.NewCTR(block, iv).XORKeyStream(out[16:], out[16:])
	return base64.StdEncoding.EncodeToString(out)
}

// v2 is the current form, of the tenant's own key.
func (s *sealer) v2(creator, plain string) string {
	info := "auth-fieldkey-v2|" + creator
	first := hmac256(s.master[:], info, "\x01")
	return "v2:" + seal(append(first, hmac256(s.master[:], string(first), info, "\x02")...), plain)
}

// v1 is the untagged form.
func (s *sealer) v1(plain string) string { return seal(s.master[:], plain) }

// The vectors were made once with Python's cryptography: PBKDF2HMAC, HKDFExpand
// and AES in CTR mode.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Key, Creator, Plain, Value string }
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 20 {
		t.Fatalf("%d vectors, want 20", len(vectors))
	}
	rings, sealers := map[string]*keyring{}, map[string]*sealer{theKey: theSealer()}
	for _, v := range vectors {
		if rings[v.Key] == nil {
			if rings[v.Key], err = newKeyring(NewSecret(v.Key)); err != nil {
				t.Fatal(err)
			}
			if sealers[v.Key] == nil {
				sealers[v.Key] = newSealer(v.Key)
			}
		}
		if got, err := rings[v.Key].open(v.Creator, v.Value); err != nil || got != v.Plain {
			t.Errorf("%s opens as %q, %v; want %q", v.Value, got, err, v.Plain)
		}
		made := sealers[v.Key].v1(v.Plain)
		if strings.HasPrefix(v.Value, "v2:") {
			made = sealers[v.Key].v2(v.Creator, v.Plain)
		}
		if made != v.Value {
			t.Errorf("the tests' own sealer makes %s of %q, want %s", made, v.Plain, v.Value)
		}
	}
}

func TestWhatAKeyOpens(t *testing.T) {
	ring, err := newKeyring(NewSecret(theKey))
	if err != nil {
		t.Fatal(err)
	}
	s := theSealer()
	sealed := s.v2(tenantA, "alice")
	flipped := func(value string, at int) string {
		body, tagged := strings.CutPrefix(value, "v2:")
		raw, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		raw[at/8] ^= 1 << (at % 8)
		out := base64.StdEncoding.EncodeToString(raw)
		if tagged {
			out = "v2:" + out
		}
		return out
	}
	for _, c := range []struct{ name, creator, value, want string }{
		{"tagged", tenantA, sealed, "alice"},
		{"untagged", tenantA, s.v1("alice"), "alice"},
		{"untagged, any tenant", tenantB, s.v1("alice"), "alice"},
		{"plain, since it is no base64", tenantA, "alice", "alice"},
		{"plain, with a space", tenantA, "view all", "view all"},
		{"empty", tenantA, "", ""},
		{"an encrypted nothing", tenantA, s.v2(tenantA, ""), ""},
		{"what is inside is not opened again", tenantA, s.v2(tenantA, s.v1("x")), s.v1("x")},
	} {
		if got, err := ring.open(c.creator, c.value); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	refused := map[string][2]string{
		"another tenant's":                {tenantB, sealed},
		"another key's":                   {tenantA, newSealer("another").v2(tenantA, "alice")},
		"the tag taken off":               {tenantA, strings.TrimPrefix(sealed, "v2:")},
		"the tag put on":                  {tenantA, "v2:" + s.v1("alice")},
		"tagged, no base64":               {tenantA, "v2:alice"},
		"tagged, nothing":                 {tenantA, "v2:"},
		"tagged, shorter than an IV":      {tenantA, "v2:YWJj"},
		"tagged, cut":                     {tenantA, sealed[:len(sealed)-4]},
		"tagged, a line end":              {tenantA, sealed + "\n"},
		"untagged plain that is base64":   {tenantA, "view"},
		"untagged plain, 24 characters":   {tenantA, "abcdefghijklmnopqrstuvwx"},
		"untagged of another key's":       {tenantA, newSealer("another").v1("alice")},
		"another tenant's, upper case of": {strings.ToUpper(tenantA), sealed},
	}
	for name, r := range refused {
		if got, err := ring.open(r[0], r[1]); err == nil {
			t.Errorf("%s: opens as %q", name, got)
		}
	}
	for _, value := range []string{sealed, s.v1("alice")} {
		for bit := range (16 + len("alice")) * 8 {
			if got, err := ring.open(tenantA, flipped(value, bit)); err == nil {
				t.Errorf("bit %d of %s flipped: opens as %q", bit, value, got)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	ring, err := newKeyring(NewSecret(theKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tenantA, theSealer().v2(tenantA, "alice"))
	f.Add(tenantA, theSealer().v1("alice"))
	f.Add(tenantB, "v2:")
	f.Fuzz(func(t *testing.T, creator, value string) {
		plain, err := ring.open(creator, value)
		if err != nil || plain == value {
			return
		}
		// Whatever opens is what the sealer makes of it, but for bits behind the padding.
		for _, made := range []string{theSealer().v2(creator, plain), theSealer().v1(plain)} {
			if len(made) == len(value) && strings.TrimRight(made, "=")[:len(strings.TrimRight(made, "="))-1] == value[:len(strings.TrimRight(made, "="))-1] {
				return
			}
		}
		t.Errorf("%q of %q opens as %q, which nobody sealed", value, creator, plain)
	})
}
