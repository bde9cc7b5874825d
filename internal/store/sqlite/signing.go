package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/store"
)

const (
	signingColumns = `kid, algorithm, jwk, created_at, coalesce(signs_at, 0), coalesce(expires_at, 0)`

	sqlSigningKeys = `SELECT ` + signingColumns + ` FROM signing_keys ORDER BY created_at, kid`

	sqlSigningKeysAlive = `SELECT ` + signingColumns + ` FROM signing_keys WHERE expires_at IS NULL OR expires_at > ? ORDER BY created_at, kid`

	sqlSigningKey = `SELECT ` + signingColumns + ` FROM signing_keys WHERE kid = ?`

	sqlInsertSigningKey = `INSERT INTO signing_keys (kid, algorithm, jwk, created_at) VALUES (?, ?, ?, ?)`

	sqlSignWith = `UPDATE signing_keys SET signs_at = ?, expires_at = NULL WHERE kid = ?`

	// Never later than they would.
	sqlRetireSigning = `UPDATE signing_keys SET expires_at = ?1
		WHERE kid <> ?2 AND signs_at IS NOT NULL AND (expires_at IS NULL OR expires_at > ?1)`

	sqlOthersSign = `SELECT EXISTS (SELECT 1 FROM signing_keys WHERE kid <> ? AND signs_at IS NOT NULL AND expires_at IS NULL)`

	sqlDeleteSigning = `DELETE FROM signing_keys WHERE kid = ?`
)

func scanSigningKey(scan func(dest ...any) error) (store.SigningKey, error) {
	var k store.SigningKey
	var created, signs, expires int64
	err := scan(&k.KeyID, &k.Algorithm, &k.JWK, &created, &signs, &expires)
	k.Created, k.Signs, k.Expires = store.FromNanos(created), store.FromNanos(signs), store.FromNanos(expires)
	return k, err
}

func signingKeys(ctx context.Context, c *conn, query string, in args) ([]store.SigningKey, error) {
	var list []store.SigningKey
	err := c.each(ctx, query, in, func(rows *sql.Rows) error {
		k, err := scanSigningKey(rows.Scan)
		list = append(list, k)
		return err
	})
	return list, err
}

// signingKey finds a key by its id: store.ErrNotFound.
func (tx *writeTx) signingKey(id string) (store.SigningKey, error) {
	k, err := scanSigningKey(func(dest ...any) error { return tx.scan(tx.ctx, sqlSigningKey, args{id}, dest...) })
	if absent(err) {
		err = fmt.Errorf("signing key %q: %w", id, store.ErrNotFound)
	}
	return k, err
}

// PublishSigningKey implements store.SigningKeys. When it was made is the store's
// to say.
func (s *Store) PublishSigningKey(ctx context.Context, by store.Actor, key store.SigningKey) (store.Result, error) {
	return s.write(ctx, "publish signing key", by, func(tx *writeTx) (*store.Written, error) {
		if err := key.Check(); err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Action:   store.ActionPublishSigning,
			Resource: store.SigningResource(key.KeyID),
		}
		switch there, err := tx.signingKey(key.KeyID); {
		case err == nil && (there.JWK != key.JWK || there.Algorithm != key.Algorithm):
			return nil, fmt.Errorf("signing key %q, with another public key: %w", key.KeyID, store.ErrExists)
		case err == nil:
			w.Before, w.After = there.State(), there.State()
			return w, nil
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
		if _, err := tx.exec(tx.ctx, sqlInsertSigningKey, key.KeyID, key.Algorithm, key.JWK, tx.now.UnixNano()); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.After = store.SigningState{Algorithm: key.Algorithm}
		w.Changes.Signing()
		return w, nil
	})
}

// SignWith implements store.SigningKeys. A key that signs again verifies without
// end again; others never verify for longer than they would have.
func (s *Store) SignWith(ctx context.Context, by store.Actor, keyID string, othersExpire time.Time) (store.Result, error) {
	return s.write(ctx, "sign with a key", by, func(tx *writeTx) (*store.Written, error) {
		key, err := tx.signingKey(keyID)
		if err != nil {
			return nil, err
		}
		w := &store.Written{
			Outcome:  store.OutcomeUnchanged,
			Action:   store.ActionSignWith,
			Resource: store.SigningResource(keyID),
			Before:   key.State(),
			After:    key.State(),
		}
		var others bool
		if err := tx.scan(tx.ctx, sqlOthersSign, args{keyID}, &others); err != nil {
			return nil, err
		}
		if !others && !key.Signs.IsZero() && key.Expires.IsZero() {
			return w, nil
		}
		until, err := store.ExpiryNanos(othersExpire)
		switch {
		case err != nil:
			return nil, fmt.Errorf("others: %w", err)
		case until == 0 && others:
			return nil, errors.New("others expire: is missing: say when the last token of the former key has expired")
		case until != 0:
			if _, err := tx.exec(tx.ctx, sqlRetireSigning, until, keyID); err != nil {
				return nil, err
			}
			w.Details = map[string]any{"others_expire": store.AuditTime(othersExpire)}
		}
		if _, err := tx.exec(tx.ctx, sqlSignWith, tx.now.UnixNano(), keyID); err != nil {
			return nil, err
		}
		w.Outcome = store.OutcomeDone
		w.After = store.SigningState{Algorithm: key.Algorithm, Signs: store.AuditTime(tx.now)}
		w.Changes.Signing()
		return w, nil
	})
}

// WithdrawSigningKey implements store.SigningKeys.
func (s *Store) WithdrawSigningKey(ctx context.Context, by store.Actor, keyID string) (store.Result, error) {
	return s.write(ctx, "withdraw signing key", by, func(tx *writeTx) (*store.Written, error) {
		key, err := tx.signingKey(keyID)
		if err != nil {
			return nil, err
		}
		return tx.dropSigning(store.SigningResource(keyID), []store.SigningKey{key})
	})
}

// PruneSigningKeys implements store.SigningKeys. One audit row tells of all keys
// that went.
func (s *Store) PruneSigningKeys(ctx context.Context, by store.Actor) error {
	_, err := s.write(ctx, "prune signing keys", by, func(tx *writeTx) (*store.Written, error) {
		all, err := signingKeys(tx.ctx, tx.conn, sqlSigningKeys, nil)
		if err != nil {
			return nil, err
		}
		var expired []store.SigningKey
		for _, k := range all {
			if !k.Expires.IsZero() && !tx.now.Before(k.Expires) {
				expired = append(expired, k)
			}
		}
		if len(expired) == 0 {
			return nil, errNoWrite
		}
		return tx.dropSigning(store.SigningResource("expired"), expired)
	})
	return err
}

func (tx *writeTx) dropSigning(resource string, gone []store.SigningKey) (*store.Written, error) {
	before := make(map[string]store.SigningState, len(gone))
	for i := range gone {
		if _, err := tx.exec(tx.ctx, sqlDeleteSigning, gone[i].KeyID); err != nil {
			return nil, err
		}
		before[gone[i].KeyID] = gone[i].State()
	}
	w := &store.Written{Outcome: store.OutcomeDone, Action: store.ActionWithdrawSigning, Resource: resource, Before: before}
	w.Changes.Signing()
	return w, nil
}

// SigningKeyList implements store.SigningKeys.
func (s *Store) SigningKeyList(ctx context.Context) ([]store.SigningKey, error) {
	var list []store.SigningKey
	err := s.borrowing(ctx, "list signing keys", func(ctx context.Context, c *conn) (err error) {
		list, err = signingKeys(ctx, c, sqlSigningKeys, nil)
		return err
	})
	return list, err
}
