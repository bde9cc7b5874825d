package postgres

import (
	"context"
	"errors"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	userKeyColumns = `k.id, k.seal_key_id, k.principal_index, k.key_id, k.tenant_id, k.user_id, k.digest, k.prefix, k.label, k.created_at, k.expires_at, k.revoked_at, k.last_used_at`

	sqlUserKey = `
SELECT r.number, r.tag, e.key_id, e.former_key_id, ` + userKeyColumns + `
FROM portcullis.revision r
LEFT JOIN portcullis.user_keys k ON k.digest = $1
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = k.tenant_id`

	// By index, not by name: it is what a sealed store can look up. Ids grow with time.
	sqlUserKeysOf = `SELECT ` + userKeyColumns + ` FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.principal_index = ANY ($2) ORDER BY k.id`

	sqlUserKeyList = `
SELECT e.key_id, e.former_key_id, ` + userKeyColumns + `
FROM (SELECT) AS one
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN portcullis.user_keys k ON k.tenant_id = $1 AND k.principal_index = ANY ($2) ORDER BY k.id`

	// To take one away: by its name, whatever became of its index.
	sqlUserKeyOfID = `SELECT ` + userKeyColumns + ` FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.key_id = $2`

	sqlUserKeyKnown = `SELECT EXISTS (SELECT FROM portcullis.user_keys WHERE digest = $1), nextval('portcullis.user_key_ids')`

	sqlInsertUserKey = `
INSERT INTO portcullis.user_keys (id, key_id, tenant_id, principal_index, user_id, digest, prefix, label, created_at, expires_at, seal_key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

	sqlRevokeUserKey = `UPDATE portcullis.user_keys SET revoked_at = $1 WHERE key_id = $2`

	// Until when the principal's API keys back it, in clear: $1 is the tenant, $2 the
	// index.
	sqlKeyBacked = `SELECT coalesce(max(coalesce(k.expires_at, 9223372036854775807)), 0)
 FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.principal_index = $2 AND k.revoked_at IS NULL`

	sqlStrict = `SELECT t.strict_users FROM portcullis.tenants t WHERE t.id = $1`
)

// userKeyScan is the destination of userKeyColumns. All may be NULL, in an outer
// join.
type userKeyScan struct {
	key                                 store.UserKey
	row, sealKey, tenant                *int64
	index                               store.Index
	id, user, prefix, label             *string
	created, expires, revoked, lastUsed *int64
}

func (k *userKeyScan) dest() []any {
	return []any{
		&k.row, &k.sealKey, fixed(k.index[:]), &k.id, &k.tenant, &k.user, fixed(k.key.Digest[:]), &k.prefix, &k.label,
		&k.created, &k.expires, &k.revoked, &k.lastUsed,
	}
}

// found fills in all of the key but what is sealed, and is nil where every column
// is NULL.
func (k *userKeyScan) found() *store.UserKey {
	if k.row == nil {
		return nil
	}
	k.key.ID, k.key.Prefix = orZero(k.id), orZero(k.prefix)
	k.key.Tenant = store.TenantID(orZero(k.tenant))
	k.key.Created = store.FromNanos(orZero(k.created))
	k.key.Expires = store.FromNanos(orZero(k.expires))
	k.key.Revoked = store.FromNanos(orZero(k.revoked))
	k.key.LastUsed = store.FromNanos(orZero(k.lastUsed))
	return &k.key
}

func (k *userKeyScan) userPlace() sealing.Place {
	return sealing.UserKeyUser(*k.row, int64(k.key.Tenant), k.key.ID, k.key.Digest)
}

func (k *userKeyScan) labelPlace() sealing.Place {
	return sealing.UserKeyLabel(*k.row, int64(k.key.Tenant), k.key.ID, k.key.Digest)
}

// openUserKey gives the whole key.
func (s *Store) openUserKey(keys sealing.Keys, k *userKeyScan) (*store.UserKey, error) {
	key := k.found()
	if key == nil {
		return nil, nil
	}
	var err error
	if key.User, err = s.open(keys, orZero(k.sealKey), orZero(k.user), k.userPlace); err == nil {
		key.Label, err = s.open(keys, orZero(k.sealKey), orZero(k.label), k.labelPlace)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

// openUserKeyOf is openUserKey for a key that was found by its user's index.
func (s *Store) openUserKeyOf(keys sealing.Keys, k *userKeyScan, user string) (*store.UserKey, error) {
	key, err := s.openUserKey(keys, k)
	if err == nil && key.User != user {
		return nil, s.noted(&sealing.Error{Place: k.userPlace(), Key: orZero(k.sealKey), Why: "it is another user's than its index says: the row was edited by other hands"})
	}
	return key, err
}

// UserKey implements store.Reader: one statement, one round trip.
func (s *Store) UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error) {
	var out store.UserKeyRow
	err := s.try(ctx, "load an API key", func(ctx context.Context) error {
		return startOver(func() error {
			var p pairScan
			var k userKeyScan
			dest := append([]any{&out.Revision.Number, fixed(out.Revision.Tag[:]), &p.current, &p.former}, k.dest()...)
			if err := s.pool.QueryRow(ctx, sqlUserKey, digest[:]).Scan(dest...); err != nil || k.found() == nil {
				return err
			}
			keys, err := s.keysOf(ctx, s.pool, k.key.Tenant, p.pair())
			if err == nil {
				out.Key, err = s.openUserKey(keys, &k)
			}
			return err
		})
	})
	if err != nil {
		return store.UserKeyRow{}, err
	}
	return out, nil
}

// UserKeyList implements store.Store.
func (s *Store) UserKeyList(ctx context.Context, tenant store.TenantID, user string) ([]store.UserKey, error) {
	var list []store.UserKey
	err := s.try(ctx, "list API keys", func(ctx context.Context) error {
		return s.withKeys(ctx, tenant, func(keys sealing.Keys) error {
			list = nil
			rows, err := s.pool.Query(ctx, sqlUserKeyList, int64(tenant), liveIndexes(keys, tenant, policy.KindUser, user))
			return each(rows, err, func(scan func(...any) error) error {
				var p pairScan
				var k userKeyScan
				if err := scan(append([]any{&p.current, &p.former}, k.dest()...)...); err != nil {
					return err
				}
				if err := p.under(keys); err != nil || k.found() == nil {
					return err
				}
				key, err := s.openUserKeyOf(keys, &k, user)
				if err == nil {
					list = append(list, *key)
				}
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// userKeys are the keys of one user. Those whose user does not open are left out,
// counted and logged: they back nobody.
func (tx *writeTx) userKeys(tenant store.TenantID, keys sealing.Keys, user string) ([]store.UserKey, error) {
	var list []store.UserKey
	rows, err := tx.Query(tx.ctx, sqlUserKeysOf, int64(tenant), liveIndexes(keys, tenant, policy.KindUser, user))
	err = each(rows, err, func(scan func(...any) error) error {
		var k userKeyScan
		if err := scan(k.dest()...); err != nil {
			return err
		}
		key, err := tx.store.openUserKeyOf(keys, &k, user)
		switch {
		case errors.Is(err, store.ErrUnreadable):
			return nil
		case err != nil:
			return err
		}
		list = append(list, *key)
		return nil
	})
	return list, err
}

// CreateUserKey implements store.Store.
func (s *Store) CreateUserKey(ctx context.Context, by store.Actor, key store.NewUserKey) (store.UserKey, store.Result, error) {
	var made store.UserKey
	result, err := s.write(ctx, "create API key", key.Tenant, by, func(tx *writeTx) (*store.Written, error) {
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
		var row int64
		if err := tx.scan(sqlUserKeyKnown, []any{key.Digest[:]}, &known, &row); err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("this secret: %w", store.ErrExists)
		}
		keys, err := tx.keys(key.Tenant)
		if err != nil {
			return nil, err
		}
		all, err := tx.userKeys(key.Tenant, keys, key.User)
		if err != nil {
			return nil, err
		}
		if err := store.UnderKeyCap(all, tx.now); err != nil {
			return nil, err
		}
		index := indexUnder(keys.Current, key.Tenant, policy.KindUser, key.User)
		if err := tx.insertUserKey(keys, row, index, &made, expires); err != nil {
			return nil, err
		}
		return store.UserKeyWritten(&made, index), nil
	})
	if err != nil {
		return store.UserKey{}, store.Result{}, err
	}
	return made, result, nil
}

func (tx *writeTx) insertUserKey(keys sealing.Keys, row int64, index store.Index, made *store.UserKey, expires int64) error {
	k := userKeyScan{key: *made, row: &row}
	user, err := keys.Current.Seal(k.userPlace(), made.User)
	if err != nil {
		return err
	}
	label, err := keys.Current.Seal(k.labelPlace(), made.Label)
	if err != nil {
		return err
	}
	_, err = tx.exec(sqlInsertUserKey, row, made.ID, int64(made.Tenant), index[:], user, made.Digest[:],
		made.Prefix, label, tx.now.UnixNano(), orNull(expires), keys.Current.KeyID())
	return err
}

// RevokeUserKey implements store.Store. A key that has expired is revoked too: a
// clock that is set back must not open it again.
func (s *Store) RevokeUserKey(ctx context.Context, by store.Actor, tenant store.TenantID, user, id string) (store.Result, error) {
	return s.write(ctx, "revoke API key", tenant, by, func(tx *writeTx) (*store.Written, error) {
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		all, err := tx.userKeyToRevoke(tenant, keys, user, id)
		if err != nil {
			return nil, err
		}
		key, w, err := store.UserKeyRevoked(all, indexUnder(keys.Current, tenant, policy.KindUser, user), id)
		if err != nil || w.Outcome == store.OutcomeUnchanged {
			return w, err
		}
		if _, err := tx.exec(sqlRevokeUserKey, tx.now.UnixNano(), key.ID); err != nil {
			return nil, err
		}
		return w, nil
	})
}

// userKeyToRevoke is the user's key of that id, or none. One that does not open may
// be taken away by whoever knows its id: the audit has the user that was named, and
// says that the label is not readable.
func (tx *writeTx) userKeyToRevoke(tenant store.TenantID, keys sealing.Keys, user, id string) ([]store.UserKey, error) {
	if !isText(id) {
		return nil, nil
	}
	var k userKeyScan
	switch err := tx.scan(sqlUserKeyOfID, []any{int64(tenant), id}, k.dest()...); {
	case isNoRows(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	key := k.found()
	sealKey := orZero(k.sealKey)
	held, err := tx.store.open(keys, sealKey, orZero(k.user), k.userPlace)
	if err == nil && held != user {
		return nil, nil
	}
	key.User = user
	key.Label = tx.store.openOrSay(keys, sealKey, orZero(k.label), k.labelPlace)
	return []store.UserKey{*key}, nil
}

// mustBeBacked refuses a user without an active API key where the tenant requires
// one. A tenant that is not there is left to what comes after.
func (tx *writeTx) mustBeBacked(tenant store.TenantID, kind policy.Kind, id string) error {
	if kind != policy.KindUser {
		return nil
	}
	var strict bool
	if err := tx.scan(sqlStrict, []any{int64(tenant)}, &strict); err != nil && !isNoRows(err) {
		return err
	}
	if !strict {
		return nil
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	all, err := tx.userKeys(tenant, keys, id)
	if err != nil {
		return err
	}
	var until int64
	for i := range all {
		switch k := &all[i]; {
		case !k.Revoked.IsZero():
		case k.Expires.IsZero():
			until = store.BackedForever
		default:
			until = max(until, k.Expires.UnixNano())
		}
	}
	if !policy.KeyBacked(strict, kind, until, tx.now.UnixNano()) {
		return fmt.Errorf("user %q: %w", id, store.ErrNotKeyBacked)
	}
	return nil
}
