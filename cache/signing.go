package cache

import (
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// SigningKeys receives the public keys that verify our own tokens.
// *identity.OwnKeys is one.
type SigningKeys interface {
	// SetKeys replaces all keys at once. Keys that cannot be used are left out, and
	// the error names them; the others hold all the same.
	SetKeys(keys []identity.PublicKey) error
}

// setSigning hands out the signing keys, before the snapshot that goes with them is
// swapped in: a key that was withdrawn verifies nothing once the revision is
// published. It returns the version of the keys, which is told before they change, so
// that a token judged in between is known to be.
func (c *Cache) setSigning(keys []store.SigningKey) int64 {
	version := c.signing.Add(1)
	if c.cfg.Keys == nil {
		return version
	}
	public := make([]identity.PublicKey, 0, len(keys))
	for _, k := range keys {
		// It verifies as soon as it is published: who signs may have heard of it first.
		p := identity.PublicKey{KeyID: k.KeyID, Algorithm: k.Algorithm, JWK: []byte(k.JWK)}
		if !k.Expires.IsZero() {
			p.Expires = k.Expires.UnixNano()
		}
		public = append(public, p)
	}
	if err := c.cfg.Keys.SetKeys(public); err != nil {
		c.log.Error("public signing keys of the store", "error", err)
	}
	return version
}

// Signing is the version of the signing keys that go with the snapshot. A token that
// was judged under another is judged again.
func (s *Snapshot) Signing() int64 { return s.signing }
