package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
)

const (
	sqlReplay = `SELECT tenant_id, sealed, expires_at FROM portcullis.replays WHERE digest = $1`

	sqlRotationKnown = `
SELECT EXISTS (SELECT FROM portcullis.replays WHERE digest = $1), EXISTS (SELECT FROM portcullis.client_keys WHERE digest = $2)`

	sqlInsertReplay = `INSERT INTO portcullis.replays (digest, tenant_id, sealed, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`

	sqlRevokeFormer = `UPDATE portcullis.client_keys SET revoked_at = $1 WHERE id = ANY ($2)`

	sqlExpireFormer = `UPDATE portcullis.client_keys SET expires_at = $1 WHERE id = ANY ($2)`

	sqlPruneReplays = `DELETE FROM portcullis.replays WHERE expires_at <= $1`
)

// replayGrace is how long after its time a reply is remembered, to tell a late retry.
const replayGrace = 24 * time.Hour

// RotateKey implements store.KeyRotations. The reply is looked for first: the
// presented secret of a retry opens nothing any more where there is no overlap.
func (s *Store) RotateKey(ctx context.Context, by store.Actor, rotation store.KeyRotation) (store.ClientKey, store.Result, error) {
	var made store.ClientKey
	result, err := s.write(ctx, "rotate client key", rotation.Tenant, by, func(tx *writeTx) (*store.Written, error) {
		r := &rotation
		switch {
		case r.New.Tenant != r.Tenant || r.New.Name != r.Name:
			return nil, errors.New("new key: it is another client's: give it the tenant and the name of the former one")
		case r.Overlap < 0:
			return nil, fmt.Errorf("overlap: %s is below 0", r.Overlap)
		case r.ReplayUntil.IsZero():
			return nil, errors.New("replay until: is missing: say how long the reply is kept")
		}
		if err := mustBeText("reply", r.Reply); err != nil {
			return nil, err
		}
		until, err := store.ExpiryNanos(r.ReplayUntil)
		if err != nil {
			return nil, fmt.Errorf("replay until: %w", err)
		}
		var replayed, known bool
		if err := tx.scan(sqlRotationKnown, []any{r.ReplayID[:], r.New.Digest[:]}, &replayed, &known); err != nil {
			return nil, err
		}
		if replayed {
			return nil, fmt.Errorf("this rotation: %w", store.ErrExists)
		}
		former, err := tx.keysOfName(r.Tenant, r.Name)
		if err != nil {
			return nil, err
		}
		former = slices.DeleteFunc(former, func(k store.ClientKey) bool {
			return !k.Revoked.IsZero() || !k.Expires.IsZero() && !tx.now.Before(k.Expires)
		})
		if !slices.ContainsFunc(former, func(k store.ClientKey) bool { return k.Digest == r.Presented }) {
			return nil, fmt.Errorf("client key %q: the presented secret: %w", r.Name, store.ErrNotFound)
		}
		if known {
			return nil, fmt.Errorf("the new secret: %w", store.ErrExists)
		}
		w := &store.Written{}
		if made, err = tx.insertKey(r.New, w); err != nil {
			return nil, err
		}
		w.Action = store.ActionRotateKey
		b := &pgx.Batch{}
		if err := tx.retireKeys(b, former, r.Overlap, w); err != nil {
			return nil, err
		}
		b.Queue(sqlInsertReplay, r.ReplayID[:], int64(r.Tenant), r.Reply, tx.now.UnixNano(), until)
		return w, tx.SendBatch(tx.ctx, b).Close()
	})
	if err != nil {
		return store.ClientKey{}, store.Result{}, err
	}
	return made, result, nil
}

// retireKeys lets live secrets expire after the overlap, never later than they would
// have, or revokes them where there is none.
func (tx *writeTx) retireKeys(b *pgx.Batch, former []store.ClientKey, overlap time.Duration, w *store.Written) error {
	until, err := store.ExpiryNanos(tx.now.Add(overlap))
	if err != nil {
		return fmt.Errorf("overlap: %w", err)
	}
	var before store.ClientState
	var revoke, expire []int64
	for i := range former {
		k := &former[i]
		before.Keys = append(before.Keys, keyState(k))
		switch {
		case overlap == 0:
			revoke = append(revoke, k.ID)
		case k.Expires.IsZero() || k.Expires.UnixNano() > until:
			expire = append(expire, k.ID)
		}
		w.Changes.Key(k.Tenant, k.Digest, overlap == 0)
	}
	if len(revoke) > 0 {
		b.Queue(sqlRevokeFormer, until, revoke)
	}
	if len(expire) > 0 {
		b.Queue(sqlExpireFormer, until, expire)
	}
	w.Before = before
	w.Details = map[string]any{"former_expire": store.AuditTime(store.FromNanos(until))}
	return nil
}

// Replay implements store.KeyRotations.
func (s *Store) Replay(ctx context.Context, id store.Digest) (store.TenantID, string, error) {
	var tenant store.TenantID
	var sealed string
	err := s.try(ctx, "read a reply", func(ctx context.Context) error {
		var expires int64
		err := s.pool.QueryRow(ctx, sqlReplay, id[:]).Scan(&tenant, &sealed, &expires)
		switch {
		case isNoRows(err):
			return store.ErrNotFound
		case err == nil && expires <= s.now().UnixNano():
			return store.ErrExpired
		}
		return err
	})
	if err != nil {
		return 0, "", err
	}
	return tenant, sealed, nil
}

// PruneReplays implements store.KeyRotations.
func (s *Store) PruneReplays(ctx context.Context) error {
	return s.try(ctx, "prune replies", func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, sqlPruneReplays, s.now().Add(-replayGrace).UnixNano())
		return err
	})
}
