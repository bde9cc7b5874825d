package sealing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fernet/fernet-go"
)

// FuzzOpen: nothing opens but what was sealed with the key, for the place, and no error
// holds what was in it. Tokens that the key did make, around other plaintexts, are
// among them.
func FuzzOpen(f *testing.F) {
	key := NewKey(7, 1)
	home := MemberID(42, 7, "user", 3)
	sealed, err := key.Seal(home, "alice")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, home.header()+"alice")
	f.Add(sealed+"=", home.header())
	f.Add(strings.Replace(sealed, "A", "B", 1), "memberships.principal_id 43 x\nalice")
	f.Add("", "")
	f.Add("gAAAAA==", "\n")
	f.Add("v2:"+sealed, "alice")
	f.Fuzz(func(t *testing.T, token, plain string) {
		text, err := key.Open(home, token)
		if err == nil && strings.TrimRight(token, "=") != strings.TrimRight(sealed, "=") {
			t.Fatalf("%q opens as %q", token, text)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || text != "") {
			t.Fatalf("%q: %q, %v", token, text, err)
		}
		made, err := fernet.EncryptAndSign([]byte(plain), &key.data)
		if err != nil {
			t.Fatal(err)
		}
		text, err = key.Open(home, string(made))
		want, ours := strings.CutPrefix(plain, home.header())
		if ours != (err == nil) || ours && text != want {
			t.Fatalf("%q opens as %q: %v", plain, text, err)
		}
		if _, err := OpenReply("secret", "use", token); err == nil {
			t.Fatalf("the reply %q opens", token)
		}
		masters, err := ParseMasters(NewMaster())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := masters.Unwrap(7, 1, token, masters.First()); err == nil {
			t.Fatalf("the key %q is unwrapped", token)
		}
	})
}

// FuzzMasters: keys that are taken seal and open, each under an id of its own, and no
// error repeats one.
func FuzzMasters(f *testing.F) {
	one, two := NewMaster(), NewMaster()
	for _, seed := range []string{"", one, one + "," + two, one + "," + one, one + ",", " " + one + " ", strings.Repeat("A", 43) + "=", strings.ToUpper(one), one[:43]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMasters(text)
		if err != nil {
			if m != nil || len(err.Error()) > 150 || len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		ids := m.IDs()
		if len(ids) == 0 {
			if strings.TrimSpace(text) != "" {
				t.Fatalf("%q is none", text)
			}
			return
		}
		if len(ids) != strings.Count(text, ",")+1 {
			t.Fatalf("%d ids of %q", len(ids), text)
		}
		k := newKey(7, time.Now().UnixMicro(), make([]byte, keyBytes))
		for i, id := range ids {
			for _, other := range ids[:i] {
				if other == id {
					t.Fatalf("%q has one id twice", text)
				}
			}
			wrapped, err := m.WrapUnder(k, id)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Unwrap(7, k.KeyID(), wrapped, id); err != nil || got.KeyID() != k.KeyID() {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}
