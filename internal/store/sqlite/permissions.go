package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// The permission by name, under whatever key it may be: ?2 is the role, ?3 the name
	// and ?4 and ?5 its indexes, NULL where there is none. A row in clear is found in a
	// sealed tenant too, so that it can be taken away.
	permissionIs = `p.tenant_id = ?1 AND p.role_id = ?2 AND (p.key_id = 0 AND p.name = ?3 OR p.name_index IN (?4, ?5))`

	sqlPermission = `SELECT p.id, p.key_id, p.name FROM permissions AS p WHERE ` + permissionIs

	sqlInsertPermission = `INSERT INTO permissions (id, tenant_id, role_id, name, key_id, name_index) VALUES (?, ?, ?, ?, ?, ?)`

	sqlDeletePermission = `DELETE FROM permissions AS p WHERE ` + permissionIs

	sqlPermissionsOf = `SELECT id, key_id, name FROM permissions WHERE tenant_id = ? AND role_id = ?`

	sqlRoleID = `SELECT id FROM roles WHERE tenant_id = ? AND name = ?`
)

// permissionIndexes are those that a role's permission may have; nil for a key
// that is none.
func permissionIndexes(keys sealing.Keys, role policy.RoleID, name string) (current, former []byte) {
	current = permissionIndex(keys.Current, role, name)
	if !keys.Pair.Rotating {
		return current, current
	}
	return current, permissionIndex(keys.Former, role, name)
}

func permissionIndex(key *sealing.Key, role policy.RoleID, name string) []byte {
	if key == nil {
		return nil
	}
	index := key.PermissionIndex(int64(role), name)
	return index[:]
}

// permissionRow is a row of permissions as it lies in the table.
type permissionRow struct {
	id, key int64
	sealed  string
}

func (s *Store) openPermission(ctx context.Context, keys sealing.Keys, tenant store.TenantID, role policy.RoleID, p permissionRow) (string, error) {
	return s.open(ctx, keys, p.key, sealing.PermissionName(p.id, int64(tenant), int64(role)), p.sealed)
}

// isPermission is nil where the row is indeed the permission that its index says
// it is.
func (s *Store) isPermission(ctx context.Context, keys sealing.Keys, tenant store.TenantID, role policy.RoleID, p permissionRow, name string) error {
	opened, err := s.openPermission(ctx, keys, tenant, role, p)
	if err == nil && opened != name {
		err = s.strange(ctx, sealing.PermissionName(p.id, int64(tenant), int64(role)), whyIndex)
	}
	return err
}

// AddPermission implements store.Store.
func (s *Store) AddPermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "add permission", by, func(tx *writeTx) (*store.Written, error) {
		l, err := tx.permissionLink(store.ActionAddPermission, tenant, role, permission)
		if err != nil || l.role == 0 {
			return l.w, err
		}
		l.w.After = store.LinkState{Present: true}
		var there permissionRow
		switch err := tx.scan(tx.ctx, sqlPermission, l.is(), &there.id, &there.key, &there.sealed); {
		case err == nil:
			l.w.Before = store.LinkState{Present: true}
			// One that grants nothing is not there already: it has to be removed.
			return l.w, s.isPermission(tx.ctx, l.keys, tenant, l.role, there, permission)
		case !absent(err):
			return nil, err
		}
		if err := tx.insertPermission(l); err != nil {
			return nil, err
		}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

func (tx *writeTx) insertPermission(l permissionLink) error {
	key := l.keys.Current
	id, err := newID(tx.ctx, tx.conn, key, sqlNextPermission)
	if err != nil {
		return err
	}
	sealed, err := key.Seal(sealing.PermissionName(id.Int64, int64(l.tenant), int64(l.role)), l.name)
	if err != nil {
		return err
	}
	_, err = tx.exec(tx.ctx, sqlInsertPermission, id, int64(l.tenant), int64(l.role), sealed, key.KeyID(), permissionIndex(key, l.role, l.name))
	return err
}

// RemovePermission implements store.Store.
func (s *Store) RemovePermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "remove permission", by, func(tx *writeTx) (*store.Written, error) {
		l, err := tx.permissionLink(store.ActionRemovePermission, tenant, role, permission)
		if err != nil || l.role == 0 {
			return l.w, err
		}
		removed, err := tx.exec(tx.ctx, sqlDeletePermission, l.is()...)
		if err != nil || removed == 0 {
			return l.w, err
		}
		l.w.Before = store.LinkState{Present: true}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

// permissionLink is what a write finds of a role to change a permission of. Its
// Written says unchanged, or missing where the role is; then role is 0.
type permissionLink struct {
	w      *store.Written
	keys   sealing.Keys
	tenant store.TenantID
	role   policy.RoleID
	name   string
}

// is are the parameters of permissionIs.
func (l *permissionLink) is() args {
	current, former := permissionIndexes(l.keys, l.role, l.name)
	return args{int64(l.tenant), int64(l.role), l.name, current, former}
}

func (tx *writeTx) permissionLink(action store.Action, tenant store.TenantID, role, permission string) (permissionLink, error) {
	if permission == "" {
		return permissionLink{}, errors.New("permission: is empty: give it a name")
	}
	l := permissionLink{tenant: tenant, name: permission, w: &store.Written{
		Outcome:  store.OutcomeMissing,
		Tenant:   tenant,
		Action:   action,
		Resource: store.PermissionResource(role, permission),
	}}
	found, err := tx.role(tenant, role)
	if err != nil || found == nil {
		return l, err
	}
	l.role = found.id
	l.w.Outcome = store.OutcomeUnchanged
	l.keys, err = tx.keys(tenant)
	return l, err
}

// PermissionList implements store.Store.
func (s *Store) PermissionList(ctx context.Context, tenant store.TenantID, role string) ([]string, error) {
	var list []string
	err := s.reading(ctx, "list permissions", func(ctx context.Context, c *conn) error {
		list = nil
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		var id policy.RoleID
		if err := c.scan(ctx, sqlRoleID, args{int64(tenant), role}, &id); err != nil {
			if absent(err) {
				return nil
			}
			return err
		}
		return c.each(ctx, sqlPermissionsOf, args{int64(tenant), int64(id)}, func(rows *sql.Rows) error {
			var p permissionRow
			if err := rows.Scan(&p.id, &p.key, &p.sealed); err != nil {
				return err
			}
			name, err := s.openPermission(ctx, keys, tenant, id, p)
			list = append(list, name)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	return list, nil
}

// HasPermission implements store.Store.
func (s *Store) HasPermission(ctx context.Context, tenant store.TenantID, role, permission string) (bool, error) {
	has := false
	err := s.reading(ctx, "look up permission", func(ctx context.Context, c *conn) error {
		has = false
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		l := permissionLink{keys: keys, tenant: tenant, name: permission}
		if err := c.scan(ctx, sqlRoleID, args{int64(tenant), role}, &l.role); err != nil {
			if absent(err) {
				return nil
			}
			return err
		}
		var p permissionRow
		switch err := c.scan(ctx, sqlPermission, l.is(), &p.id, &p.key, &p.sealed); {
		case absent(err):
			return nil
		case err != nil:
			return err
		}
		has = true
		return s.isPermission(ctx, keys, tenant, l.role, p, permission)
	})
	return has && err == nil, err
}
