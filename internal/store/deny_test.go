package store

import (
	"crypto/sha256"
	"strings"
	"testing"
)

// The digests are kept by stores and compared across versions: these are their values.
func TestDenyDigestsAreFixed(t *testing.T) {
	sum := func(parts ...string) Digest { return sha256.Sum256([]byte(strings.Join(parts, ""))) }
	index := Index([]byte("0123456789abcdef"))
	for name, c := range map[string]struct{ got, want Digest }{
		"token":   {DenyTokenDigest(258, "gate", "jti"), sum("portcullis denial v1\x00", "\x01", "\x00\x00\x00\x00\x00\x00\x01\x02", "\x00", "\x04gate", "\x03jti")},
		"subject": {DenySubjectDigest(258, index, "gate"), sum("portcullis denial v1\x00", "\x02", "\x00\x00\x00\x00\x00\x00\x01\x02", "\x100123456789abcdef", "\x04gate", "\x00")},
		"key":     {DenyKeyDigest("gate", "kid"), sum("portcullis denial v1\x00", "\x03", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00", "\x04gate", "\x03kid")},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// No two things that may be denied have one digest: not by moving text from one field
// to the next, nor across the kinds of entry.
func TestDenyDigestsDoNotMeet(t *testing.T) {
	texts := []string{"", "a", "ab", "b", "\x00", "\x00a", "a\x00", "\x01a", strings.Repeat("a", 128), strings.Repeat("a", 300), strings.Repeat("i", 2000), "\u00e9", "https://id.example.com", "https://id.example.com/"}
	indexes := []Index{{}, {1}, Index([]byte("aaaaaaaaaaaaaaaa"))}
	seen := map[Digest]string{}
	add := func(digest Digest, what string) {
		if other, twice := seen[digest]; twice {
			t.Errorf("%s and %s are %s", what, other, digest)
		}
		seen[digest] = what
	}
	for _, issuer := range texts {
		for _, tenant := range []TenantID{0, 1, -1, 256, 1 << 40} {
			for _, id := range texts {
				add(DenyTokenDigest(tenant, issuer, id), "token")
			}
			for _, index := range indexes {
				add(DenySubjectDigest(tenant, index, issuer), "subject")
			}
		}
		for _, id := range texts {
			add(DenyKeyDigest(issuer, id), "key")
		}
	}
}

func TestDenyDigestsAllocateNothing(t *testing.T) {
	issuer, id := "https://id.example.com/"+strings.Repeat("x", 400), strings.Repeat("j", 256)
	if n := testing.AllocsPerRun(100, func() {
		DenyTokenDigest(7, issuer, id)
		DenySubjectDigest(7, Index{1}, issuer)
		DenyKeyDigest(issuer, id)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDenyTokenDigest(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		DenyTokenDigest(7, "https://id.example.com", "0123456789abcdef012345")
	}
}
