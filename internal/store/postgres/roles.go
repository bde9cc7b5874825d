package postgres

import (
	"context"
	"errors"
	"slices"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlRole = `SELECT id, description, key_id FROM portcullis.roles WHERE tenant_id = $1 AND name = $2`

	sqlRoleID = `SELECT nextval('portcullis.role_ids')`

	sqlInsertRole = `INSERT INTO portcullis.roles (id, tenant_id, name, description, created_at, key_id) VALUES ($1, $2, $3, $4, $5, $6)`

	sqlDescribeRole = `UPDATE portcullis.roles SET description = $1, key_id = $2 WHERE id = $3`

	// Its parents, permissions and memberships go by the foreign keys.
	sqlDeleteRole = `DELETE FROM portcullis.roles WHERE id = $1`

	sqlCountMembers = `SELECT count(*) FROM portcullis.memberships WHERE tenant_id = $1 AND role_id = $2`

	sqlRoleList = `
SELECT e.key_id, e.former_key_id, o.id, o.name, o.description, o.key_id,
       ARRAY (SELECT p.name FROM portcullis.role_parents l JOIN portcullis.roles p ON p.id = l.parent_id
              WHERE l.tenant_id = o.tenant_id AND l.role_id = o.id ORDER BY p.name)
FROM portcullis.roles o LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = o.tenant_id
WHERE o.tenant_id = $1 ORDER BY o.name`
)

// roleRow is a role as a write finds it.
type roleRow struct {
	id          policy.RoleID
	description string // sealed under keyID
	keyID       int64
}

func (r *roleRow) place(tenant store.TenantID) sealing.Place {
	return sealing.RoleDescription(int64(r.id), int64(tenant))
}

// role finds a role by name; nil where it is absent. The tenant must exist, or
// the error is store.ErrNotFound.
func (tx *writeTx) role(tenant store.TenantID, name string) (*roleRow, error) {
	if !isText(name) {
		_, err := tx.tenant(tenant)
		return nil, err
	}
	var r roleRow
	err := tx.scan(sqlRole, []any{int64(tenant), name}, &r.id, &r.description, &r.keyID)
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
	return s.write(ctx, "put role", tenant, by, func(tx *writeTx) (*store.Written, error) {
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
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		text, before := orZero(description), ""
		if found != nil {
			before = s.openOrSay(keys, found.keyID, found.description, func() sealing.Place { return found.place(tenant) })
			w.Before = store.RoleState{Description: before}
		}
		switch {
		case found == nil:
			err = tx.insertRole(keys, tenant, role, text)
		case description == nil || text == before:
			text = before
			w.Outcome = store.OutcomeUnchanged
		default:
			err = tx.describeRole(keys, tenant, found, text)
		}
		if err != nil {
			return nil, err
		}
		w.After = store.RoleState{Description: text}
		if w.Outcome == store.OutcomeDone {
			w.Changes.Roles(tenant)
		}
		return w, nil
	})
}

func (tx *writeTx) insertRole(keys sealing.Keys, tenant store.TenantID, name, description string) error {
	r := roleRow{keyID: keys.Current.KeyID()}
	if err := tx.scan(sqlRoleID, nil, &r.id); err != nil {
		return err
	}
	sealed, err := keys.Current.Seal(r.place(tenant), description)
	if err == nil {
		_, err = tx.exec(sqlInsertRole, int64(r.id), int64(tenant), name, sealed, tx.now.UnixNano(), r.keyID)
	}
	return err
}

func (tx *writeTx) describeRole(keys sealing.Keys, tenant store.TenantID, r *roleRow, description string) error {
	sealed, err := keys.Current.Seal(r.place(tenant), description)
	if err == nil {
		_, err = tx.exec(sqlDescribeRole, sealed, keys.Current.KeyID(), int64(r.id))
	}
	return err
}

// DeleteRole implements store.Store.
func (s *Store) DeleteRole(ctx context.Context, by store.Actor, tenant store.TenantID, role string) (store.Result, error) {
	return s.write(ctx, "delete role", tenant, by, func(tx *writeTx) (*store.Written, error) {
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
	keys, err := tx.keys(tenant)
	if err != nil {
		return store.RoleState{}, err
	}
	state := store.RoleState{
		Description: tx.store.openOrSay(keys, r.keyID, r.description, func() sealing.Place { return r.place(tenant) }),
	}
	rows, err := tx.Query(tx.ctx, sqlPermissionsOf, int64(tenant), int64(r.id))
	if err := each(rows, err, func(scan func(...any) error) error {
		var p permissionRow
		err := scan(&p.id, &p.keyID, &p.role, &p.name)
		state.Permissions = append(state.Permissions, tx.store.openOrSay(keys, p.keyID, p.name, func() sealing.Place { return p.place(tenant) }))
		return err
	}); err != nil {
		return state, err
	}
	slices.Sort(state.Permissions)
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
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			list = nil
			rows, err := s.pool.Query(ctx, sqlRoleList, int64(tenant))
			return each(rows, err, func(scan func(...any) error) error {
				var p pairScan
				var r store.Role
				var row roleRow
				if err := scan(&p.current, &p.former, &row.id, &r.Name, &row.description, &row.keyID, &r.Parents); err != nil {
					return err
				}
				if err := p.under(keys); err != nil {
					return err
				}
				var err error
				r.Description, err = s.open(keys, row.keyID, row.description, func() sealing.Place { return row.place(tenant) })
				r.ID = row.id
				if len(r.Parents) == 0 {
					r.Parents = nil
				}
				list = append(list, r)
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
