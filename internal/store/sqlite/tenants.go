package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"portcullis/internal/store"
)

const (
	tenantRows = `SELECT t.id, t.name, t.admitted, t.strict_users, t.created_at, coalesce(k.key_id, 0)
		FROM tenants AS t LEFT JOIN tenant_keys AS k ON k.tenant_id = t.id`

	sqlTenants = tenantRows + ` ORDER BY t.name`

	sqlTenantByName = tenantRows + ` WHERE t.name = ?`

	sqlTenantByID = tenantRows + ` WHERE t.id = ?`

	sqlInsertTenant = `INSERT INTO tenants (name, admitted, strict_users, created_at) VALUES (?, ?, ?, ?) RETURNING id`

	sqlAdmitTenant = `UPDATE tenants SET admitted = 1 WHERE id = ?`

	sqlRenameTenant = `UPDATE tenants SET name = ? WHERE id = ?`

	sqlSetStrictUsers = `UPDATE tenants SET strict_users = ? WHERE id = ?`
)

// CreateTenant implements store.Store.
func (s *Store) CreateTenant(ctx context.Context, by store.Actor, tenant store.NewTenant) (store.Tenant, store.Result, error) {
	var made store.Tenant
	result, err := s.write(ctx, "create tenant", by, func(tx *writeTx) (*store.Written, error) {
		if tenant.Name == "" {
			return nil, errors.New("name: is empty: give the tenant a name")
		}
		switch _, err := tenantByName(tx.ctx, tx.conn, tenant.Name); {
		case err == nil:
			return nil, fmt.Errorf("tenant %q: %w", tenant.Name, store.ErrExists)
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
		made = store.Tenant{Name: tenant.Name, Admitted: tenant.Admitted, StrictUsers: tenant.StrictUsers, Created: store.FromNanos(tx.now.UnixNano())}
		if err := tx.scan(tx.ctx, sqlInsertTenant, args{made.Name, made.Admitted, made.StrictUsers, tx.now.UnixNano()}, &made.ID); err != nil {
			return nil, err
		}
		if err := tx.sealTenant(&made); err != nil {
			return nil, err
		}
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

// AdmitTenant implements store.Store.
func (s *Store) AdmitTenant(ctx context.Context, by store.Actor, tenant store.TenantID) (store.Result, error) {
	return s.write(ctx, "admit tenant", by, func(tx *writeTx) (*store.Written, error) {
		t, err := tenantByID(tx.ctx, tx.conn, tenant)
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
		if _, err := tx.exec(tx.ctx, sqlAdmitTenant, int64(tenant)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Tenant(tenant)
		return w, nil
	})
}

// SetStrictUsers implements store.Store.
func (s *Store) SetStrictUsers(ctx context.Context, by store.Actor, tenant store.TenantID, strict bool) (store.Result, error) {
	return s.write(ctx, "set strict users", by, func(tx *writeTx) (*store.Written, error) {
		t, err := tenantByID(tx.ctx, tx.conn, tenant)
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
		if _, err := tx.exec(tx.ctx, sqlSetStrictUsers, strict, int64(tenant)); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.Changes.Tenant(tenant)
		return w, nil
	})
}

// RenameTenant implements store.Store.
func (s *Store) RenameTenant(ctx context.Context, by store.Actor, tenant store.TenantID, name string) (store.Result, error) {
	return s.write(ctx, "rename tenant", by, func(tx *writeTx) (*store.Written, error) {
		t, err := tenantByID(tx.ctx, tx.conn, tenant)
		if err != nil {
			return nil, err
		}
		_, err = tenantByName(tx.ctx, tx.conn, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		w, err := store.TenantRenamed(t, name, err == nil)
		if err == nil && w.Outcome == store.OutcomeDone {
			_, err = tx.exec(tx.ctx, sqlRenameTenant, name, int64(tenant))
		}
		return w, err
	})
}

// TenantByName implements store.Store.
func (s *Store) TenantByName(ctx context.Context, name string) (store.Tenant, error) {
	var t store.Tenant
	err := s.borrowing(ctx, "find tenant", func(ctx context.Context, c *conn) (err error) {
		t, err = tenantByName(ctx, c, name)
		return err
	})
	return t, err
}

// Tenants implements store.Store.
func (s *Store) Tenants(ctx context.Context) ([]store.Tenant, error) {
	var list []store.Tenant
	err := s.borrowing(ctx, "list tenants", func(ctx context.Context, c *conn) (err error) {
		list, err = tenantList(ctx, c)
		return err
	})
	return list, err
}

func tenantList(ctx context.Context, c *conn) ([]store.Tenant, error) {
	var list []store.Tenant
	err := c.each(ctx, sqlTenants, nil, func(rows *sql.Rows) error {
		t, err := scanTenant(rows.Scan)
		list = append(list, t)
		return err
	})
	return list, err
}

func tenantByName(ctx context.Context, c *conn, name string) (store.Tenant, error) {
	t, err := scanTenant(func(dest ...any) error { return c.scan(ctx, sqlTenantByName, args{name}, dest...) })
	if absent(err) {
		return t, fmt.Errorf("tenant %q: %w", name, store.ErrNotFound)
	}
	return t, err
}

func tenantByID(ctx context.Context, c *conn, id store.TenantID) (store.Tenant, error) {
	t, err := scanTenant(func(dest ...any) error { return c.scan(ctx, sqlTenantByID, args{int64(id)}, dest...) })
	if absent(err) {
		return t, fmt.Errorf("tenant %d: %w", id, store.ErrNotFound)
	}
	return t, err
}

func scanTenant(scan func(dest ...any) error) (store.Tenant, error) {
	var t store.Tenant
	var created int64
	err := scan(&t.ID, &t.Name, &t.Admitted, &t.StrictUsers, &created, &t.Key)
	t.Created = store.FromNanos(created)
	return t, err
}
