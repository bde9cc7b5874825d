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

// grant is a principal's memberships as the store knew them at revision.
type grant struct {
	id       grantID
	history  *history
	revision int64
	roles    policy.Grant
}

const grantBytes = 256 // about what one cached grant takes, without its memberships

// Grant finds the roles that a principal of tenant t holds, true at the
// snapshot's revision; whether a membership has expired is for the caller to
// judge. h, which may be nil, keeps the principal's index for the next time. The
// grant is shared: do not change it. It allocates nothing when the grant is in
// memory and h is filled.
func (c *Cache) Grant(s *Snapshot, t *Tenant, kind policy.Kind, id string, h *Holder, now Instant) (policy.Grant, Lookup) {
	index, end := c.index(t, kind, id, h, now)
	if end != Found {
		return nil, end
	}
	full := grantID{t.ID, index}
	hash := binary.LittleEndian.Uint64(index[:8])
	a, b := tenantSlot(t.ID), principalSlot(t.ID, index)
	if g, ok := c.grants.Get(hash); ok && g.id == full && s.judge(g.history, g.revision, a, b) == fits {
		c.metrics.grantHits.Inc()
		return g.roles, Found
	}
	c.metrics.grantMisses.Inc()
	roles, hist, revision, end := resolve(c, &c.grantLoads, s, full, now, a, b)
	if end != Found {
		return nil, end
	}
	c.grants.Set(hash, &grant{id: full, history: hist, revision: revision, roles: roles}, grantBytes+16*int64(len(roles)))
	return roles, Found
}

func (c *Cache) loadGrant(ctx context.Context, id grantID) (loaded[policy.Grant], error) {
	row, err := c.cfg.Store.Grant(ctx, id.tenant, id.index)
	if err != nil {
		return loaded[policy.Grant]{}, c.loadFailed("grant", err)
	}
	return loaded[policy.Grant]{value: row.Grant, revision: row.Revision}, nil
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
