package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// The digests are kept by stores and compared across versions: these are their values.
func TestDenyDigestsAreFixed(t *testing.T) {
	sum := func(parts ...string) [32]byte { return sha256.Sum256([]byte(strings.Join(parts, ""))) }
	token := DenyTokenDigest(258, "gate", "jti")
	if want := sum("\x00\x00\x00\x17portcullis/deny/token/1", "\x00\x00\x00\x00\x00\x00\x01\x02", "\x00\x00\x00\x04gate", "\x00\x00\x00\x03jti"); token != want {
		t.Errorf("token: %x, want %x", token, want)
	}
	key := DenyKeyDigest("gate", "kid")
	if want := sum("\x00\x00\x00\x15portcullis/deny/key/1", "\x00\x00\x00\x04gate", "\x00\x00\x00\x03kid"); key != want {
		t.Errorf("key: %x, want %x", key, want)
	}
}

// No two things that may be denied have one digest: not by moving text from one field
// to the next, nor across the sorts of entry.
func TestDenyDigestsDoNotMeet(t *testing.T) {
	texts := []string{"", "a", "ab", "b", "\x00", "\x00a", "a\x00", "\x00\x00\x00\x01a", strings.Repeat("a", 300), strings.Repeat("i", 2000), "é", "https://id.example.com", "https://id.example.com/"}
	seen := map[[32]byte]string{}
	add := func(digest [32]byte, what string) {
		if other, twice := seen[digest]; twice {
			t.Errorf("%s and %s are %s", what, other, hex.EncodeToString(digest[:]))
		}
		seen[digest] = what
	}
	for _, issuer := range texts {
		for _, id := range texts {
			for _, tenant := range []int64{0, 1, -1, 256, 1 << 40} {
				add(DenyTokenDigest(tenant, issuer, id), "token")
			}
			add(DenyKeyDigest(issuer, id), "key")
		}
	}
}

func TestDenyDigestsAllocateNothing(t *testing.T) {
	issuer, id := "https://id.example.com/"+strings.Repeat("x", 400), strings.Repeat("j", maxTokenIDSize)
	if n := testing.AllocsPerRun(100, func() { DenyTokenDigest(7, issuer, id); DenyKeyDigest(issuer, id) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDenyTokenDigest(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		DenyTokenDigest(7, "https://id.example.com", "0123456789abcdef012345")
	}
}
