package cache

import (
	"context"
	"time"

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
	c.keepRoles(t.ID, table, hist, revision)
	return table, Found
}

// roleLoadTime is how long a role table may be read, longer than one check waits: a
// tenant with very many roles must not have faults for ever. Who waits gives up
// within its own budget, and the table is there for the checks that follow.
const roleLoadTime = 5 * time.Second

// landRoles keeps a table that was read, whether or not somebody still waits for
// it.
func (c *Cache) landRoles(t store.TenantID, fl *flight[loaded[*policy.RoleTable]]) {
	if fl.history.confirms(fl.value.revision) {
		c.keepRoles(t, fl.value.value, fl.history, fl.value.revision.Number)
	}
}

// keepRoles puts a table into the snapshot, if it is true at the snapshot's
// revision: that may have moved on while the table loaded.
func (c *Cache) keepRoles(t store.TenantID, table *policy.RoleTable, hist *history, revision int64) {
	at := rolesSlot(t)
	c.swap(func(now *Snapshot) *Snapshot {
		if now.judge(hist, revision, at, at) != fits {
			return now
		}
		if _, kept := now.roles.get(t); kept {
			return now // as true as this one
		}
		return now.withRoles(map[store.TenantID]*policy.RoleTable{t: table}, nil)
	})
}

func (c *Cache) loadRoles(ctx context.Context, t store.TenantID) (loaded[*policy.RoleTable], error) {
	row, err := c.cfg.Store.Roles(ctx, t)
	if err != nil {
		return loaded[*policy.RoleTable]{}, c.loadFailed("roles", err)
	}
	return loaded[*policy.RoleTable]{value: policy.NewRoleTable(row.Roles), revision: row.Revision}, nil
}
