package cache

import (
	"context"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Roles finds a tenant's role table, true at the snapshot's revision. The table
// is loaded on the tenant's first use and stays in the snapshots that follow. It
// allocates nothing when the table is there.
func (c *Cache) Roles(s *Snapshot, t *Tenant, now Instant) (*policy.RoleTable, Lookup) {
	if table, ok := s.roles.get(t.ID); ok {
		return table, Found
	}
	at := rolesSlot(t.ID)
	table, hist, revision, end := resolve(c, &c.roleLoads, s, t.ID, now, at, at)
	if end != Found {
		return nil, end
	}
	c.swap(func(now *Snapshot) *Snapshot {
		// The snapshot may have moved on while the table loaded.
		if now.judge(hist, revision, at, at) != fits {
			return now
		}
		return now.withRoles(map[store.TenantID]*policy.RoleTable{t.ID: table}, nil)
	})
	return table, Found
}

func (c *Cache) loadRoles(ctx context.Context, t store.TenantID) (loaded[*policy.RoleTable], error) {
	row, err := c.cfg.Store.Roles(ctx, t)
	if err != nil {
		return loaded[*policy.RoleTable]{}, c.loadFailed("roles", err)
	}
	return loaded[*policy.RoleTable]{value: policy.NewRoleTable(row.Roles), revision: row.Revision}, nil
}
