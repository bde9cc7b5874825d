package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// One statement, and so one snapshot. No such key is one row without an id.
	sqlKey = `SELECT r.number, r.tag, k.id, coalesce(k.tenant_id, 0), coalesce(k.name, ''), k.digest, coalesce(k.prefix, ''),
			coalesce(k.scopes, ''), coalesce(k.created_at, 0), coalesce(k.expires_at, 0), coalesce(k.revoked_at, 0), coalesce(k.last_used_at, 0), coalesce(k.rotate_at, 0)
		FROM revision AS r LEFT JOIN client_keys AS k ON k.digest = ?`

	sqlKeyList = `SELECT id, tenant_id, name, digest, prefix, scopes, created_at,
			coalesce(expires_at, 0), coalesce(revoked_at, 0), coalesce(last_used_at, 0), coalesce(rotate_at, 0)
		FROM client_keys WHERE tenant_id = ? ORDER BY name, created_at, id`

	sqlKeysOfName = `SELECT id, tenant_id, name, digest, prefix, scopes, created_at,
			coalesce(expires_at, 0), coalesce(revoked_at, 0), coalesce(last_used_at, 0), coalesce(rotate_at, 0)
		FROM client_keys WHERE tenant_id = ? AND name = ? ORDER BY id`

	sqlKeyByDigest = `SELECT tenant_id, coalesce(expires_at, 0), coalesce(revoked_at, 0) FROM client_keys WHERE digest = ?`

	sqlInsertKey = `INSERT INTO client_keys (tenant_id, name, digest, prefix, scopes, created_at, expires_at, rotate_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`

	sqlRevokeKey = `UPDATE client_keys SET revoked_at = ? WHERE id = ?`

	sqlExpireKey = `UPDATE client_keys SET expires_at = ? WHERE id = ?`
)

// Key implements store.Reader.
func (s *Store) Key(ctx context.Context, digest store.Digest) (store.KeyRow, error) {
	var row store.KeyRow
	err := s.borrowing(ctx, "load client key", func(ctx context.Context, c *conn) error {
		row = store.KeyRow{}
		var id sql.NullInt64
		key, err := scanKey(func(dest ...any) error {
			dest[0] = &id
			return c.scan(ctx, sqlKey, args{digest[:]}, append([]any{&row.Revision.Number, tagOf(&row.Revision.Tag)}, dest...)...)
		})
		if err != nil {
			return err
		}
		if id.Valid {
			key.ID = id.Int64
			row.Key = &key
		}
		return nil
	})
	if err != nil {
		return store.KeyRow{}, err
	}
	return row, nil
}

func scanKey(scan func(dest ...any) error) (store.ClientKey, error) {
	var k store.ClientKey
	var scopes string
	var created, expires, revoked, used, rotate int64
	err := scan(&k.ID, &k.Tenant, &k.Name, digestOf(&k.Digest), &k.Prefix, &scopes, &created, &expires, &revoked, &used, &rotate)
	k.Scopes = store.SplitScopes(scopes)
	k.Created, k.Expires = store.FromNanos(created), store.FromNanos(expires)
	k.Revoked, k.LastUsed = store.FromNanos(revoked), store.FromNanos(used)
	k.RotateAt = store.FromNanos(rotate)
	return k, err
}

// KeyList implements store.Store.
func (s *Store) KeyList(ctx context.Context, tenant store.TenantID) ([]store.ClientKey, error) {
	var list []store.ClientKey
	err := s.borrowing(ctx, "list client keys", func(ctx context.Context, c *conn) (err error) {
		list, err = keys(ctx, c, sqlKeyList, args{int64(tenant)})
		return err
	})
	return list, err
}

func keys(ctx context.Context, c *conn, query string, in args) ([]store.ClientKey, error) {
	var list []store.ClientKey
	err := c.each(ctx, query, in, func(rows *sql.Rows) error {
		k, err := scanKey(rows.Scan)
		list = append(list, k)
		return err
	})
	return list, err
}

// insertKey adds the key's row and says so in w.
func (tx *writeTx) insertKey(key store.NewKey, w *store.Written) (store.ClientKey, error) {
	scopes, err := store.JoinScopes(key.Scopes)
	if err != nil {
		return store.ClientKey{}, err
	}
	expires, err := store.ExpiryNanos(key.Expires)
	if err != nil {
		return store.ClientKey{}, err
	}
	rotate, err := store.ExpiryNanos(key.RotateAt)
	if err != nil {
		return store.ClientKey{}, fmt.Errorf("rotate at: %w", err)
	}
	if key.Name == "" {
		return store.ClientKey{}, errors.New("name: is empty: give the client a name")
	}
	if _, err := tenantByID(tx.ctx, tx.conn, key.Tenant); err != nil {
		return store.ClientKey{}, err
	}
	made := store.ClientKey{
		Tenant:   key.Tenant,
		Name:     key.Name,
		Digest:   key.Digest,
		Prefix:   key.Prefix,
		Scopes:   store.SplitScopes(scopes),
		Created:  store.FromNanos(tx.now.UnixNano()),
		Expires:  store.FromNanos(expires),
		RotateAt: store.FromNanos(rotate),
	}
	err = tx.scan(tx.ctx, sqlInsertKey,
		args{int64(key.Tenant), key.Name, key.Digest[:], key.Prefix, scopes, tx.now.UnixNano(), nullable(expires), nullable(rotate)}, &made.ID)
	if err != nil {
		return store.ClientKey{}, err
	}
	w.Outcome = store.OutcomeDone
	w.Tenant = key.Tenant
	w.Action = store.ActionCreateClientKey
	w.Resource = store.ClientKeyResource(key.Name)
	w.After = keyState(&made)
	w.Changes.Key(key.Tenant, key.Digest, false)
	return made, nil
}

func keyState(k *store.ClientKey) store.ClientKeyState {
	return store.ClientKeyState{Prefix: k.Prefix, Scopes: k.Scopes, Expires: store.AuditTime(k.Expires)}
}

// CreateKey implements store.Store.
func (s *Store) CreateKey(ctx context.Context, by store.Actor, key store.NewKey) (store.ClientKey, store.Result, error) {
	var made store.ClientKey
	result, err := s.write(ctx, "create client key", by, func(tx *writeTx) (*store.Written, error) {
		known, _, err := tx.knownKey(key.Digest)
		if err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("this secret: %w", store.ErrExists)
		}
		w := &store.Written{}
		made, err = tx.insertKey(key, w)
		return w, err
	})
	if err != nil {
		return store.ClientKey{}, store.Result{}, err
	}
	return made, result, nil
}

// knownKey reports whether the digest was ever registered, and whether it still
// opens something.
func (tx *writeTx) knownKey(digest store.Digest) (known, live bool, err error) {
	owner, live, err := tx.ownerOfKey(digest)
	return owner != 0, live, err
}

// ownerOfKey is the tenant that the digest was registered for, 0 for none.
func (tx *writeTx) ownerOfKey(digest store.Digest) (owner store.TenantID, live bool, err error) {
	var expires, revoked int64
	switch err := tx.scan(tx.ctx, sqlKeyByDigest, args{digest[:]}, &owner, &expires, &revoked); {
	case absent(err):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return owner, revoked == 0 && (expires == 0 || expires > tx.now.UnixNano()), nil
}

// RevokeKeys implements store.Store. What access tokens the client was issued are
// denied in the same write. Secrets that have expired are revoked too:
// a clock that is set back must not open them again.
func (s *Store) RevokeKeys(ctx context.Context, by store.Actor, tenant store.TenantID, name string) (int, store.Result, error) {
	revoked := 0
	result, err := s.write(ctx, "revoke client keys", by, func(tx *writeTx) (*store.Written, error) {
		revoked = 0
		all, err := keys(tx.ctx, tx.conn, sqlKeysOfName, args{int64(tenant), name})
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("client key %q: %w", name, store.ErrNotFound)
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Tenant:   tenant,
			Action:   store.ActionRevokeClientKey,
			Resource: store.ClientKeyResource(name),
		}
		var before store.ClientState
		for i := range all {
			if !all[i].Revoked.IsZero() {
				continue
			}
			if _, err := tx.exec(tx.ctx, sqlRevokeKey, tx.now.UnixNano(), all[i].ID); err != nil {
				return nil, err
			}
			revoked++
			before.Keys = append(before.Keys, keyState(&all[i]))
			w.Changes.Key(tenant, all[i].Digest, true)
		}
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		index, former := indexes(keys, tenant, policy.KindClient, name)
		before.Memberships, err = tx.exec(tx.ctx, sqlDeletePrincipal, int64(tenant), index[:], former[:])
		if err != nil {
			return nil, err
		}
		if before.Memberships > 0 {
			w.Changes.Grant(tenant, index)
		}
		if before.Families, before.Denied, err = tx.revokeClientFamilies(tenant, name, &w.Changes); err != nil {
			return nil, err
		}
		if revoked > 0 || before.Memberships > 0 || before.Families > 0 {
			if err := tx.denyClient(tenant, name, &w.Changes); err != nil {
				return nil, err
			}
			w.Outcome = store.OutcomeDone
			w.Before = before
		}
		return w, nil
	})
	if err != nil {
		return 0, store.Result{}, err
	}
	return revoked, result, nil
}

// RegisterKey implements store.Store.
func (s *Store) RegisterKey(ctx context.Context, by store.Actor, key store.NewKey, overlap time.Duration) (store.Result, error) {
	return s.write(ctx, "register client key", by, func(tx *writeTx) (*store.Written, error) {
		known, live, err := tx.knownKey(key.Digest)
		switch {
		case err != nil:
			return nil, err
		case live:
			return nil, errNoWrite
		case known:
			return nil, fmt.Errorf("this secret was withdrawn, make a new one: %w", store.ErrRevoked)
		}
		if overlap < 0 {
			return nil, fmt.Errorf("overlap: %s is below 0", overlap)
		}
		until, err := store.ExpiryNanos(tx.now.Add(overlap))
		if err != nil {
			return nil, fmt.Errorf("overlap: %w", err)
		}
		former, err := keys(tx.ctx, tx.conn, sqlKeysOfName, args{int64(key.Tenant), key.Name})
		if err != nil {
			return nil, err
		}
		w := &store.Written{}
		if _, err := tx.insertKey(key, w); err != nil {
			return nil, err
		}
		var before store.ClientState
		for i := range former {
			k := &former[i]
			if !k.Revoked.IsZero() || (!k.Expires.IsZero() && k.Expires.UnixNano() <= until) {
				continue
			}
			if _, err := tx.exec(tx.ctx, sqlExpireKey, until, k.ID); err != nil {
				return nil, err
			}
			before.Keys = append(before.Keys, keyState(k))
			w.Changes.Key(key.Tenant, k.Digest, until <= tx.now.UnixNano())
		}
		if len(before.Keys) > 0 {
			w.Before = before
			w.Details = map[string]any{"former_expire": store.AuditTime(store.FromNanos(until))}
		}
		return w, nil
	})
}
