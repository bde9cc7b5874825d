package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
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

	// In clear, a grant is read from the memberships' index alone.
	sqlGrant = `
SELECT r.number, r.tag, e.key_id, e.former_key_id, (` + sqlKeyBacked + `), m.role_id, m.expires_at
FROM portcullis.revision r
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN portcullis.memberships m ON m.tenant_id = $1 AND m.principal_index = $2
ORDER BY m.role_id`

	// Sealed, every row that counts is opened: memberships, and the keys that back the
	// user, the longest first.
	sqlSealedGrant = `
SELECT r.number, r.tag, e.key_id, e.former_key_id, x.id, x.key_id, x.text, x.kind, x.role_id, x.expires_at, x.name, x.digest
FROM portcullis.revision r
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN (
    SELECT m.id, m.key_id, m.principal_id AS text, m.kind, m.role_id, m.expires_at, NULL::text AS name, NULL::bytea AS digest
    FROM portcullis.memberships m WHERE m.tenant_id = $1 AND m.principal_index = ANY ($2)
    UNION ALL
    (SELECT k.id, k.seal_key_id, k.user_id, NULL, NULL, k.expires_at, k.key_id, k.digest
     FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.principal_index = ANY ($2) AND k.revoked_at IS NULL
     ORDER BY coalesce(k.expires_at, 9223372036854775807) DESC LIMIT 25)
) x ON true
ORDER BY x.role_id, coalesce(x.expires_at, 9223372036854775807) DESC`

	sqlKey = `
SELECT r.number, r.tag, ` + keyColumns + `
FROM portcullis.revision r
LEFT JOIN portcullis.client_keys k ON k.digest = $1`

	sqlRoles = `
SELECT r.number, r.tag, e.key_id, e.former_key_id, o.id, o.name, p.rows, p.keys, p.names, i.ids
FROM portcullis.revision r
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN portcullis.roles o ON o.tenant_id = $1
LEFT JOIN (SELECT role_id, ` + permissionArrays + ` FROM portcullis.permissions WHERE tenant_id = $1 GROUP BY role_id) p ON p.role_id = o.id
LEFT JOIN (SELECT role_id, array_agg(parent_id ORDER BY parent_id) AS ids FROM portcullis.role_parents WHERE tenant_id = $1 GROUP BY role_id) i ON i.role_id = o.id
ORDER BY o.id`

	permissionArrays = `array_agg(id ORDER BY id) AS rows, array_agg(key_id ORDER BY id) AS keys, array_agg(name ORDER BY id) AS names`

	sqlAllTenants = `SELECT ` + tenantColumns + ` FROM ` + tenantsAndKeys + ` ORDER BY t.name`

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

// Grant implements store.Reader: one statement, one round trip, save for the first
// one after the tenant's keys have changed.
func (s *Store) Grant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	var out store.GrantRow
	err := s.try(ctx, "load a grant", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) (err error) {
			if keys.Pair == (sealing.Pair{}) {
				out, err = s.clearGrant(ctx, tenant, kind, id)
			} else {
				out, err = s.sealedGrant(ctx, keys, tenant, kind, id)
			}
			return err
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

func (s *Store) clearGrant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (out store.GrantRow, err error) {
	index := store.PlainIndex(tenant, kind, id)
	rows, err := s.pool.Query(ctx, sqlGrant, int64(tenant), index[:])
	err = each(rows, err, func(scan func(...any) error) error {
		var p pairScan
		var role, expires *int64
		if err := scan(&out.Revision.Number, fixed(out.Revision.Tag[:]), &p.current, &p.former, &out.KeyBackedUntil, &role, &expires); err != nil {
			return err
		}
		if err := p.under(sealing.Keys{}); err != nil {
			return err
		}
		if role != nil {
			out.Grant = append(out.Grant, policy.Membership{Role: policy.RoleID(*role), Expires: orZero(expires)})
		}
		return nil
	})
	return out, err
}

// sealedGrant opens what it returns. A user's key that does not open backs nobody:
// it is counted and logged, and the next one counts.
func (s *Store) sealedGrant(ctx context.Context, keys sealing.Keys, tenant store.TenantID, kind policy.Kind, id string) (out store.GrantRow, err error) {
	rows, err := s.pool.Query(ctx, sqlSealedGrant, int64(tenant), liveIndexes(keys, tenant, kind, id))
	err = each(rows, err, func(scan func(...any) error) error {
		var p pairScan
		var row, keyID, role, expires *int64
		var text, name *string
		var rowKind *int16
		k := userKeyScan{user: new(string)}
		if err := scan(&out.Revision.Number, fixed(out.Revision.Tag[:]), &p.current, &p.former,
			&row, &keyID, &text, &rowKind, &role, &expires, &name, fixed(k.key.Digest[:])); err != nil {
			return err
		}
		if err := p.under(keys); err != nil || row == nil {
			return err
		}
		if role != nil {
			m := memberRow{id: *row, keyID: orZero(keyID), kind: policy.Kind(orZero(rowKind)), principal: orZero(text), role: policy.RoleID(*role)}
			out.Grant = append(out.Grant, policy.Membership{Role: m.role, Expires: orZero(expires)})
			return s.mustBe(keys, tenant, &m, kind, id)
		}
		if out.KeyBackedUntil != 0 || kind != policy.KindUser {
			return nil
		}
		k.row, k.key.ID, k.key.Tenant = row, orZero(name), tenant
		held, err := s.open(keys, orZero(keyID), orZero(text), k.userPlace)
		switch {
		case errors.Is(err, store.ErrUnreadable):
			return nil
		case err != nil:
			return err
		case held == id:
			out.KeyBackedUntil = orZero(expires)
			if expires == nil {
				out.KeyBackedUntil = store.BackedForever
			}
		}
		return nil
	})
	return out, err
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
		return startOver(func() error {
			out = store.TenantRoles{Tenant: tenant}
			var table []roleScan
			rows, err := s.pool.Query(ctx, sqlRoles, int64(tenant))
			if err := each(rows, err, func(scan func(...any) error) error {
				var r roleScan
				err := scan(append([]any{&out.Revision.Number, fixed(out.Revision.Tag[:])}, r.dest()...)...)
				table = append(table, r)
				return err
			}); err != nil {
				return err
			}
			out.Roles, err = s.openRoles(ctx, tenant, table)
			return err
		})
	})
	if err == nil {
		err = mustHaveRevision(out.Revision)
	}
	if err != nil {
		return store.TenantRoles{}, err
	}
	return out, nil
}

// roleScan is the destination of one role of a role table, with its tenant's pair.
// The role's columns may be NULL, in an outer join.
type roleScan struct {
	pair       pairScan
	id         *int64
	name       *string
	rows, keys []int64 // of the permissions, by id
	names      []string
	parents    []int64
}

func (r *roleScan) dest() []any {
	return []any{&r.pair.current, &r.pair.former, &r.id, &r.name, &r.rows, &r.keys, &r.names, &r.parents}
}

// openRoles makes a role table of what was read of one tenant. A permission that
// does not open is left out: what needs it is denied.
func (s *Store) openRoles(ctx context.Context, tenant store.TenantID, table []roleScan) ([]policy.RoleSpec, error) {
	if len(table) == 0 || table[0].id == nil {
		return nil, nil
	}
	keys, err := s.keysOf(ctx, s.pool, tenant, table[0].pair.pair())
	if err != nil {
		return nil, err
	}
	var out []policy.RoleSpec
	for i := range table {
		r := &table[i]
		spec := policy.RoleSpec{ID: policy.RoleID(*r.id), Name: orZero(r.name), Parents: roleIDs(r.parents)}
		for n := range r.rows {
			row := permissionRow{id: r.rows[n], keyID: r.keys[n], role: spec.ID, name: r.names[n]}
			name, err := s.openPermission(keys, tenant, &row)
			switch {
			case err == nil:
				spec.Permissions = append(spec.Permissions, name)
			case !errors.Is(err, store.ErrUnreadable):
				return nil, err
			}
		}
		slices.Sort(spec.Permissions)
		out = append(out, spec)
	}
	return out, nil
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
		b.Queue(sqlDenied, s.now().UnixNano())
		b.Queue(sqlSigningKeysAlive, s.now().UnixNano())
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
		if base.Denied, err = scanMarks(r.Query()); err != nil {
			return err
		}
		if base.Signing, err = scanSigningKeys(r.Query()); err != nil {
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
func (s *Store) PrincipalIndex(ctx context.Context, tenant store.TenantID, key store.KeyID, kind policy.Kind, id string) (store.Index, error) {
	if key == 0 {
		return store.PlainIndex(tenant, kind, id), nil
	}
	var index store.Index
	err := s.try(ctx, "compute a principal's index", func(ctx context.Context) error {
		k, err := s.ring.Key(ctx, int64(tenant), int64(key), loadOver(s.pool))
		switch {
		case errors.Is(err, sealing.ErrKeyGone):
			return fmt.Errorf("encryption key %d of tenant %d: %w", key, tenant, store.ErrKeyGone)
		case err != nil:
			return s.noted(err)
		}
		index = k.PrincipalIndex(kind.String(), id)
		return nil
	})
	return index, err
}
