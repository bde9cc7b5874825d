package identity

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/google/uuid"
)

func TestParseClientKey(t *testing.T) {
	const key = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
	for text, canonical := range map[string]string{
		key:                                    key,
		"6F9619FF-8B86-4011-B42D-00C04FC964FF": key,
		"6f9619fF-8b86-4011-B42d-00c04fc964fF": key,
		"6f9619ff-8b86-4011-842d-00c04fc964ff": "6f9619ff-8b86-4011-842d-00c04fc964ff",
		"6f9619ff-8b86-4011-A42d-00c04fc964ff": "6f9619ff-8b86-4011-a42d-00c04fc964ff",
	} {
		if got, ok := ParseClientKey([]byte(text)); !ok || string(got[:]) != canonical {
			t.Errorf("%s: got %q, %v", text, got, ok)
		}
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"version 1":          "6f9619ff-8b86-1011-b42d-00c04fc964ff",
		"version 7":          "6f9619ff-8b86-7011-b42d-00c04fc964ff",
		"the nil UUID":       "00000000-0000-0000-0000-000000000000",
		"the greatest UUID":  "ffffffff-ffff-ffff-ffff-ffffffffffff",
		"Microsoft variant":  "6f9619ff-8b86-4011-c42d-00c04fc964ff",
		"NCS variant":        "6f9619ff-8b86-4011-742d-00c04fc964ff",
		"variant f":          "6f9619ff-8b86-4011-f42d-00c04fc964ff",
		"no hyphens":         "6f9619ff8b864011b42d00c04fc964ff",
		"36 without hyphens": "6f9619ff08b8604011ab42da00c04fc964ff",
		"a hyphen elsewhere": "6f9619f-f8b86-4011-b42d-00c04fc964ff",
		"braces":             "{6f9619ff-8b86-4011-b42d-00c04fc964ff}",
		"URN":                "urn:uuid:6f9619ff-8b86-4011-b42d-00c04fc964ff",
		"a space after":      key + " ",
		"a newline after":    key + "\n",
		"a space before":     " " + key,
		"one short":          key[:35],
		"no hexadecimal":     "6f9619fg-8b86-4011-b42d-00c04fc964ff",
		"a zero byte":        "6f9619f\x00-8b86-4011-b42d-00c04fc964ff",
		"twice":              key + "," + key,
	} {
		if got, ok := ParseClientKey([]byte(text)); ok || got != [ClientKeySize]byte{} {
			t.Errorf("%s: got %q, %v", name, got, ok)
		}
	}
}

func TestNewClientKeyIsOne(t *testing.T) {
	seen := map[[ClientKeySize]byte]bool{}
	for range 1000 {
		key := NewClientKey()
		if got, ok := ParseClientKey(key[:]); !ok || got != key {
			t.Fatalf("%q is no canonical client key", key)
		}
		if u, err := uuid.ParseBytes(key[:]); err != nil || u.Version() != 4 || u.Variant() != uuid.RFC4122 {
			t.Fatalf("%q: %v, %v", key, u, err)
		}
		if seen[key] {
			t.Fatalf("%q came twice", key)
		}
		seen[key] = true
	}
}

func TestKeyDigestIgnoresCase(t *testing.T) {
	lower, _ := ParseClientKey([]byte("6f9619ff-8b86-4011-b42d-00c04fc964ff"))
	upper, _ := ParseClientKey([]byte("6F9619FF-8B86-4011-B42D-00C04FC964FF"))
	if KeyDigest(lower) != KeyDigest(upper) || KeyDigest(lower) != sha256.Sum256([]byte("6f9619ff-8b86-4011-b42d-00c04fc964ff")) {
		t.Error("a key's digest is not the SHA-256 of its canonical text")
	}
}

func TestParsingAKeyAllocatesNothing(t *testing.T) {
	text := []byte("6F9619FF-8B86-4011-B42D-00C04FC964FF")
	set := NewFingerprints()
	if n := testing.AllocsPerRun(100, func() {
		key, ok := ParseClientKey(text)
		if !ok || set.Has(KeyDigest(key)) {
			t.Error("wrong")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseClientKey(f *testing.F) {
	f.Add([]byte("6f9619ff-8b86-4011-b42d-00c04fc964ff"))
	f.Add([]byte("6F9619FF-8B86-1011-742D-00C04FC964FF"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := ParseClientKey(text)
		// google/uuid takes more forms than one; of this length only this one.
		u, err := uuid.ParseBytes(text)
		want := err == nil && len(text) == ClientKeySize && u.Version() == 4 && u.Variant() == uuid.RFC4122
		if ok != want || ok && (u.String() != string(got[:]) || !bytes.EqualFold(text, got[:])) {
			t.Errorf("%q: got %q, %v; google/uuid says %v, %v", text, got, ok, u, err)
		}
	})
}
