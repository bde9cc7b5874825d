package store

import "testing"

// No two things that can be denied have one digest: not in another tenant, not of
// another kind, and not where the same letters fall to other fields.
func TestDenyDigestsAreDistinct(t *testing.T) {
	seen := make(map[Digest]string)
	add := func(what string, d Digest) {
		t.Helper()
		if other, dup := seen[d]; dup {
			t.Errorf("%s has the digest of %s", what, other)
		}
		seen[d] = what
	}
	for _, tenant := range []TenantID{0, 1, 256, 1 << 40} {
		for _, f := range [][2]string{{"", ""}, {"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"a\x00", "b"}, {"a", "\x00b"}, {"\x01a", "\x01b"}} {
			add("a token", DenyTokenDigest(tenant, f[0], f[1]))
			if tenant == 0 {
				add("a key", DenyKeyDigest(f[0], f[1]))
			}
		}
		for _, index := range []Index{{}, {1}, {15: 1}} {
			for _, issuer := range []string{"", "a", "ab"} {
				add("a subject", DenySubjectDigest(tenant, index, issuer))
			}
		}
		// A token whose issuer spells an index.
		add("a token", DenyTokenDigest(tenant, string(make([]byte, len(Index{}))), ""))
	}
}

// Every kind that is stored has a word in the audit, and no other number has.
func TestDenyKindWords(t *testing.T) {
	for kind, want := range map[DenyKind]string{0: "", DenyToken: "token", DenySubject: "subject", DenyKey: "key", 4: ""} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d is %q, want %q", kind, got, want)
		}
	}
}
