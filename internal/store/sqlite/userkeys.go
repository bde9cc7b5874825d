package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	// One statement, and so one snapshot. No such key is one row without an id.
	sqlUserKey = `SELECT ` + pairColumns + `, r.number, r.tag, u.id, coalesce(u.seal_key_id, 0), coalesce(u.key_id, ''), coalesce(u.tenant_id, 0),
			coalesce(u.user_id, ''), u.digest, coalesce(u.prefix, ''), coalesce(u.label, ''),
			coalesce(u.created_at, 0), coalesce(u.expires_at, 0), coalesce(u.revoked_at, 0), coalesce(u.last_used_at, 0)
		FROM revision AS r LEFT JOIN user_keys AS u ON u.digest = ? LEFT JOIN tenant_keys AS k ON k.tenant_id = u.tenant_id`

	// By index, not by name: it is what a sealed store can look up. Ids grow with time.
	sqlUserKeysOf = `SELECT id, seal_key_id, key_id, tenant_id, user_id, digest, prefix, label, created_at,
			coalesce(expires_at, 0), coalesce(revoked_at, 0), coalesce(last_used_at, 0)
		FROM user_keys WHERE tenant_id = ? AND principal_index IN (?, ?) ORDER BY id`

	sqlUserKeyOfID = `SELECT id, seal_key_id, key_id, tenant_id, user_id, digest, prefix, label, created_at,
			coalesce(expires_at, 0), coalesce(revoked_at, 0), coalesce(last_used_at, 0)
		FROM user_keys WHERE key_id = ?2 AND tenant_id = ?1`

	sqlUserKeyKnown = `SELECT EXISTS (SELECT 1 FROM user_keys WHERE digest = ?)`

	sqlInsertUserKey = `INSERT INTO user_keys (id, seal_key_id, key_id, tenant_id, principal_index, user_id, digest, prefix, label, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlRevokeUserKey = `UPDATE user_keys SET revoked_at = ? WHERE key_id = ?`

	// Until when the principal's API keys back it: ?1 is the tenant, ?2 and ?3 the indexes.
	sqlKeyBacked = `SELECT coalesce(max(coalesce(u.expires_at, 9223372036854775807)), 0)
		FROM user_keys AS u WHERE u.tenant_id = ?1 AND u.principal_index IN (?2, ?3) AND u.revoked_at IS NULL`

	sqlStrict = `SELECT t.strict_users, (` + sqlKeyBacked + `) FROM tenants AS t WHERE t.id = ?1`
)

// userKeyRow is a row of user_keys as it lies in the table: of the key, User and
// Label are sealed.
type userKeyRow struct {
	id, under int64
	key       store.UserKey
}

func scanUserKey(scan func(dest ...any) error) (userKeyRow, error) {
	var r userKeyRow
	var created, expires, revoked, used int64
	k := &r.key
	err := scan(&r.id, &r.under, &k.ID, &k.Tenant, &k.User, digestOf(&k.Digest), &k.Prefix, &k.Label, &created, &expires, &revoked, &used)
	k.Created, k.Expires = store.FromNanos(created), store.FromNanos(expires)
	k.Revoked, k.LastUsed = store.FromNanos(revoked), store.FromNanos(used)
	return r, err
}

func (r *userKeyRow) places() (user, label sealing.Place) {
	k := &r.key
	return sealing.UserKeyUser(r.id, int64(k.Tenant), k.ID, k.Digest), sealing.UserKeyLabel(r.id, int64(k.Tenant), k.ID, k.Digest)
}

// seal is what the columns of the key's user and label hold.
func (r *userKeyRow) seal(key *sealing.Key) (user, label string, err error) {
	userPlace, labelPlace := r.places()
	if user, err = key.Seal(userPlace, r.key.User); err != nil {
		return "", "", err
	}
	label, err = key.Seal(labelPlace, r.key.Label)
	return user, label, err
}

// openUserKey gives the key with its user and label.
func (s *Store) openUserKey(ctx context.Context, keys sealing.Keys, r userKeyRow) (store.UserKey, error) {
	user, label := r.places()
	k := r.key
	var err error
	if k.User, err = s.open(ctx, keys, r.under, user, r.key.User); err != nil {
		return store.UserKey{}, err
	}
	if k.Label, err = s.open(ctx, keys, r.under, label, r.key.Label); err != nil {
		return store.UserKey{}, err
	}
	return k, nil
}

// UserKey implements store.Reader.
func (s *Store) UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error) {
	var row store.UserKeyRow
	err := s.borrowing(ctx, "load API key", func(ctx context.Context, c *conn) error {
		for range pairAttempts {
			row = store.UserKeyRow{}
			var there sql.NullInt64
			var pair sealing.Pair
			found, err := scanUserKey(func(dest ...any) error {
				dest[0] = &there
				return c.scan(ctx, sqlUserKey, args{digest[:]}, append(append(scanPair(&pair), &row.Revision.Number, tagOf(&row.Revision.Tag)), dest...)...)
			})
			if err != nil || !there.Valid {
				return err
			}
			found.id = there.Int64
			keys, err := s.keysOf(ctx, c, found.key.Tenant, pair)
			if errors.Is(err, sealing.ErrKeyGone) {
				continue // retired since the row was read
			}
			if err != nil {
				return err
			}
			key, err := s.openUserKey(ctx, keys, found)
			row.Key = &key
			return err
		}
		return fmt.Errorf("the keys of its tenant were not to be had in %d attempts: restore a backup", pairAttempts)
	})
	if err != nil {
		return store.UserKeyRow{}, err
	}
	return row, nil
}

// UserKeyList implements store.Store.
func (s *Store) UserKeyList(ctx context.Context, tenant store.TenantID, user string) ([]store.UserKey, error) {
	var list []store.UserKey
	err := s.reading(ctx, "list API keys", func(ctx context.Context, c *conn) error {
		list = nil
		keys, err := s.readKeys(ctx, c, tenant)
		if err != nil {
			return err
		}
		all, err := userKeys(ctx, c, keys, tenant, user)
		if err != nil {
			return err
		}
		for _, r := range all {
			k, err := s.openUserKey(ctx, keys, r)
			if err == nil && k.User != user {
				place, _ := r.places()
				err = s.strange(ctx, place, whyIndex)
			}
			if err != nil {
				return err
			}
			list = append(list, k)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// userKeys finds the API keys of a user by index, and opens nothing.
func userKeys(ctx context.Context, c *conn, keys sealing.Keys, tenant store.TenantID, user string) ([]userKeyRow, error) {
	current, former := indexes(keys, tenant, policy.KindUser, user)
	var list []userKeyRow
	err := c.each(ctx, sqlUserKeysOf, args{int64(tenant), current[:], former[:]}, func(rows *sql.Rows) error {
		r, err := scanUserKey(rows.Scan)
		list = append(list, r)
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
		keys, err := tx.keys(key.Tenant)
		if err != nil {
			return nil, err
		}
		rows, err := userKeys(tx.ctx, tx.conn, keys, key.Tenant, key.User)
		if err != nil {
			return nil, err
		}
		if err := store.UnderKeyCap(sealedKeys(rows), tx.now); err != nil {
			return nil, err
		}
		index, err := tx.insertUserKey(keys.Current, &made, expires)
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

// sealedKeys are the keys as they lie in the table.
func sealedKeys(rows []userKeyRow) []store.UserKey {
	all := make([]store.UserKey, len(rows))
	for i := range rows {
		all[i] = rows[i].key
	}
	return all
}

func (tx *writeTx) insertUserKey(key *sealing.Key, made *store.UserKey, expires int64) (store.Index, error) {
	index := indexUnder(key, made.Tenant, policy.KindUser, made.User)
	id, err := newID(tx.ctx, tx.conn, key, sqlNextUserKey)
	if err != nil {
		return index, err
	}
	row := userKeyRow{id: id.Int64, key: *made}
	user, label, err := row.seal(key)
	if err != nil {
		return index, err
	}
	_, err = tx.exec(tx.ctx, sqlInsertUserKey, id, key.KeyID(), made.ID, int64(made.Tenant), index[:], user, made.Digest[:],
		made.Prefix, label, tx.now.UnixNano(), nullable(expires))
	return index, err
}

// RevokeUserKey implements store.Store. A key that has expired is revoked too: a
// clock that is set back must not open it again.
func (s *Store) RevokeUserKey(ctx context.Context, by store.Actor, tenant store.TenantID, user, id string) (store.Result, error) {
	return s.write(ctx, "revoke API key", by, func(tx *writeTx) (*store.Written, error) {
		keys, err := tx.keys(tenant)
		if err != nil {
			return nil, err
		}
		all, err := tx.userKeyToRevoke(tenant, keys, user, id)
		if err != nil {
			return nil, err
		}
		index := indexUnder(keys.Current, tenant, policy.KindUser, user)
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

// userKeyToRevoke is the user's key of that id, or none. It is found by its id: of a
// key that a rotation left as it was, nobody knows the index. One that does not open
// may be taken away by whoever knows its id: the audit has the user that was named,
// and says that the label is not readable.
func (tx *writeTx) userKeyToRevoke(tenant store.TenantID, keys sealing.Keys, user, id string) ([]store.UserKey, error) {
	var found []userKeyRow
	err := tx.each(tx.ctx, sqlUserKeyOfID, args{int64(tenant), id}, func(rows *sql.Rows) error {
		row, err := scanUserKey(rows.Scan)
		found = append(found, row)
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	row := found[0]
	key := row.key
	userPlace, labelPlace := row.places()
	held, err := tx.store.open(tx.ctx, keys, row.under, userPlace, key.User)
	switch {
	case err == nil && held != user:
		return nil, nil
	case err != nil && !errors.Is(err, store.ErrUnreadable):
		return nil, err
	}
	key.User = user
	key.Label, err = tx.store.open(tx.ctx, keys, row.under, labelPlace, key.Label)
	if errors.Is(err, store.ErrUnreadable) {
		key.Label, err = store.Unreadable, nil
	}
	return []store.UserKey{key}, err
}

// backedUntil is until when a user's API keys back it, by those that open and are
// its own: one that does not open is counted and logged, and backs nobody. It must
// run inside a snapshot.
func (s *Store) backedUntil(ctx context.Context, c *conn, keys sealing.Keys, tenant store.TenantID, user string) (int64, error) {
	all, err := userKeys(ctx, c, keys, tenant, user)
	if err != nil {
		return 0, err
	}
	var until int64
	for _, r := range all {
		if !r.key.Revoked.IsZero() {
			continue
		}
		place, _ := r.places()
		held, err := s.open(ctx, keys, r.under, place, r.key.User)
		switch {
		case errors.Is(err, store.ErrUnreadable):
			continue
		case err != nil:
			return 0, err
		case held != user:
			_ = s.strange(ctx, place, whyIndex) // counted and logged
			continue
		}
		if r.key.Expires.IsZero() {
			return store.BackedForever, nil
		}
		until = max(until, r.key.Expires.UnixNano())
	}
	return until, nil
}

// mustBeBacked refuses a user without an active API key where the tenant requires
// one. A tenant that is not there is left to what comes after.
func (tx *writeTx) mustBeBacked(tenant store.TenantID, kind policy.Kind, id string) error {
	if kind != policy.KindUser {
		return nil
	}
	keys, err := tx.keys(tenant)
	if err != nil {
		return err
	}
	current, former := indexes(keys, tenant, kind, id)
	var strict bool
	var until int64
	if err := tx.scan(tx.ctx, sqlStrict, args{int64(tenant), current[:], former[:]}, &strict, &until); err != nil && !absent(err) {
		return err
	}
	if strict && until != 0 && keys.Pair != (sealing.Pair{}) {
		if until, err = tx.store.backedUntil(tx.ctx, tx.conn, keys, tenant, id); err != nil {
			return err
		}
	}
	if !policy.KeyBacked(strict, kind, until, tx.now.UnixNano()) {
		return fmt.Errorf("user %q: %w", id, store.ErrNotKeyBacked)
	}
	return nil
}
