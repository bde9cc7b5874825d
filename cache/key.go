package cache

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Key is a client key as the store knew it.
type Key struct {
	store.ClientKey
	Holder

	history  *history
	revision int64
	lastUse  lastUse
}

// lastUse is the Mono at which a key's use was last noted.
type lastUse struct{ atomic.Int64 }

// keyUseEvery is how often a key's use is noted, at most.
const keyUseEvery = int64(time.Minute)

const keyBytes = 640 // about what one cached key takes

// Key finds a live client key by digest. A digest that belongs to no live key is
// answered from memory with Absent and costs the store nothing. A key that was
// revoked or has expired by now comes back as Found with the reason that refuses
// it. It allocates nothing when the key is in memory.
func (c *Cache) Key(s *Snapshot, digest store.Digest, now Instant) (*Key, policy.Reason, Lookup) {
	if !s.keys.Has(digest) {
		return nil, policy.ReasonBadKey, Absent
	}
	id := binary.LittleEndian.Uint64(digest[:8])
	at := keySlot(digest)
	if k, ok := c.keys.Get(id); ok && k.Digest == digest && s.judge(k.history, k.revision, at, at) == fits {
		c.metrics.keyHits.Inc()
		return c.useKey(k, now)
	}
	c.metrics.keyMisses.Inc()
	row, hist, revision, end := resolve(c, &c.keyLoads, s, digest, now, at, at)
	if end != Found {
		return nil, end.Reason(policy.ReasonBadKey), end
	}
	if row == nil {
		return nil, policy.ReasonBadKey, Absent
	}
	k := &Key{ClientKey: *row, history: hist, revision: revision}
	k.lastUse.never(now)
	c.keys.Set(id, k, keyBytes)
	return c.useKey(k, now)
}

func (c *Cache) useKey(k *Key, now Instant) (*Key, policy.Reason, Lookup) {
	switch {
	case !k.Revoked.IsZero():
		return k, policy.ReasonRevoked, Found
	case !k.Expires.IsZero() && now.Wall >= k.Expires.UnixNano():
		return k, policy.ReasonExpired, Found
	}
	c.noteUse(&k.lastUse, k.Digest, now)
	return k, policy.ReasonOK, Found
}

// never makes the next use one to be noted.
func (l *lastUse) never(now Instant) { l.Store(now.Mono - keyUseEvery) }

// noteUse notes that the key with digest was used, unless it did so lately.
func (c *Cache) noteUse(l *lastUse, digest store.Digest, now Instant) {
	if last := l.Load(); now.Mono-last >= keyUseEvery && l.CompareAndSwap(last, now.Mono) {
		select {
		case c.uses <- store.KeyUse{Digest: digest, At: time.Unix(0, now.Wall)}:
		default:
			// Last-used times are for people; a full queue loses one.
		}
	}
}

func (c *Cache) loadKey(ctx context.Context, d store.Digest) (loaded[*store.ClientKey], error) {
	row, err := c.cfg.Store.Key(ctx, d)
	if err != nil {
		return loaded[*store.ClientKey]{}, c.loadFailed("key", err)
	}
	return loaded[*store.ClientKey]{value: row.Key, revision: row.Revision}, nil
}
