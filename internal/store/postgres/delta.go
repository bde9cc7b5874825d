package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
)

const (
	// $1 and $2 are the revision that the reader is at. It is known if it is the
	// head or in the log; ack is whether a writer of any later revision waits.
	sqlDeltaHead = `
SELECT r.number, r.tag,
       (r.number = $1 AND r.tag = $2) OR EXISTS (SELECT FROM portcullis.revision_log l WHERE l.revision = $1 AND l.tag = $2),
       EXISTS (SELECT FROM portcullis.revision_log l WHERE l.revision > $1 AND l.ack)
FROM portcullis.revision r`

	sqlDeltaChanges = `
SELECT revision, kind, tenant_id, principal_index, digest, gone, issued_before, expires_at
FROM portcullis.change_log WHERE revision > $1 ORDER BY revision, n LIMIT $2`

	sqlDeltaPassed = `
SELECT revision, tag FROM portcullis.revision_log WHERE revision > $1 ORDER BY revision DESC LIMIT $2`

	sqlDeltaTenants = `
SELECT ` + tenantColumns + ` FROM ` + tenantsAndKeys + `
WHERE t.id IN (SELECT c.tenant_id FROM portcullis.change_log c WHERE c.revision > $1) ORDER BY t.id`

	// The held tenants whose role table changed, each with its roles as they are.
	sqlDeltaRoles = `
WITH changed AS MATERIALIZED (
    SELECT DISTINCT c.tenant_id FROM portcullis.change_log c
    WHERE c.revision > $1 AND c.kind = $2 AND c.tenant_id = ANY ($3)
)
SELECT c.tenant_id, e.key_id, e.former_key_id, o.id, o.name, p.rows, p.keys, p.names, i.ids
FROM changed c
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = c.tenant_id
LEFT JOIN portcullis.roles o ON o.tenant_id = c.tenant_id
LEFT JOIN (SELECT role_id, ` + permissionArrays + ` FROM portcullis.permissions
           WHERE tenant_id IN (SELECT tenant_id FROM changed) GROUP BY role_id) p ON p.role_id = o.id
LEFT JOIN (SELECT role_id, array_agg(parent_id ORDER BY parent_id) AS ids FROM portcullis.role_parents
           WHERE tenant_id IN (SELECT tenant_id FROM changed) GROUP BY role_id) i ON i.role_id = o.id
ORDER BY c.tenant_id, o.id`

	sqlDeltaSigning = `
SELECT ` + signingColumns + ` FROM portcullis.signing_keys
WHERE EXISTS (SELECT FROM portcullis.change_log c WHERE c.revision > $1 AND c.kind = $2) ORDER BY created_at, kid`
)

// Delta implements store.Reader. Every query works out for itself which rows it
// needs, so that all of it takes one round trip: it lies between a revocation
// and its effect.
func (s *Store) Delta(ctx context.Context, after store.Revision, held []store.TenantID) (store.Delta, error) {
	heldIDs := make([]int64, len(held))
	for i, id := range held {
		heldIDs[i] = int64(id)
	}
	var d store.Delta
	var known bool
	err := s.try(ctx, "load what changed", func(ctx context.Context) error {
		return startOver(func() error {
			d, known = store.Delta{}, false
			var tables []tenantTable
			if err := s.snapshot(ctx, func(b *pgx.Batch) {
				b.Queue(sqlDeltaHead, after.Number, after.Tag[:])
				b.Queue(sqlDeltaChanges, after.Number, store.MaxDeltaChanges+1)
				b.Queue(sqlDeltaPassed, after.Number, store.MaxDeltaPassed)
				b.Queue(sqlDeltaTenants, after.Number)
				b.Queue(sqlDeltaRoles, after.Number, int16(store.ChangeRoles), heldIDs)
				b.Queue(sqlDeltaSigning, after.Number, int16(store.ChangeSigning))
			}, func(r pgx.BatchResults) error {
				var err error
				if err := r.QueryRow().Scan(&d.Head.Number, fixed(d.Head.Tag[:]), &known, &d.Ack); err != nil {
					return err
				}
				tables, err = scanDelta(r, &d)
				return err
			}); err != nil {
				return err
			}
			for i := range tables {
				roles, err := s.openRoles(ctx, tables[i].tenant, tables[i].roles)
				if err != nil {
					return err
				}
				d.Roles = append(d.Roles, store.TenantRoles{Tenant: tables[i].tenant, Revision: d.Head, Roles: roles})
			}
			return nil
		})
	})
	switch {
	case err != nil:
		return store.Delta{}, err
	case !known:
		return store.Delta{}, fmt.Errorf("load what changed since revision %d (tag %s), the head being %d: %w",
			after.Number, after.Tag, d.Head.Number, store.ErrRevisionUnknown)
	case len(d.Changes) > store.MaxDeltaChanges:
		return store.Delta{}, fmt.Errorf("load what changed since revision %d: more than %d changes lie between: %w",
			after.Number, store.MaxDeltaChanges, store.ErrRevisionUnknown)
	}
	return d, nil
}

// tenantTable is what was read of one tenant's role table.
type tenantTable struct {
	tenant store.TenantID
	roles  []roleScan
}

func scanDelta(r pgx.BatchResults, d *store.Delta) (tables []tenantTable, err error) {
	rows, err := r.Query()
	if err := each(rows, err, func(scan func(...any) error) error {
		var c store.Change
		err := scan(&c.Revision, &c.Kind, &c.Tenant, fixed(c.Index[:]), fixed(c.Digest[:]), &c.Gone, &c.Before, &c.Expires)
		d.Changes = append(d.Changes, c)
		return err
	}); err != nil {
		return nil, err
	}
	rows, err = r.Query()
	if err := each(rows, err, func(scan func(...any) error) error {
		var passed store.Revision
		err := scan(&passed.Number, fixed(passed.Tag[:]))
		d.Passed = append(d.Passed, passed)
		return err
	}); err != nil {
		return nil, err
	}
	slices.Reverse(d.Passed)
	rows, err = r.Query()
	if err := each(rows, err, func(scan func(...any) error) error {
		t, err := scanTenant(scan)
		d.Tenants = append(d.Tenants, t)
		return err
	}); err != nil {
		return nil, err
	}
	rows, err = r.Query()
	if err := each(rows, err, func(scan func(...any) error) error {
		var tenant store.TenantID
		var row roleScan
		if err := scan(append([]any{&tenant}, row.dest()...)...); err != nil {
			return err
		}
		if n := len(tables); n == 0 || tables[n-1].tenant != tenant {
			tables = append(tables, tenantTable{tenant: tenant})
		}
		last := &tables[len(tables)-1]
		last.roles = append(last.roles, row)
		return nil
	}); err != nil {
		return nil, err
	}
	d.Signing, err = scanSigningKeys(r.Query())
	return tables, err
}
