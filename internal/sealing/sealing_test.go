package sealing

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func masters(t *testing.T, keys ...string) *Masters {
	t.Helper()
	m, err := ParseMasters(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestASealedValueOpensInItsPlaceAlone(t *testing.T) {
	key := NewKey(7, 1)
	home := MemberID(42, 7, "user", 3)
	sealed, err := key.Seal(home, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := key.Open(home, sealed); err != nil || text != "alice" {
		t.Fatalf("at home: %q, %v", text, err)
	}
	for name, c := range map[string]struct {
		place Place
		why   string
	}{
		"another row":    {MemberID(43, 7, "user", 3), "it was sealed for row 42, and was moved here"},
		"another role":   {MemberID(42, 7, "user", 4), "what it belongs to in its row was changed"},
		"another kind":   {MemberID(42, 7, "client", 3), "what it belongs to in its row was changed"},
		"another tenant": {MemberID(42, 8, "user", 3), "what it belongs to in its row was changed"},
		"another table":  {PermissionName(42, 7, 3), "it was sealed as memberships.principal_id of row 42, and was moved here"},
	} {
		text, err := key.Open(c.place, sealed)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), c.why) || text != "" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: the error tells the value: %v", name, err)
		}
	}
}

// Every bit of a sealed value counts, and every character.
func TestAChangedValueDoesNotOpen(t *testing.T) {
	key := NewKey(7, 1)
	place := RoleDescription(1, 7)
	for _, text := range []string{"", "may edit", strings.Repeat("long ", 100)} {
		sealed, err := key.Seal(place, text)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, changed []byte) {
			if opened, err := key.Open(place, string(changed)); !errors.Is(err, ErrUnreadable) || opened != "" {
				t.Fatalf("%s: %q, %v", what, opened, err)
			}
		}
		for i := range sealed {
			for bit := range 8 {
				changed := []byte(sealed)
				changed[i] ^= 1 << bit
				try("a flipped bit", changed)
			}
			try("cut off", []byte(sealed[:i]))
			try("cut off in front", []byte(sealed[i+1:]))
			try("a newline", []byte(sealed[:i]+"\n"+sealed[i:]))
		}
		try("text behind it", []byte(sealed+"A"))
		try("twice", []byte(sealed+sealed))
	}
}

func TestEqualTextsSealDifferently(t *testing.T) {
	key := NewKey(7, 1)
	a, _ := key.Seal(RoleDescription(1, 7), "same")
	b, _ := key.Seal(RoleDescription(1, 7), "same")
	if a == b {
		t.Error("two seals of one text are equal")
	}
}

func TestIndexes(t *testing.T) {
	key, other := NewKey(7, 1), NewKey(8, 2)
	first, again := key.PrincipalIndex("user", "alice"), key.PrincipalIndex("user", "alice")
	if first != again {
		t.Error("one principal has two indexes, from one call to the next")
	}
	seen := map[[IndexSize]byte]string{}
	for name, index := range map[string][IndexSize]byte{
		"alice":              key.PrincipalIndex("user", "alice"),
		"the client alice":   key.PrincipalIndex("client", "alice"),
		"shifted":            key.PrincipalIndex("usera", "lice"),
		"of another tenant":  other.PrincipalIndex("user", "alice"),
		"a permission":       key.PermissionIndex(1, "alice"),
		"of another role":    key.PermissionIndex(2, "alice"),
		"an audit's subject": key.SubjectIndex("alice"),
	} {
		if twin, ok := seen[index]; ok {
			t.Errorf("%s and %s have one index", name, twin)
		}
		seen[index] = name
	}
}

func TestMasters(t *testing.T) {
	a, b := NewMaster(), NewMaster()
	both, old, wrong := masters(t, b, a), masters(t, a), masters(t, NewMaster())
	key := NewKey(7, 1)
	wrapped, under, err := old.Wrap(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Masters{old, both} {
		got, err := m.Unwrap(7, 1, wrapped, under)
		if err != nil || *got != *key {
			t.Errorf("unwrap: %v", err)
		}
	}
	if _, err := wrong.Unwrap(7, 1, wrapped, under); err == nil || !strings.Contains(err.Error(), string(under)) {
		t.Errorf("a wrong master: %v", err)
	}
	if _, err := (*Masters)(nil).Unwrap(7, 1, wrapped, under); err == nil || !strings.Contains(err.Error(), "AUTH_ENCRYPTION_KEY is not set") {
		t.Errorf("no master: %v", err)
	}
	for _, moved := range []struct{ tenant, id int64 }{{8, 1}, {7, 2}} {
		if _, err := old.Unwrap(moved.tenant, moved.id, wrapped, under); !errors.Is(err, ErrUnreadable) {
			t.Errorf("a wrapped key that was moved to %+v: %v", moved, err)
		}
	}
	if wrapped, under, _ := both.Wrap(key); under != both.First() || masters(t, b) == nil || wrapped == "" {
		t.Error("the first master does not wrap")
	}
}

func TestKeyCheck(t *testing.T) {
	a, b := NewMaster(), NewMaster()
	check, under, err := masters(t, a).Check()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Masters{"the same": masters(t, a), "a new one before it": masters(t, b, a), "behind it": masters(t, a, b)} {
		if err := m.Verify(check, under); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := masters(t, b).Verify(check, under); err == nil || !strings.Contains(err.Error(), "AUTH_ENCRYPTION_KEY=new,old") {
		t.Errorf("a replaced key: %v", err)
	}
	if err := (*Masters)(nil).Verify(check, under); err == nil || !strings.Contains(err.Error(), "AUTH_ENCRYPTION_KEY is not set") {
		t.Errorf("a missing key: %v", err)
	}
	other, _, _ := masters(t, b).Check()
	if err := masters(t, a).Verify(other, under); err == nil {
		t.Error("a check row of other hands is believed")
	}
}

func TestMastersThatAreRefused(t *testing.T) {
	good := NewMaster()
	for text, why := range map[string]string{
		"short":                       "it has 5 characters, and a Fernet key has 44",
		good + ",":                    "key 2 is empty",
		good + "," + good:             "key 2 is key 1 once more",
		good[:43] + "!":               "key 1: it is no base64",
		strings.Repeat("A", 43) + "=": "it is not random",
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": "it has 64 characters",
	} {
		_, err := ParseMasters(text)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
		if err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("the error repeats a key: %v", err)
		}
	}
	if m, err := ParseMasters(" "); m != nil || err != nil {
		t.Errorf("none: %v, %v", m, err)
	}
}

func TestKeysOfATenant(t *testing.T) {
	key, former, place := NewKey(7, 2), NewKey(7, 1), RoleDescription(1, 7)
	under := func(k *Key) string { sealed, _ := k.Seal(place, "text"); return sealed }
	for name, c := range map[string]struct {
		keys Keys
		row  int64
		text string
		ok   bool
	}{
		"in clear":                       {Keys{}, 0, "text", true},
		"sealed":                         {Keys{Pair{Current: 2}, key, nil}, 2, under(key), true},
		"the former, while it is in use": {Keys{Pair{2, 1, true}, key, former}, 1, under(former), true},
		"the former, afterwards":         {Keys{Pair{Current: 2}, key, nil}, 1, under(former), false},
		"in clear, while it is sealed":   {Keys{Pair{2, 0, true}, key, nil}, 0, "text", true},
		"in clear, afterwards":           {Keys{Pair{Current: 2}, key, nil}, 0, "text", false},
		"sealed, while it is unsealed":   {Keys{Pair{0, 2, true}, nil, key}, 2, under(key), true},
		"sealed, afterwards":             {Keys{}, 2, under(key), false},
		"a seal under the wrong key":     {Keys{Pair{2, 1, true}, key, former}, 2, under(former), false},
	} {
		text, err := c.keys.Open(c.row, place, c.text)
		if c.ok != (err == nil) || c.ok != (text == "text") || !c.ok && !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestRingReadsEachKeyOnce(t *testing.T) {
	m := masters(t, NewMaster())
	key := NewKey(7, 5)
	wrapped, under, err := m.Wrap(key)
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	load := func(_ context.Context, id int64) (Wrapped, bool, error) {
		reads++
		return Wrapped{ID: 5, Tenant: 7, Wrapped: wrapped, Master: under}, id == 5, nil
	}
	ring := NewRing(m)
	for range 3 {
		if k, err := ring.Key(t.Context(), 7, 5, load); err != nil || *k != *key {
			t.Fatal(err)
		}
	}
	if reads != 1 {
		t.Errorf("%d reads", reads)
	}
	if _, err := ring.Key(t.Context(), 8, 5, load); !errors.Is(err, ErrUnreadable) {
		t.Errorf("another tenant's key: %v", err)
	}
	if _, err := ring.Key(t.Context(), 7, 6, load); !errors.Is(err, ErrKeyGone) {
		t.Errorf("a key that is not there: %v", err)
	}
	if k, err := ring.Key(t.Context(), 7, 0, load); k != nil || err != nil {
		t.Errorf("in clear: %v, %v", k, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	key, place := NewKey(7, 1), MemberID(42, 7, "user", 3)
	sealed, _ := key.Seal(place, "alice@example.com")
	for b.Loop() {
		if _, err := key.Open(place, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	key, place := NewKey(7, 1), MemberID(42, 7, "user", 3)
	for b.Loop() {
		if _, err := key.Seal(place, "alice@example.com"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrincipalIndex(b *testing.B) {
	key := NewKey(7, 1)
	for b.Loop() {
		key.PrincipalIndex("user", "alice@example.com")
	}
}
