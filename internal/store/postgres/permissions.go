package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// A permission is found by its index under each key, or in clear by its name. Where
	// there is none, the row has the id that a new one will have.
	sqlPermission = `
SELECT p.id IS NOT NULL, CASE WHEN p.id IS NULL THEN nextval('portcullis.permission_ids') ELSE p.id END, coalesce(p.key_id, 0), coalesce(p.name, '')
FROM (SELECT) AS one
LEFT JOIN portcullis.permissions p ON p.tenant_id = $1 AND p.role_id = $2 AND (p.key_id = 0 AND p.name = $3 OR p.name_index = ANY ($4))
ORDER BY p.id LIMIT 1`

	sqlInsertPermission = `
INSERT INTO portcullis.permissions (id, tenant_id, role_id, name, name_index, key_id) VALUES ($1, $2, $3, $4, $5, $6)`

	sqlDeletePermission = `
DELETE FROM portcullis.permissions
WHERE tenant_id = $1 AND role_id = $2 AND (key_id = 0 AND name = $3 OR name_index = ANY ($4))`

	sqlPermissionsOf = `SELECT id, key_id, role_id, name FROM portcullis.permissions WHERE tenant_id = $1 AND role_id = $2`

	sqlPermissionList = `
SELECT e.key_id, e.former_key_id, p.id, p.key_id, p.role_id, p.name
FROM portcullis.roles o JOIN portcullis.permissions p ON p.tenant_id = o.tenant_id AND p.role_id = o.id
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
WHERE o.tenant_id = $1 AND o.name = $2`

	// An index needs the role's id, which is known only here: so all that the role has
	// in sealed form comes back, to be compared by index.
	sqlHasPermission = `
SELECT e.key_id, e.former_key_id, coalesce(p.id, 0), coalesce(p.key_id, 0), coalesce(p.role_id, 0), coalesce(p.name, ''), p.name_index
FROM (SELECT) AS one
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN (portcullis.roles o JOIN portcullis.permissions p ON p.tenant_id = o.tenant_id AND p.role_id = o.id)
       ON o.tenant_id = $1 AND o.name = $2 AND (p.key_id = 0 AND p.name = $3 OR p.name_index IS NOT NULL)`
)

// AddPermission implements store.Store.
func (s *Store) AddPermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "add permission", tenant, by, func(tx *writeTx) (*store.Written, error) {
		if err := mustBeText("permission", permission); err != nil {
			return nil, err
		}
		l, err := tx.permissionLink(store.ActionAddPermission, tenant, role, permission)
		if err != nil || l.w.Outcome == store.OutcomeMissing {
			return l.w, err
		}
		l.w.After = store.LinkState{Present: true}
		if l.present {
			l.w.Before = store.LinkState{Present: true}
			return l.w, s.mustName(l.keys, tenant, &l.row, permission)
		}
		if err := tx.insertPermission(tenant, &l, permission); err != nil {
			return nil, err
		}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

// RemovePermission implements store.Store.
func (s *Store) RemovePermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "remove permission", tenant, by, func(tx *writeTx) (*store.Written, error) {
		l, err := tx.permissionLink(store.ActionRemovePermission, tenant, role, permission)
		if err != nil || !l.present {
			return l.w, err
		}
		_, err = tx.exec(sqlDeletePermission, int64(tenant), int64(l.row.role), permission, permissionIndexes(l.keys, l.row.role, permission))
		if err != nil {
			return nil, err
		}
		l.w.Before = store.LinkState{Present: true}
		l.w.Outcome = store.OutcomeDone
		l.w.Changes.Roles(tenant)
		return l.w, nil
	})
}

// permissionLink is what a write finds of a role's permission. Its Written says
// unchanged, or missing where the role is.
type permissionLink struct {
	w       *store.Written
	keys    sealing.Keys
	present bool
	row     permissionRow // where there is none: its role, and the id of a new row
}

func (tx *writeTx) permissionLink(action store.Action, tenant store.TenantID, role, permission string) (permissionLink, error) {
	if permission == "" {
		return permissionLink{}, errors.New("permission: is empty: give it a name")
	}
	l := permissionLink{w: &store.Written{
		Outcome:  store.OutcomeMissing,
		Tenant:   tenant,
		Action:   action,
		Resource: store.PermissionResource(role, permission),
	}}
	found, err := tx.role(tenant, role)
	if err != nil || found == nil {
		return l, err
	}
	l.w.Outcome = store.OutcomeUnchanged
	l.row.role = found.id
	if !isText(permission) {
		return l, nil
	}
	if l.keys, err = tx.keys(tenant); err != nil {
		return l, err
	}
	err = tx.scan(sqlPermission, []any{int64(tenant), int64(found.id), permission, permissionIndexes(l.keys, found.id, permission)},
		&l.present, &l.row.id, &l.row.keyID, &l.row.name)
	return l, err
}

// insertPermission adds the row that permissionLink made room for.
func (tx *writeTx) insertPermission(tenant store.TenantID, l *permissionLink, permission string) error {
	key := l.keys.Current
	sealed, err := key.Seal(l.row.place(tenant), permission)
	if err != nil {
		return err
	}
	var index []byte
	if key != nil {
		blind := key.PermissionIndex(int64(l.row.role), permission)
		index = blind[:]
	}
	_, err = tx.exec(sqlInsertPermission, l.row.id, int64(tenant), int64(l.row.role), sealed, index, key.KeyID())
	return err
}

// PermissionList implements store.Store.
func (s *Store) PermissionList(ctx context.Context, tenant store.TenantID, role string) ([]string, error) {
	if !isText(role) {
		return nil, nil
	}
	var list []string
	err := s.try(ctx, "list permissions", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			list = nil
			rows, err := s.pool.Query(ctx, sqlPermissionList, int64(tenant), role)
			return each(rows, err, func(scan func(...any) error) error {
				var p pairScan
				var row permissionRow
				if err := scan(&p.current, &p.former, &row.id, &row.keyID, &row.role, &row.name); err != nil {
					return err
				}
				if err := p.under(keys); err != nil {
					return err
				}
				name, err := s.openPermission(keys, tenant, &row)
				list = append(list, name)
				return err
			})
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
	if !isText(role) || !isText(permission) {
		return false, nil
	}
	var has bool
	err := s.try(ctx, "look up permission", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			has = false
			var match permissionMatch
			rows, err := s.pool.Query(ctx, sqlHasPermission, int64(tenant), role, permission)
			return each(rows, err, func(scan func(...any) error) error {
				var p pairScan
				var row permissionRow
				var index []byte
				if err := scan(&p.current, &p.former, &row.id, &row.keyID, &row.role, &row.name, &index); err != nil {
					return err
				}
				if err := p.under(keys); err != nil {
					return err
				}
				if row.id == 0 || index != nil && !match.is(keys, row.role, permission, index) {
					return nil
				}
				has = true
				return s.mustName(keys, tenant, &row, permission)
			})
		})
	})
	return has && err == nil, err
}

// permissionMatch compares the rows of one role with a permission by its indexes.
type permissionMatch struct{ indexes [][]byte }

func (m *permissionMatch) is(keys sealing.Keys, role policy.RoleID, permission string, index []byte) bool {
	if m.indexes == nil {
		m.indexes = permissionIndexes(keys, role, permission)
	}
	return slices.ContainsFunc(m.indexes, func(live []byte) bool { return bytes.Equal(live, index) })
}
