package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
)

const (
	sqlInsertPermission = `
INSERT INTO portcullis.permissions (tenant_id, role_id, name) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, role_id, name) DO NOTHING`

	sqlDeletePermission = `DELETE FROM portcullis.permissions WHERE tenant_id = $1 AND role_id = $2 AND name = $3`

	sqlPermissionsOf = `SELECT name FROM portcullis.permissions WHERE tenant_id = $1 AND role_id = $2 ORDER BY name`

	sqlPermissionList = `
SELECT p.name FROM portcullis.roles o JOIN portcullis.permissions p ON p.tenant_id = o.tenant_id AND p.role_id = o.id
WHERE o.tenant_id = $1 AND o.name = $2 ORDER BY p.name`

	sqlHasPermission = `
SELECT EXISTS (SELECT FROM portcullis.roles o JOIN portcullis.permissions p ON p.tenant_id = o.tenant_id AND p.role_id = o.id
               WHERE o.tenant_id = $1 AND o.name = $2 AND p.name = $3)`
)

// AddPermission implements store.Store.
func (s *Store) AddPermission(ctx context.Context, by store.Actor, tenant store.TenantID, role, permission string) (store.Result, error) {
	return s.write(ctx, "add permission", by, func(tx *writeTx) (*store.Written, error) {
		if err := mustBeText("permission", permission); err != nil {
			return nil, err
		}
		w, found, err := tx.permissionLink(store.ActionAddPermission, tenant, role, permission)
		if err != nil || found == nil {
			return w, err
		}
		added, err := tx.exec(sqlInsertPermission, int64(tenant), int64(found.id), permission)
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
		if err != nil || found == nil || !isText(permission) {
			return w, err
		}
		removed, err := tx.exec(sqlDeletePermission, int64(tenant), int64(found.id), permission)
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
	if !isText(role) {
		return nil, nil
	}
	var list []string
	err := s.try(ctx, "list permissions", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, sqlPermissionList, int64(tenant), role)
		if err == nil {
			list, err = pgx.AppendRows([]string(nil), rows, pgx.RowTo[string])
		}
		return err
	})
	return list, err
}

// HasPermission implements store.Store.
func (s *Store) HasPermission(ctx context.Context, tenant store.TenantID, role, permission string) (bool, error) {
	if !isText(role) || !isText(permission) {
		return false, nil
	}
	var has bool
	err := s.try(ctx, "look up permission", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, sqlHasPermission, int64(tenant), role, permission).Scan(&has)
	})
	return has, err
}
