package postgres

import (
	"context"
	"errors"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlRole = `SELECT id, description FROM portcullis.roles WHERE tenant_id = $1 AND name = $2`

	sqlInsertRole = `INSERT INTO portcullis.roles (tenant_id, name, description, created_at) VALUES ($1, $2, $3, $4)`

	sqlDescribeRole = `UPDATE portcullis.roles SET description = $1 WHERE id = $2`

	// Its parents, permissions and memberships go by the foreign keys.
	sqlDeleteRole = `DELETE FROM portcullis.roles WHERE id = $1`

	sqlCountMembers = `SELECT count(*) FROM portcullis.memberships WHERE tenant_id = $1 AND role_id = $2`

	sqlRoleList = `
SELECT o.id, o.name, o.description,
       ARRAY (SELECT p.name FROM portcullis.role_parents l JOIN portcullis.roles p ON p.id = l.parent_id
              WHERE l.tenant_id = o.tenant_id AND l.role_id = o.id ORDER BY p.name)
FROM portcullis.roles o WHERE o.tenant_id = $1 ORDER BY o.name`
)

// roleRow is a role as a write finds it.
type roleRow struct {
	id          policy.RoleID
	description string
}

// role finds a role by name; nil where it is absent. The tenant must exist, or
// the error is store.ErrNotFound.
func (tx *writeTx) role(tenant store.TenantID, name string) (*roleRow, error) {
	if !isText(name) {
		_, err := tx.tenant(tenant)
		return nil, err
	}
	var r roleRow
	err := tx.scan(sqlRole, []any{int64(tenant), name}, &r.id, &r.description)
	switch {
	case isNoRows(err):
		_, err := tx.tenant(tenant)
		return nil, err
	case err != nil:
		return nil, err
	}
	return &r, nil
}

// PutRole implements store.Store.
func (s *Store) PutRole(ctx context.Context, by store.Actor, tenant store.TenantID, role string, description *string) (store.Result, error) {
	return s.write(ctx, "put role", by, func(tx *writeTx) (*store.Written, error) {
		if role == "" {
			return nil, errors.New("role: is empty: give the role a name")
		}
		if err := mustBeText("role", role); err != nil {
			return nil, err
		}
		if err := mustBeText("description", orZero(description)); err != nil {
			return nil, err
		}
		found, err := tx.role(tenant, role)
		if err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome:  store.OutcomeDone,
			Tenant:   tenant,
			Action:   store.ActionCreateRole,
			Resource: store.RoleResource(role),
		}
		text := orZero(description)
		switch {
		case found == nil:
			_, err = tx.exec(sqlInsertRole, int64(tenant), role, text, tx.now.UnixNano())
		case description == nil || text == found.description:
			text = found.description
			w.Outcome = store.OutcomeUnchanged
		default:
			_, err = tx.exec(sqlDescribeRole, text, int64(found.id))
		}
		if err != nil {
			return nil, err
		}
		if found != nil {
			w.Before = store.RoleState{Description: found.description}
		}
		w.After = store.RoleState{Description: text}
		if w.Outcome == store.OutcomeDone {
			w.Changes.Roles(tenant)
		}
		return w, nil
	})
}

// DeleteRole implements store.Store.
func (s *Store) DeleteRole(ctx context.Context, by store.Actor, tenant store.TenantID, role string) (store.Result, error) {
	return s.write(ctx, "delete role", by, func(tx *writeTx) (*store.Written, error) {
		w := &store.Written{
			Outcome:  store.OutcomeMissing,
			Tenant:   tenant,
			Action:   store.ActionDeleteRole,
			Resource: store.RoleResource(role),
		}
		found, err := tx.role(tenant, role)
		if err != nil || found == nil {
			return w, err
		}
		if w.Before, err = tx.roleState(tenant, found); err != nil {
			return nil, err
		}
		if _, err := tx.exec(sqlDeleteRole, int64(found.id)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Roles(tenant)
		return w, nil
	})
}

// roleState is everything that a role's deletion takes away.
func (tx *writeTx) roleState(tenant store.TenantID, r *roleRow) (store.RoleState, error) {
	state := store.RoleState{Description: r.description}
	var err error
	if state.Permissions, err = tx.names(sqlPermissionsOf, int64(tenant), int64(r.id)); err != nil {
		return state, err
	}
	if state.Parents, err = tx.names(sqlParentsOf, int64(tenant), int64(r.id)); err != nil {
		return state, err
	}
	if state.Children, err = tx.names(sqlChildrenOf, int64(tenant), int64(r.id)); err != nil {
		return state, err
	}
	return state, tx.scan(sqlCountMembers, []any{int64(tenant), int64(r.id)}, &state.Members)
}

// RoleList implements store.Store.
func (s *Store) RoleList(ctx context.Context, tenant store.TenantID) ([]store.Role, error) {
	var list []store.Role
	err := s.try(ctx, "list roles", func(ctx context.Context) error {
		list = nil
		rows, err := s.pool.Query(ctx, sqlRoleList, int64(tenant))
		return each(rows, err, func(scan func(...any) error) error {
			var r store.Role
			err := scan(&r.ID, &r.Name, &r.Description, &r.Parents)
			if len(r.Parents) == 0 {
				r.Parents = nil
			}
			list = append(list, r)
			return err
		})
	})
	return list, err
}
