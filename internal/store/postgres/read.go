package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Every statement here that reads rows for a cache reads the revision with them.
// A statement has one snapshot, so a single one needs no transaction; the outer
// join makes the revision come back where there are no rows.
const (
	sqlRevision = `SELECT number, tag FROM portcullis.revision`

	sqlHead = `
SELECT r.number, r.tag, (SELECT coalesce(max(v.version_id), 0) FROM ` + versionTable + ` v WHERE v.is_applied)
FROM portcullis.revision r`

	sqlGrant = `
SELECT r.number, r.tag, (` + sqlKeyBacked + `), m.role_id, m.expires_at
FROM portcullis.revision r
LEFT JOIN portcullis.memberships m ON m.tenant_id = $1 AND m.principal_index = $2
ORDER BY m.role_id`

	sqlKey = `
SELECT r.number, r.tag, ` + keyColumns + `
FROM portcullis.revision r
LEFT JOIN portcullis.client_keys k ON k.digest = $1`

	sqlRoles = `
SELECT r.number, r.tag, o.id, o.name, p.names, i.ids
FROM portcullis.revision r
LEFT JOIN portcullis.roles o ON o.tenant_id = $1
LEFT JOIN (SELECT role_id, array_agg(name ORDER BY name) AS names FROM portcullis.permissions WHERE tenant_id = $1 GROUP BY role_id) p ON p.role_id = o.id
LEFT JOIN (SELECT role_id, array_agg(parent_id ORDER BY parent_id) AS ids FROM portcullis.role_parents WHERE tenant_id = $1 GROUP BY role_id) i ON i.role_id = o.id
ORDER BY o.id`

	sqlAllTenants = `SELECT ` + tenantColumns + ` FROM portcullis.tenants t ORDER BY t.name`

	// $1 is a moment before the snapshot: what a write has let expire since is left
	// to the reader to drop.
	sqlLiveDigests = `
SELECT digest, coalesce(expires_at, 0) FROM portcullis.client_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)
UNION ALL
SELECT digest, coalesce(expires_at, 0) FROM portcullis.user_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)`

	sqlBeginRead = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	sqlCommit    = `COMMIT`
)

// Head implements store.Reader.
func (s *Store) Head(ctx context.Context) (store.Head, error) {
	var h store.Head
	err := s.try(ctx, "read the revision", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, sqlHead).Scan(&h.Revision.Number, fixed(h.Revision.Tag[:]), &h.Schema)
	})
	if err != nil {
		return store.Head{}, err
	}
	return h, nil
}

// Grant implements store.Reader: one statement, one round trip.
func (s *Store) Grant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	index := store.PlainIndex(tenant, kind, id)
	var out store.GrantRow
	err := s.try(ctx, "load a grant", func(ctx context.Context) error {
		out = store.GrantRow{}
		rows, err := s.pool.Query(ctx, sqlGrant, int64(tenant), index[:])
		return each(rows, err, func(scan func(...any) error) error {
			var role, expires *int64
			if err := scan(&out.Revision.Number, fixed(out.Revision.Tag[:]), &out.KeyBackedUntil, &role, &expires); err != nil {
				return err
			}
			if role != nil {
				out.Grant = append(out.Grant, policy.Membership{Role: policy.RoleID(*role), Expires: orZero(expires)})
			}
			return nil
		})
	})
	if err == nil {
		err = mustHaveRevision(out.Revision)
	}
	if err != nil {
		return store.GrantRow{}, err
	}
	return out, nil
}

// Key implements store.Reader: one statement, one round trip.
func (s *Store) Key(ctx context.Context, digest store.Digest) (store.KeyRow, error) {
	var out store.KeyRow
	err := s.try(ctx, "load a client key", func(ctx context.Context) error {
		var k keyScan
		dest := append([]any{&out.Revision.Number, fixed(out.Revision.Tag[:])}, k.dest()...)
		err := s.pool.QueryRow(ctx, sqlKey, digest[:]).Scan(dest...)
		out.Key = k.found()
		return err
	})
	if err != nil {
		return store.KeyRow{}, err
	}
	return out, nil
}

// Roles implements store.Reader.
func (s *Store) Roles(ctx context.Context, tenant store.TenantID) (store.TenantRoles, error) {
	out := store.TenantRoles{Tenant: tenant}
	err := s.try(ctx, "load the roles of a tenant", func(ctx context.Context) error {
		out = store.TenantRoles{Tenant: tenant}
		rows, err := s.pool.Query(ctx, sqlRoles, int64(tenant))
		return each(rows, err, func(scan func(...any) error) error { return scanRole(scan, &out) })
	})
	if err == nil {
		err = mustHaveRevision(out.Revision)
	}
	if err != nil {
		return store.TenantRoles{}, err
	}
	return out, nil
}

// scanRole reads one row of sqlRoles.
func scanRole(scan func(...any) error, out *store.TenantRoles) error {
	var id *int64
	var name *string
	var permissions []string
	var parents []int64
	if err := scan(&out.Revision.Number, fixed(out.Revision.Tag[:]), &id, &name, &permissions, &parents); err != nil {
		return err
	}
	if id != nil {
		out.Roles = append(out.Roles, policy.RoleSpec{
			ID: policy.RoleID(*id), Name: orZero(name), Parents: roleIDs(parents), Permissions: permissions,
		})
	}
	return nil
}

// mustHaveRevision guards against a revision row that somebody deleted: rows
// without a revision must not pass for rows of revision 0.
func mustHaveRevision(r store.Revision) error {
	if r.Number == 0 {
		return errors.New("the revision row is missing: restore the database from a backup")
	}
	return nil
}

// snapshot runs queries in one REPEATABLE READ, READ ONLY transaction, all in one
// round trip: queue adds them, and read takes their results in the same order.
func (s *Store) snapshot(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	b := &pgx.Batch{}
	b.Queue(sqlBeginRead)
	queue(b)
	b.Queue(sqlCommit)
	results := s.pool.SendBatch(ctx, b)
	_, err := results.Exec()
	if err == nil {
		err = read(results)
	}
	// The pool closes a connection that was left inside the transaction.
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Bootstrap implements store.Reader. Once yield has kept something, there is no
// second attempt.
func (s *Store) Bootstrap(ctx context.Context, yield func(store.Digest) error) (store.Base, error) {
	var base store.Base
	err := s.try(ctx, "load the base", func(ctx context.Context) error {
		base = store.Base{}
		// A yield that fails cancels the query, which then does not send the rest.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		begun := false
		var stopped error
		err := s.bootstrap(ctx, &base, func(d store.Digest) error {
			begun = true
			if stopped = yield(d); stopped != nil {
				cancel()
			}
			return stopped
		})
		switch {
		case stopped != nil:
			return final{stopped}
		case err != nil && begun:
			return final{err}
		}
		return err
	})
	if err != nil {
		return store.Base{}, err
	}
	return base, nil
}

func (s *Store) bootstrap(ctx context.Context, base *store.Base, yield func(store.Digest) error) error {
	return s.snapshot(ctx, func(b *pgx.Batch) {
		b.Queue(sqlRevision)
		b.Queue(sqlAllTenants)
		b.Queue(sqlLiveDigests, s.now().UnixNano())
	}, func(r pgx.BatchResults) error {
		if err := r.QueryRow().Scan(&base.Head.Number, fixed(base.Head.Tag[:])); err != nil {
			return err
		}
		rows, err := r.Query()
		if err := each(rows, err, func(scan func(...any) error) error {
			t, err := scanTenant(scan)
			base.Tenants = append(base.Tenants, t)
			return err
		}); err != nil {
			return err
		}
		now := s.now().UnixNano()
		rows, err = r.Query()
		return each(rows, err, func(scan func(...any) error) error {
			var d store.Digest
			var expires int64
			if err := scan(fixed(d[:]), &expires); err != nil || expires != 0 && expires <= now {
				return err
			}
			return yield(d)
		})
	})
}

// PrincipalIndex implements store.Reader.
func (s *Store) PrincipalIndex(_ context.Context, tenant store.TenantID, _ store.KeyID, kind policy.Kind, id string) (store.Index, error) {
	return store.PlainIndex(tenant, kind, id), nil
}
