package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
	"portcullis/policy"
)

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// fixed scans a bytea into the bytes behind it: fixed(tag[:]). NULL is zeros; any
// other length than theirs is an error.
type fixed []byte

// ScanBytes implements pgtype.BytesScanner.
func (f fixed) ScanBytes(v []byte) error {
	if v == nil {
		clear(f)
		return nil
	}
	if len(v) != len(f) {
		return fmt.Errorf("%d bytes where %d belong", len(v), len(f))
	}
	copy(f, v)
	return nil
}

// orZero is what p points to, or the zero value for NULL.
func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// orNull is NULL for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// each calls row for every row of the result; an error from row ends it and
// comes back. scan reads the row's columns.
func each(rows pgx.Rows, err error, row func(scan func(dest ...any) error) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

const (
	tenantColumns = `t.id, t.name, t.admitted, t.strict_users, t.created_at, coalesce(e.key_id, 0)`

	// A tenant without keys is in clear.
	tenantsAndKeys = `portcullis.tenants t LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = t.id`
)

func scanTenant(scan func(dest ...any) error) (store.Tenant, error) {
	var t store.Tenant
	var created int64
	err := scan(&t.ID, &t.Name, &t.Admitted, &t.StrictUsers, &created, &t.Key)
	t.Created = store.FromNanos(created)
	return t, err
}

const keyColumns = `k.id, k.tenant_id, k.name, k.digest, k.prefix, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.last_used_at, k.rotate_at`

// keyScan is the destination of keyColumns. All may be NULL, in an outer join.
type keyScan struct {
	key                                         store.ClientKey
	id, tenant                                  *int64
	name, prefix, scopes                        *string
	created, expires, revoked, lastUsed, rotate *int64
}

func (k *keyScan) dest() []any {
	return []any{&k.id, &k.tenant, &k.name, fixed(k.key.Digest[:]), &k.prefix, &k.scopes, &k.created, &k.expires, &k.revoked, &k.lastUsed, &k.rotate}
}

// found returns the key, or nil where every column is NULL.
func (k *keyScan) found() *store.ClientKey {
	if k.id == nil {
		return nil
	}
	k.key.ID = *k.id
	k.key.Tenant = store.TenantID(orZero(k.tenant))
	k.key.Name, k.key.Prefix = orZero(k.name), orZero(k.prefix)
	k.key.Scopes = store.SplitScopes(orZero(k.scopes))
	k.key.Created = store.FromNanos(orZero(k.created))
	k.key.Expires = store.FromNanos(orZero(k.expires))
	k.key.Revoked = store.FromNanos(orZero(k.revoked))
	k.key.LastUsed = store.FromNanos(orZero(k.lastUsed))
	k.key.RotateAt = store.FromNanos(orZero(k.rotate))
	return &k.key
}

// roleIDs turns what the driver scans into what the policy knows.
func roleIDs(ids []int64) []policy.RoleID {
	if len(ids) == 0 {
		return nil
	}
	out := make([]policy.RoleID, len(ids))
	for i, id := range ids {
		out[i] = policy.RoleID(id)
	}
	return out
}
