package cache

import (
	"context"
	"encoding/binary"

	"portcullis/internal/store"
	"portcullis/policy"
)

// UserKey is a user's API key as the store knew it. Its Holder keeps the user's
// index.
type UserKey struct {
	store.UserKey
	Holder

	history  *history
	revision int64
	lastUse  lastUse
}

// UserKey finds a live API key of a user by digest, as Key does a client key: what
// belongs to no live key is answered from memory with Absent, and a key that was
// revoked or has expired by now comes back as Found with the reason that refuses
// it. It allocates nothing when the key is in memory.
func (c *Cache) UserKey(s *Snapshot, digest store.Digest, now Instant) (*UserKey, policy.Reason, Lookup) {
	if !s.keys.Has(digest) {
		return nil, policy.ReasonBadKey, Absent
	}
	id := binary.LittleEndian.Uint64(digest[:8])
	at := keySlot(digest)
	if k, ok := c.userKeys.Get(id); ok && k.Digest == digest && s.judge(k.history, k.revision, at, at) == fits {
		c.metrics.userKeyHits.Inc()
		return c.useUserKey(k, now)
	}
	c.metrics.userKeyMisses.Inc()
	row, hist, revision, end := resolve(c, &c.userKeyLoads, s, digest, now, at, at)
	if end != Found {
		return nil, end.Reason(policy.ReasonBadKey), end
	}
	if row == nil {
		return nil, policy.ReasonBadKey, Absent
	}
	k := &UserKey{UserKey: *row, history: hist, revision: revision}
	k.lastUse.never(now)
	c.userKeys.Set(id, k, keyBytes)
	return c.useUserKey(k, now)
}

func (c *Cache) useUserKey(k *UserKey, now Instant) (*UserKey, policy.Reason, Lookup) {
	switch {
	case !k.Revoked.IsZero():
		return k, policy.ReasonRevoked, Found
	case !k.Expires.IsZero() && now.Wall >= k.Expires.UnixNano():
		return k, policy.ReasonExpired, Found
	}
	c.noteUse(&k.lastUse, k.Digest, now)
	return k, policy.ReasonOK, Found
}

func (c *Cache) loadUserKey(ctx context.Context, d store.Digest) (loaded[*store.UserKey], error) {
	row, err := c.cfg.Store.UserKey(ctx, d)
	if err != nil {
		return loaded[*store.UserKey]{}, c.loadFailed("user_key", err)
	}
	return loaded[*store.UserKey]{value: row.Key, revision: row.Revision}, nil
}
