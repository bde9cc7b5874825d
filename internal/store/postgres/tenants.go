package postgres

import (
	"context"
	"errors"
	"fmt"

	"portcullis/internal/store"
)

const (
	sqlTenantByName = `SELECT ` + tenantColumns + ` FROM ` + tenantsAndKeys + ` WHERE t.name = $1`

	sqlTenantByID = `SELECT ` + tenantColumns + ` FROM ` + tenantsAndKeys + ` WHERE t.id = $1`

	sqlInsertTenant = `INSERT INTO portcullis.tenants (name, admitted, strict_users, created_at) VALUES ($1, $2, $3, $4) RETURNING id`

	sqlAdmitTenant = `UPDATE portcullis.tenants SET admitted = true WHERE id = $1`

	sqlRenameTenant = `UPDATE portcullis.tenants SET name = $1 WHERE id = $2`

	sqlSetStrictUsers = `UPDATE portcullis.tenants SET strict_users = $1 WHERE id = $2`
)

// CreateTenant implements store.Store.
func (s *Store) CreateTenant(ctx context.Context, by store.Actor, tenant store.NewTenant) (store.Tenant, store.Result, error) {
	var made store.Tenant
	result, err := s.write(ctx, "create tenant", 0, by, func(tx *writeTx) (*store.Written, error) {
		if tenant.Name == "" {
			return nil, errors.New("name: is empty: give the tenant a name")
		}
		if err := mustBeText("name", tenant.Name); err != nil {
			return nil, err
		}
		switch _, err := scanTenant(tx.QueryRow(tx.ctx, sqlTenantByName, tenant.Name).Scan); {
		case err == nil:
			return nil, fmt.Errorf("tenant %q: %w", tenant.Name, store.ErrExists)
		case !isNoRows(err):
			return nil, err
		}
		made = store.Tenant{Name: tenant.Name, Admitted: tenant.Admitted, StrictUsers: tenant.StrictUsers, Created: store.FromNanos(tx.now.UnixNano())}
		if err := tx.scan(sqlInsertTenant, []any{made.Name, made.Admitted, made.StrictUsers, tx.now.UnixNano()}, &made.ID); err != nil {
			return nil, err
		}
		key, err := tx.keyForNew(made.ID)
		if err != nil {
			return nil, err
		}
		made.Key = store.KeyID(key.KeyID())
		w := &store.Written{
			Outcome:  store.OutcomeDone,
			Tenant:   made.ID,
			Action:   store.ActionCreateTenant,
			Resource: store.TenantResource(made.Name),
			After:    store.TenantState{Admitted: made.Admitted, StrictUsers: made.StrictUsers},
		}
		w.Changes.Tenant(made.ID)
		return w, nil
	})
	if err != nil {
		return store.Tenant{}, store.Result{}, err
	}
	return made, result, nil
}

// RenameTenant implements store.Store.
func (s *Store) RenameTenant(ctx context.Context, by store.Actor, tenant store.TenantID, name string) (store.Result, error) {
	return s.write(ctx, "rename tenant", tenant, by, func(tx *writeTx) (*store.Written, error) {
		if err := mustBeText("name", name); err != nil {
			return nil, err
		}
		t, err := tx.tenant(tenant)
		if err != nil {
			return nil, err
		}
		_, err = scanTenant(tx.QueryRow(tx.ctx, sqlTenantByName, name).Scan)
		if err != nil && !isNoRows(err) {
			return nil, err
		}
		w, err := store.TenantRenamed(t, name, err == nil)
		if err == nil && w.Outcome == store.OutcomeDone {
			_, err = tx.exec(sqlRenameTenant, name, int64(tenant))
		}
		return w, err
	})
}

// AdmitTenant implements store.Store.
func (s *Store) AdmitTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.write(ctx, "admit tenant", tenant, by, func(tx *writeTx) (*store.Written, error) {
		t, err := tx.tenant(tenant)
		if err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Tenant:   tenant,
			Action:   store.ActionAdmitTenant,
			Resource: store.TenantResource(t.Name),
			Before:   store.TenantState{Admitted: t.Admitted, StrictUsers: t.StrictUsers},
			After:    store.TenantState{Admitted: true, StrictUsers: t.StrictUsers},
		}
		if t.Admitted {
			return w, nil
		}
		if _, err := tx.exec(sqlAdmitTenant, int64(tenant)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Tenant(tenant)
		return w, nil
	})
}

// SetStrictUsers implements store.Store.
func (s *Store) SetStrictUsers(ctx context.Context, by store.Actor, tenant store.TenantID, strict bool) (store.Result, error) {
	return s.write(ctx, "set strict users", tenant, by, func(tx *writeTx) (*store.Written, error) {
		t, err := tx.tenant(tenant)
		if err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Tenant:   tenant,
			Action:   store.ActionUpdateSettings,
			Resource: store.SettingsResource,
			Before:   store.SettingsState{StrictUsers: t.StrictUsers},
			After:    store.SettingsState{StrictUsers: strict},
		}
		if t.StrictUsers == strict {
			return w, nil
		}
		if _, err := tx.exec(sqlSetStrictUsers, strict, int64(tenant)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Tenant(tenant)
		return w, nil
	})
}

// tenant finds a tenant by id, or returns store.ErrNotFound.
func (tx *writeTx) tenant(id store.TenantID) (store.Tenant, error) {
	t, err := scanTenant(tx.QueryRow(tx.ctx, sqlTenantByID, int64(id)).Scan)
	if isNoRows(err) {
		return t, fmt.Errorf("tenant %d: %w", id, store.ErrNotFound)
	}
	return t, err
}

// TenantByName implements store.Store.
func (s *Store) TenantByName(ctx context.Context, name string) (store.Tenant, error) {
	absent := fmt.Errorf("tenant %q: %w", name, store.ErrNotFound)
	if !isText(name) {
		return store.Tenant{}, absent
	}
	var t store.Tenant
	err := s.try(ctx, "find tenant", func(ctx context.Context) (err error) {
		t, err = scanTenant(s.pool.QueryRow(ctx, sqlTenantByName, name).Scan)
		return err
	})
	if isNoRows(err) {
		return store.Tenant{}, absent
	}
	return t, err
}

// Tenants implements store.Store.
func (s *Store) Tenants(ctx context.Context) ([]store.Tenant, error) {
	var list []store.Tenant
	err := s.try(ctx, "list tenants", func(ctx context.Context) error {
		list = nil
		rows, err := s.pool.Query(ctx, sqlAllTenants)
		return each(rows, err, func(scan func(...any) error) error {
			t, err := scanTenant(scan)
			list = append(list, t)
			return err
		})
	})
	return list, err
}
