package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"

	"portcullis/internal/store"
	"portcullis/policy"
)

// grantID is the full key of a grant. The index says which slot and place are the
// principal's; which principal it is, kind and id say.
type grantID struct {
	tenant store.TenantID
	index  store.Index
	kind   policy.Kind
	id     string
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
	index, end := c.index(s, t, kind, id, h, now)
	if end != Found {
		return Holdings{}, end
	}
	full := grantID{t.ID, index, kind, id}
	hash := binary.LittleEndian.Uint64(index[:8])
	a, b := tenantSlot(t.ID), principalSlot(t.ID, index)
	if g, ok := c.grants.Get(hash); ok && g.id == full && s.judge(g.history, g.revision, a, b) == fits {
		c.metrics.grantHits.Inc()
		return g.held, Found
	}
	c.metrics.grantMisses.Inc()
	full.id = strings.Clone(id) // it outlives the credential that it may be a part of
	held, hist, revision, end := resolve(c, &c.grantLoads, s, full, now, a, b)
	if end != Found {
		return Holdings{}, end
	}
	c.grants.Set(hash, &grant{id: full, history: hist, revision: revision, held: held}, grantBytes+int64(len(full.id))+16*int64(len(held.Roles)))
	return held, Found
}

func (c *Cache) loadGrant(ctx context.Context, id grantID) (loaded[Holdings], error) {
	row, err := c.cfg.Store.Grant(ctx, id.tenant, id.kind, id.id)
	if err != nil {
		return loaded[Holdings]{}, c.loadFailed("grant", err)
	}
	return loaded[Holdings]{value: Holdings{row.Grant, row.KeyBackedUntil}, revision: row.Revision}, nil
}

// index gives a principal's index under its tenant's key, from h where it is held.
// An index under a former key names another slot: changes of the principal would
// not reach it.
func (c *Cache) index(s *Snapshot, t *Tenant, kind policy.Kind, id string, h *Holder, now Instant) (store.Index, Lookup) {
	if h != nil {
		if held := h.held.Load(); held != nil && held.history == s.hist && held.tenant == t.ID && (held.key == t.Key || plantKeyBlind) {
			return held.index, Found
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.remaining(now))
	defer cancel()
	index, err := c.cfg.Store.PrincipalIndex(ctx, t.ID, t.Key, kind, id)
	switch {
	case errors.Is(err, store.ErrKeyGone):
		// The key went out of use after the snapshot's revision.
		return store.Index{}, c.catchUpFor(ctx, s.Revision.Number+1)
	case err != nil:
		return store.Index{}, lookupOf(c.loadFailed("index", err))
	}
	if h != nil {
		h.held.Store(&heldIndex{history: s.hist, tenant: t.ID, key: t.Key, index: index})
	}
	return index, Found
}
