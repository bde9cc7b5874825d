package postgres

import (
	"context"
	"errors"
	"fmt"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	userKeyColumns = `k.key_id, k.tenant_id, k.user_id, k.digest, k.prefix, k.label, k.created_at, k.expires_at, k.revoked_at, k.last_used_at`

	sqlUserKey = `
SELECT r.number, r.tag, ` + userKeyColumns + `
FROM portcullis.revision r
LEFT JOIN portcullis.user_keys k ON k.digest = $1`

	// By index, not by name: it is what a sealed store can look up. Ids grow with time.
	sqlUserKeysOf = `SELECT ` + userKeyColumns + ` FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.principal_index = $2 ORDER BY k.id`

	sqlUserKeyKnown = `SELECT EXISTS (SELECT FROM portcullis.user_keys WHERE digest = $1)`

	sqlInsertUserKey = `
INSERT INTO portcullis.user_keys (key_id, tenant_id, principal_index, user_id, digest, prefix, label, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

	sqlRevokeUserKey = `UPDATE portcullis.user_keys SET revoked_at = $1 WHERE key_id = $2`

	// Until when the principal's API keys back it: $1 is the tenant, $2 the index.
	sqlKeyBacked = `SELECT coalesce(max(coalesce(k.expires_at, 9223372036854775807)), 0)
 FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.principal_index = $2 AND k.revoked_at IS NULL`

	sqlStrict = `SELECT t.strict_users, (` + sqlKeyBacked + `) FROM portcullis.tenants t WHERE t.id = $1`
)

// userKeyScan is the destination of userKeyColumns. All may be NULL, in an outer
// join.
type userKeyScan struct {
	key                                 store.UserKey
	id, user, prefix, label             *string
	tenant                              *int64
	created, expires, revoked, lastUsed *int64
}

func (k *userKeyScan) dest() []any {
	return []any{&k.id, &k.tenant, &k.user, fixed(k.key.Digest[:]), &k.prefix, &k.label, &k.created, &k.expires, &k.revoked, &k.lastUsed}
}

// found returns the key, or nil where every column is NULL.
func (k *userKeyScan) found() *store.UserKey {
	if k.id == nil {
		return nil
	}
	k.key.ID = *k.id
	k.key.Tenant = store.TenantID(orZero(k.tenant))
	k.key.User, k.key.Prefix, k.key.Label = orZero(k.user), orZero(k.prefix), orZero(k.label)
	k.key.Created = store.FromNanos(orZero(k.created))
	k.key.Expires = store.FromNanos(orZero(k.expires))
	k.key.Revoked = store.FromNanos(orZero(k.revoked))
	k.key.LastUsed = store.FromNanos(orZero(k.lastUsed))
	return &k.key
}

// UserKey implements store.Reader: one statement, one round trip.
func (s *Store) UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error) {
	var out store.UserKeyRow
	err := s.try(ctx, "load an API key", func(ctx context.Context) error {
		var k userKeyScan
		dest := append([]any{&out.Revision.Number, fixed(out.Revision.Tag[:])}, k.dest()...)
		err := s.pool.QueryRow(ctx, sqlUserKey, digest[:]).Scan(dest...)
		out.Key = k.found()
		return err
	})
	if err != nil {
		return store.UserKeyRow{}, err
	}
	return out, nil
}

// UserKeyList implements store.Store.
func (s *Store) UserKeyList(ctx context.Context, tenant store.TenantID, user string) ([]store.UserKey, error) {
	var list []store.UserKey
	err := s.try(ctx, "list API keys", func(ctx context.Context) (err error) {
		list, err = userKeys(ctx, s.pool, tenant, store.PlainIndex(tenant, policy.KindUser, user))
		return err
	})
	return list, err
}

func userKeys(ctx context.Context, q querier, tenant store.TenantID, index store.Index) ([]store.UserKey, error) {
	var list []store.UserKey
	rows, err := q.Query(ctx, sqlUserKeysOf, int64(tenant), index[:])
	err = each(rows, err, func(scan func(...any) error) error {
		var k userKeyScan
		if err := scan(k.dest()...); err != nil {
			return err
		}
		list = append(list, *k.found())
		return nil
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
		if err := errors.Join(mustBeText("user", key.User), mustBeText("prefix", key.Prefix), mustBeText("label", key.Label)); err != nil {
			return nil, err
		}
		if _, err := tx.tenant(key.Tenant); err != nil {
			return nil, err
		}
		var known bool
		if err := tx.scan(sqlUserKeyKnown, []any{key.Digest[:]}, &known); err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("this secret: %w", store.ErrExists)
		}
		index := store.PlainIndex(key.Tenant, policy.KindUser, key.User)
		all, err := userKeys(tx.ctx, tx, key.Tenant, index)
		if err != nil {
			return nil, err
		}
		if err := store.UnderKeyCap(all, tx.now); err != nil {
			return nil, err
		}
		_, err = tx.exec(sqlInsertUserKey, made.ID, int64(made.Tenant), index[:], made.User, made.Digest[:],
			made.Prefix, made.Label, tx.now.UnixNano(), orNull(expires))
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
		all, err := userKeys(tx.ctx, tx, tenant, index)
		if err != nil {
			return nil, err
		}
		key, w, err := store.UserKeyRevoked(all, index, id)
		if err != nil || w.Outcome == store.OutcomeUnchanged {
			return w, err
		}
		if _, err := tx.exec(sqlRevokeUserKey, tx.now.UnixNano(), key.ID); err != nil {
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
	if err := tx.scan(sqlStrict, []any{int64(tenant), index[:]}, &strict, &until); err != nil && !isNoRows(err) {
		return err
	}
	if !policy.KeyBacked(strict, kind, until, tx.now.UnixNano()) {
		return fmt.Errorf("user %q: %w", id, store.ErrNotKeyBacked)
	}
	return nil
}
