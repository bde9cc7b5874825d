package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// One statement, and so one snapshot. No such key is one row without an id.
	sqlUserKey = `SELECT r.number, r.tag, k.key_id, coalesce(k.tenant_id, 0), coalesce(k.user_id, ''), k.digest, coalesce(k.prefix, ''),
			coalesce(k.label, ''), coalesce(k.created_at, 0), coalesce(k.expires_at, 0), coalesce(k.revoked_at, 0), coalesce(k.last_used_at, 0)
		FROM revision AS r LEFT JOIN user_keys AS k ON k.digest = ?`

	// By index, not by name: it is what a sealed store can look up. Ids grow with time.
	sqlUserKeysOf = `SELECT key_id, tenant_id, user_id, digest, prefix, label, created_at,
			coalesce(expires_at, 0), coalesce(revoked_at, 0), coalesce(last_used_at, 0)
		FROM user_keys WHERE tenant_id = ? AND principal_index = ? ORDER BY id`

	sqlUserKeyKnown = `SELECT EXISTS (SELECT 1 FROM user_keys WHERE digest = ?)`

	sqlInsertUserKey = `INSERT INTO user_keys (key_id, tenant_id, principal_index, user_id, digest, prefix, label, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlRevokeUserKey = `UPDATE user_keys SET revoked_at = ? WHERE key_id = ?`

	// Until when the principal's API keys back it: ?1 is the tenant, ?2 the index.
	sqlKeyBacked = `SELECT coalesce(max(coalesce(k.expires_at, 9223372036854775807)), 0)
		FROM user_keys AS k WHERE k.tenant_id = ?1 AND k.principal_index = ?2 AND k.revoked_at IS NULL`

	sqlStrict = `SELECT t.strict_users, (` + sqlKeyBacked + `) FROM tenants AS t WHERE t.id = ?1`
)

// UserKey implements store.Reader.
func (s *Store) UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error) {
	var row store.UserKeyRow
	err := s.borrowing(ctx, "load API key", func(ctx context.Context, c *conn) error {
		row = store.UserKeyRow{}
		var id sql.NullString
		key, err := scanUserKey(func(dest ...any) error {
			dest[0] = &id
			return c.scan(ctx, sqlUserKey, args{digest[:]}, append([]any{&row.Revision.Number, tagOf(&row.Revision.Tag)}, dest...)...)
		})
		if err != nil {
			return err
		}
		if id.Valid {
			key.ID = id.String
			row.Key = &key
		}
		return nil
	})
	if err != nil {
		return store.UserKeyRow{}, err
	}
	return row, nil
}

func scanUserKey(scan func(dest ...any) error) (store.UserKey, error) {
	var k store.UserKey
	var created, expires, revoked, used int64
	err := scan(&k.ID, &k.Tenant, &k.User, digestOf(&k.Digest), &k.Prefix, &k.Label, &created, &expires, &revoked, &used)
	k.Created, k.Expires = store.FromNanos(created), store.FromNanos(expires)
	k.Revoked, k.LastUsed = store.FromNanos(revoked), store.FromNanos(used)
	return k, err
}

// UserKeyList implements store.Store.
func (s *Store) UserKeyList(ctx context.Context, tenant store.TenantID, user string) ([]store.UserKey, error) {
	var list []store.UserKey
	err := s.borrowing(ctx, "list API keys", func(ctx context.Context, c *conn) (err error) {
		list, err = userKeys(ctx, c, tenant, store.PlainIndex(tenant, policy.KindUser, user))
		return err
	})
	return list, err
}

func userKeys(ctx context.Context, c *conn, tenant store.TenantID, index store.Index) ([]store.UserKey, error) {
	var list []store.UserKey
	err := c.each(ctx, sqlUserKeysOf, args{int64(tenant), index[:]}, func(rows *sql.Rows) error {
		k, err := scanUserKey(rows.Scan)
		list = append(list, k)
		return err
	})
	return list, err
}

// CreateUserKey implements store.Store.
func (s *Store) CreateUserKey(ctx context.Context, by store.Actor, key store.NewUserKey) (store.UserKey, store.Result, error) {
	var made store.UserKey
	result, err := s.write(ctx, "create API key", by, func(tx *writeTx) (*store.Written, error) {
		var expires int64
		var err error
		if made, expires, err = key.Make(tx.now); err != nil {
			return nil, err
		}
		if _, err := tenantByID(tx.ctx, tx.conn, key.Tenant); err != nil {
			return nil, err
		}
		var known bool
		if err := tx.scan(tx.ctx, sqlUserKeyKnown, args{key.Digest[:]}, &known); err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("this secret: %w", store.ErrExists)
		}
		index := store.PlainIndex(key.Tenant, policy.KindUser, key.User)
		all, err := userKeys(tx.ctx, tx.conn, key.Tenant, index)
		if err != nil {
			return nil, err
		}
		if err := store.UnderKeyCap(all, tx.now); err != nil {
			return nil, err
		}
		_, err = tx.exec(tx.ctx, sqlInsertUserKey, made.ID, int64(made.Tenant), index[:], made.User, made.Digest[:],
			made.Prefix, made.Label, tx.now.UnixNano(), nullable(expires))
		if err != nil {
			return nil, err
		}
		return store.UserKeyWritten(&made, index), nil
	})
	if err != nil {
		return store.UserKey{}, store.Result{}, err
	}
	return made, result, nil
}

// RevokeUserKey implements store.Store. A key that has expired is revoked too: a
// clock that is set back must not open it again.
func (s *Store) RevokeUserKey(ctx context.Context, by store.Actor, tenant store.TenantID, user, id string) (store.Result, error) {
	return s.write(ctx, "revoke API key", by, func(tx *writeTx) (*store.Written, error) {
		index := store.PlainIndex(tenant, policy.KindUser, user)
		all, err := userKeys(tx.ctx, tx.conn, tenant, index)
		if err != nil {
			return nil, err
		}
		key, w, err := store.UserKeyRevoked(all, index, id)
		if err != nil || w.Outcome == store.OutcomeUnchanged {
			return w, err
		}
		if _, err := tx.exec(tx.ctx, sqlRevokeUserKey, tx.now.UnixNano(), key.ID); err != nil {
			return nil, err
		}
		return w, nil
	})
}

// mustBeBacked refuses a user without an active API key where the tenant requires
// one. A tenant that is not there is left to what comes after.
func (tx *writeTx) mustBeBacked(tenant store.TenantID, kind policy.Kind, id string) error {
	if kind != policy.KindUser {
		return nil
	}
	index := store.PlainIndex(tenant, kind, id)
	var strict bool
	var until int64
	if err := tx.scan(tx.ctx, sqlStrict, args{int64(tenant), index[:]}, &strict, &until); err != nil && !absent(err) {
		return err
	}
	if !policy.KeyBacked(strict, kind, until, tx.now.UnixNano()) {
		return fmt.Errorf("user %q: %w", id, store.ErrNotKeyBacked)
	}
	return nil
}
