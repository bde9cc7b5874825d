package cache

import (
	"context"
	"encoding/binary"

	"portcullis/internal/store"
	"portcullis/policy"
)

// grantID is the full key of a grant.
type grantID struct {
	tenant store.TenantID
	index  store.Index
}

// Holdings are what a principal holds. They are shared: do not change them.
type Holdings struct {
	Roles policy.Grant
	// KeyBackedUntil is when the last of a user's API keys expires: Unix nanoseconds,
	// 0 where there is none.
	KeyBackedUntil int64
}

// grant is a principal's holdings as the store knew them at revision.
type grant struct {
	id       grantID
	history  *history
	revision int64
	held     Holdings
}

const grantBytes = 256 // about what one cached grant takes, without its memberships

// Grant finds what a principal of tenant t holds, true at the snapshot's revision;
// whether a membership or the last API key has expired is for the caller to judge.
// h, which may be nil, keeps the principal's index for the next time. It allocates
// nothing when the grant is in memory and h is filled.
func (c *Cache) Grant(s *Snapshot, t *Tenant, kind policy.Kind, id string, h *Holder, now Instant) (Holdings, Lookup) {
	index, end := c.index(t, kind, id, h, now)
	if end != Found {
		return Holdings{}, end
	}
	full := grantID{t.ID, index}
	hash := binary.LittleEndian.Uint64(index[:8])
	a, b := tenantSlot(t.ID), principalSlot(t.ID, index)
	if g, ok := c.grants.Get(hash); ok && g.id == full && s.judge(g.history, g.revision, a, b) == fits {
		c.metrics.grantHits.Inc()
		return g.held, Found
	}
	c.metrics.grantMisses.Inc()
	held, hist, revision, end := resolve(c, &c.grantLoads, s, full, now, a, b)
	if end != Found {
		return Holdings{}, end
	}
	c.grants.Set(hash, &grant{id: full, history: hist, revision: revision, held: held}, grantBytes+16*int64(len(held.Roles)))
	return held, Found
}

func (c *Cache) loadGrant(ctx context.Context, id grantID) (loaded[Holdings], error) {
	row, err := c.cfg.Store.Grant(ctx, id.tenant, id.index)
	if err != nil {
		return loaded[Holdings]{}, c.loadFailed("grant", err)
	}
	return loaded[Holdings]{value: Holdings{row.Grant, row.KeyBackedUntil}, revision: row.Revision}, nil
}

// index gives a principal's index, from h where it is held.
func (c *Cache) index(t *Tenant, kind policy.Kind, id string, h *Holder, now Instant) (store.Index, Lookup) {
	if h != nil {
		if held := h.held.Load(); held != nil && held.tenant == t.ID {
			return held.index, Found
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.remaining(now))
	defer cancel()
	index, err := c.cfg.Store.PrincipalIndex(ctx, t.ID, kind, id)
	if err != nil {
		c.loadFailed("index", err)
		return store.Index{}, Unavailable
	}
	if h != nil {
		h.held.Store(&heldIndex{tenant: t.ID, index: index})
	}
	return index, Found
}
