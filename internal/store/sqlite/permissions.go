package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"portcullis/internal/store"
)

const (
	sqlInsertPermission = `INSERT INTO permissions (tenant_id, role_id, name) VALUES (?, ?, ?)
		ON CONFLICT (tenant_id, role_id, name) DO NOTHING`

	sqlDeletePermission = `DELETE FROM permissions WHERE tenant_id = ? AND role_id = ? AND name = ?`

	sqlPermissionsOf = `SELECT name FROM permissions WHERE tenant_id = ? AND role_id = ? ORDER BY name`

	sqlPermissionList = `SELECT p.name FROM roles AS r JOIN permissions AS p ON p.tenant_id = r.tenant_id AND p.role_id = r.id
		WHERE r.tenant_id = ? AND r.name = ? ORDER BY p.name`

	sqlHasPermission = `SELECT EXISTS (SELECT 1 FROM roles AS r JOIN permissions AS p ON p.tenant_id = r.tenant_id AND p.role_id = r.id
		WHERE r.tenant_id = ? AND r.name = ? AND p.name = ?)`
)

// AddPermission implements store.Store.
func (s *Store) AddPermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "add permission", by, func(tx *writeTx) (*store.Written, error) {
		w, found, err := tx.permissionLink(store.ActionAddPermission, tenant, role, permission)
		if err != nil || found == nil {
			return w, err
		}
		added, err := tx.exec(tx.ctx, sqlInsertPermission, int64(tenant), int64(found.id), permission)
		if err != nil {
			return nil, err
		}
		w.After = store.LinkState{Present: true}
		if added == 0 {
			w.Before = store.LinkState{Present: true}
			return w, nil
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Roles(tenant)
		return w, nil
	})
}

// RemovePermission implements store.Store.
func (s *Store) RemovePermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "remove permission", by, func(tx *writeTx) (*store.Written, error) {
		w, found, err := tx.permissionLink(store.ActionRemovePermission, tenant, role, permission)
		if err != nil || found == nil {
			return w, err
		}
		removed, err := tx.exec(tx.ctx, sqlDeletePermission, int64(tenant), int64(found.id), permission)
		if err != nil || removed == 0 {
			return w, err
		}
		w.Before = store.LinkState{Present: true}
		w.Outcome = store.OutcomeDone
		w.Changes.Roles(tenant)
		return w, nil
	})
}

func (tx *writeTx) permissionLink(action store.Action, tenant store.TenantID, role, permission string) (*store.Written, *roleRow, error) {
	if permission == "" {
		return nil, nil, errors.New("permission: is empty: give it a name")
	}
	w := &store.Written{
		Outcome:  store.OutcomeMissing,
		Tenant:   tenant,
		Action:   action,
		Resource: store.PermissionResource(role, permission),
	}
	found, err := tx.role(tenant, role)
	if found != nil {
		w.Outcome = store.OutcomeUnchanged
	}
	return w, found, err
}

// PermissionList implements store.Store.
func (s *Store) PermissionList(ctx context.Context, tenant store.TenantID, role string) ([]string, error) {
	var list []string
	err := s.borrowing(ctx, "list permissions", func(ctx context.Context, c *conn) error {
		list = nil
		return c.each(ctx, sqlPermissionList, args{int64(tenant), role}, func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			list = append(list, name)
			return err
		})
	})
	return list, err
}

// HasPermission implements store.Store.
func (s *Store) HasPermission(ctx context.Context, tenant store.TenantID, role, permission string) (bool, error) {
	var has bool
	err := s.borrowing(ctx, "look up permission", func(ctx context.Context, c *conn) error {
		return c.scan(ctx, sqlHasPermission, args{int64(tenant), role, permission}, &has)
	})
	return has, err
}
