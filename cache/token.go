package cache

import (
	"hash/maphash"
	"sync/atomic"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier interface {
	// Verify checks the whole token. Any reason but ReasonOK refuses it.
	Verify(token string) (*identity.Token, policy.Reason)
	// Current reports whether a token that it verified before would verify still,
	// its times aside. It allocates nothing.
	Current(*identity.Token) bool
}

// Token is a verified token, kept for the next request that carries it.
type Token struct {
	*identity.Token
	Holder

	raw      string
	verified int64 // Mono at which its verification ended

	digests atomic.Pointer[denyDigests] // filled when the deny-list is first asked
	subject atomic.Pointer[heldSubject]
}

// tokenOverhead is about what a cached token takes beyond its text, in bytes.
const tokenOverhead = 704

// tokenHash keys the token cache by 128 bits under seeds of this process, so that
// nobody can choose tokens that collide. The full token is compared all the same.
func tokenHash() func([]byte) (uint64, uint64) {
	a, b := maphash.MakeSeed(), maphash.MakeSeed()
	return func(raw []byte) (uint64, uint64) { return maphash.Bytes(a, raw), maphash.Bytes(b, raw) }
}

// Token verifies a raw JWT, from memory where it was verified before by
// what verifies it still. Its times are checked on every call. raw is not kept.
// It allocates nothing when the token is in memory.
func (c *Cache) Token(raw []byte, now Instant) (*Token, policy.Reason) {
	if t, ok := c.tokens.Get(raw); ok && t.raw == string(raw) && c.cfg.Verifier.Current(t.Token) {
		c.metrics.tokenHits.Inc()
		return t, t.Check(now.Wall)
	}
	c.metrics.tokenMisses.Inc()
	text := string(raw)
	verified, reason := c.cfg.Verifier.Verify(text)
	if reason != policy.ReasonOK {
		return nil, reason
	}
	t := &Token{Token: verified, raw: text, verified: c.clock().Mono}
	c.tokens.Set([]byte(text), t, int64(len(text))+tokenOverhead)
	return t, t.Check(now.Wall)
}

// Late reports whether verifying the token took so much of the check that began at
// now that the store had less than half of its time left.
func (c *Cache) Late(t *Token, now Instant) bool {
	return t.verified-now.Mono > int64(c.cfg.Budget)/2
}

// Holder keeps a principal's index beside its credential, so that the store
// computes it once and not for every request. The zero Holder is empty.
type Holder struct {
	held atomic.Pointer[heldIndex]
}

type heldIndex struct {
	history *history // a restored backup may give a key's id to another key
	tenant  store.TenantID
	key     store.KeyID
	index   store.Index
}

// Claims reads the claims of these names out of the token (identity.ClaimsOf). It
// reads the text every time: only rules with a condition on claims ask, and a copy
// would count against the memory of every token.
func (t *Token) Claims(names []string) (map[string]any, bool) {
	return identity.ClaimsOf(t.raw, names)
}
