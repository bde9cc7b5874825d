package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlRole = `SELECT id, key_id, description FROM roles WHERE tenant_id = ? AND name = ?`

	sqlInsertRole = `INSERT INTO roles (id, tenant_id, name, description, created_at, key_id) VALUES (?, ?, ?, ?, ?, ?)`

	sqlDescribeRole = `UPDATE roles SET description = ?, key_id = ? WHERE id = ?`

	// Its parents, permissions and memberships go by the foreign keys.
	sqlDeleteRole = `DELETE FROM roles WHERE id = ?`

	sqlRoleNames = `SELECT id, name, key_id, description FROM roles WHERE tenant_id = ? ORDER BY name`

	sqlRoleIDs = `SELECT id, name FROM roles WHERE tenant_id = ? ORDER BY id`

	sqlRoleLinks = `SELECT role_id, parent_id FROM role_parents WHERE tenant_id = ? ORDER BY role_id, parent_id`

	sqlRolePermissions = `SELECT role_id, id, key_id, name FROM permissions WHERE tenant_id = ? ORDER BY role_id`
)

// roleRow is a role as a write finds it.
type roleRow struct {
	id     policy.RoleID
	key    int64
	sealed string // the description
}

// describe opens the description of a role. In its place stands store.Unreadable
// where it does not open: that keeps no role from being described anew or deleted.
func (tx *writeTx) describe(tenant store.TenantID, r *roleRow) (string, error) {
	keys, err := tx.keys(tenant)
	if err != nil {
		return "", err
	}
	text, err := tx.store.open(tx.ctx, keys, r.key, sealing.RoleDescription(int64(r.id), int64(tenant)), r.sealed)
	if errors.Is(err, store.ErrUnreadable) {
		return store.Unreadable, nil
	}
	return text, err
}

// putDescription writes the description of a role: of a new one where its id is 0.
func (tx *writeTx) putDescription(tenant store.TenantID, id policy.RoleID, role, text string) error {
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	key := keys.Current
	row := sql.NullInt64{Int64: int64(id), Valid: id != 0}
	if id == 0 {
		if row, err = newID(tx.ctx, tx.conn, key, sqlNextRole); err != nil {
			return err
		}
	}
	sealed, err := key.Seal(sealing.RoleDescription(row.Int64, int64(tenant)), text)
	switch {
	case err != nil:
	case id == 0:
		_, err = tx.exec(tx.ctx, sqlInsertRole, row, int64(tenant), role, sealed, tx.now.UnixNano(), key.KeyID())
	default:
		_, err = tx.exec(tx.ctx, sqlDescribeRole, sealed, key.KeyID(), row)
	}
	return err
}

// role finds a role by name; nil where it is absent. The tenant must exist, or
// the error is store.ErrNotFound.
func (tx *writeTx) role(tenant store.TenantID, name string) (*roleRow, error) {
	var r roleRow
	err := tx.scan(tx.ctx, sqlRole, args{int64(tenant), name}, &r.id, &r.key, &r.sealed)
	switch {
	case absent(err):
		_, err := tenantByID(tx.ctx, tx.conn, tenant)
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
		w := &store.Written{
			Outcome:  store.OutcomeDone,
			Tenant:   tenant,
			Action:   store.ActionCreateRole,
			Resource: store.RoleResource(role),
		}
		found, err := tx.role(tenant, role)
		if err != nil {
			return nil, err
		}
		var text, before string
		var id policy.RoleID
		if found != nil {
			id = found.id
			if before, err = tx.describe(tenant, found); err != nil {
				return nil, err
			}
			text = before
			w.Before = store.RoleState{Description: before}
		}
		if description != nil {
			text = *description
		}
		if found != nil && text == before {
			w.Outcome = store.OutcomeUnchanged
		} else if err := tx.putDescription(tenant, id, role, text); err != nil {
			return nil, err
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
		if _, err := tx.exec(tx.ctx, sqlDeleteRole, int64(found.id)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Roles(tenant)
		return w, nil
	})
}

// roleState is everything that a role's deletion takes away.
func (tx *writeTx) roleState(tenant store.TenantID, r *roleRow) (store.RoleState, error) {
	var state store.RoleState
	var err error
	if state.Description, err = tx.describe(tenant, r); err != nil {
		return state, err
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return state, err
	}
	var errs []error
	errs = append(errs, tx.each(tx.ctx, sqlPermissionsOf, args{int64(tenant), int64(r.id)}, func(rows *sql.Rows) error {
		var p permissionRow
		if err := rows.Scan(&p.id, &p.key, &p.sealed); err != nil {
			return err
		}
		name, err := tx.store.openPermission(tx.ctx, keys, tenant, r.id, p)
		if errors.Is(err, store.ErrUnreadable) {
			name, err = store.Unreadable, nil
		}
		state.Permissions = append(state.Permissions, name)
		return err
	}))
	slices.Sort(state.Permissions)
	errs = append(errs, tx.names(sqlParentsOf, args{int64(tenant), int64(r.id)}, &state.Parents))
	errs = append(errs, tx.names(sqlChildrenOf, args{int64(tenant), int64(r.id)}, &state.Children))
	errs = append(errs, tx.scan(tx.ctx, sqlCountMembers, args{int64(tenant), int64(r.id)}, &state.Members))
	return state, errors.Join(errs...)
}

// names appends what a query of one column of text returns.
func (tx *writeTx) names(query string, in args, into *[]string) error {
	return tx.each(tx.ctx, query, in, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		*into = append(*into, name)
		return err
	})
}

// Roles implements store.Reader.
func (s *Store) Roles(ctx context.Context, tenant store.TenantID) (store.TenantRoles, error) {
	var table store.TenantRoles
	err := s.reading(ctx, "load roles", func(ctx context.Context, c *conn) error {
		table = store.TenantRoles{Tenant: tenant}
		var err error
		if table.Revision, err = scanRevision(ctx, c, sqlRevision); err != nil {
			return err
		}
		table.Roles, err = s.roleSpecs(ctx, c, tenant)
		return err
	})
	if err != nil {
		return store.TenantRoles{}, err
	}
	return table, nil
}

// roleSpecs reads a tenant's role table, by id. It must run inside a snapshot. A
// permission that does not open is left out, and so are all where the tenant's key
// does not: what needs it is denied, and no other tenant waits for it.
func (s *Store) roleSpecs(ctx context.Context, c *conn, tenant store.TenantID) ([]policy.RoleSpec, error) {
	var specs []policy.RoleSpec
	at := make(map[policy.RoleID]int)
	err := c.each(ctx, sqlRoleIDs, args{int64(tenant)}, func(rows *sql.Rows) error {
		var spec policy.RoleSpec
		err := rows.Scan(&spec.ID, &spec.Name)
		at[spec.ID] = len(specs)
		specs = append(specs, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = c.each(ctx, sqlRoleLinks, args{int64(tenant)}, func(rows *sql.Rows) error {
		var role, parent policy.RoleID
		if err := rows.Scan(&role, &parent); err != nil {
			return err
		}
		i, ok := at[role]
		if !ok {
			return orphaned("parents", role)
		}
		specs[i].Parents = append(specs[i].Parents, parent)
		return nil
	})
	if err != nil {
		return nil, err
	}
	keys, err := s.readKeys(ctx, c, tenant)
	if errors.Is(err, store.ErrUnreadable) {
		return specs, nil
	}
	if err != nil {
		return nil, err
	}
	err = c.each(ctx, sqlRolePermissions, args{int64(tenant)}, func(rows *sql.Rows) error {
		var role policy.RoleID
		var p permissionRow
		if err := rows.Scan(&role, &p.id, &p.key, &p.sealed); err != nil {
			return err
		}
		i, ok := at[role]
		if !ok {
			return orphaned("permissions", role)
		}
		name, err := s.openPermission(ctx, keys, tenant, role, p)
		if errors.Is(err, store.ErrUnreadable) {
			return nil
		}
		specs[i].Permissions = append(specs[i].Permissions, name)
		return err
	})
	for i := range specs {
		slices.Sort(specs[i].Permissions)
	}
	return specs, err
}

// orphaned is an error for what the foreign keys rule out. Such a file was
// changed by other hands, and nothing that it says of roles is believed.
func orphaned(what string, role policy.RoleID) error {
	return fmt.Errorf("role %d has %s and no row of its own: the file was changed by other hands: restore a backup", role, what)
}

// RoleList implements store.Store.
func (s *Store) RoleList(ctx context.Context, tenant store.TenantID) ([]store.Role, error) {
	var list []store.Role
	err := s.reading(ctx, "list roles", func(ctx context.Context, c *conn) error {
		list = nil
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		at := make(map[policy.RoleID]int)
		err = c.each(ctx, sqlRoleNames, args{int64(tenant)}, func(rows *sql.Rows) error {
			var r store.Role
			var under int64
			var sealed string
			if err := rows.Scan(&r.ID, &r.Name, &under, &sealed); err != nil {
				return err
			}
			var err error
			r.Description, err = s.open(ctx, keys, under, sealing.RoleDescription(int64(r.ID), int64(tenant)), sealed)
			at[r.ID] = len(list)
			list = append(list, r)
			return err
		})
		if err != nil {
			return err
		}
		return c.each(ctx, sqlParentNames, args{int64(tenant)}, func(rows *sql.Rows) error {
			var role policy.RoleID
			var parent string
			if err := rows.Scan(&role, &parent); err != nil {
				return err
			}
			i, ok := at[role]
			if !ok {
				return orphaned("parents", role)
			}
			list[i].Parents = append(list[i].Parents, parent)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
