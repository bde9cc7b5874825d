package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"portcullis/internal/store"
)

const (
	sqlReplay = `SELECT tenant_id, sealed, expires_at FROM replays WHERE digest = ?`

	sqlReplayKnown = `SELECT EXISTS (SELECT 1 FROM replays WHERE digest = ?)`

	sqlInsertReplay = `INSERT INTO replays (digest, tenant_id, sealed, created_at, expires_at) VALUES (?, ?, ?, ?, ?)`

	sqlPruneReplays = `DELETE FROM replays WHERE expires_at <= ?`
)

// replayGrace is how long after its time a reply is remembered, to tell a late retry.
const replayGrace = 24 * time.Hour

// RotateKey implements store.KeyRotations. The reply is looked for first: the
// presented secret of a retry opens nothing any more where there is no overlap.
func (s *Store) RotateKey(ctx context.Context, by store.Actor, rotation store.KeyRotation) (store.ClientKey, store.Result, error) {
	var made store.ClientKey
	result, err := s.write(ctx, "rotate client key", by, func(tx *writeTx) (*store.Written, error) {
		r := &rotation
		switch {
		case r.New.Tenant != r.Tenant || r.New.Name != r.Name:
			return nil, errors.New("new key: it is another client's: give it the tenant and the name of the former one")
		case r.Overlap < 0:
			return nil, fmt.Errorf("overlap: %s is below 0", r.Overlap)
		case r.ReplayUntil.IsZero():
			return nil, errors.New("replay until: is missing: say how long the reply is kept")
		}
		var replayed bool
		if err := tx.scan(tx.ctx, sqlReplayKnown, args{r.ReplayID[:]}, &replayed); err != nil {
			return nil, err
		}
		if replayed {
			return nil, fmt.Errorf("this rotation: %w", store.ErrExists)
		}
		all, err := keys(tx.ctx, tx.conn, sqlKeysOfName, args{int64(r.Tenant), r.Name})
		if err != nil {
			return nil, err
		}
		former := slices.DeleteFunc(all, func(k store.ClientKey) bool {
			return !k.Revoked.IsZero() || !k.Expires.IsZero() && !tx.now.Before(k.Expires)
		})
		if !slices.ContainsFunc(former, func(k store.ClientKey) bool { return k.Digest == r.Presented }) {
			return nil, fmt.Errorf("client key %q: the presented secret: %w", r.Name, store.ErrNotFound)
		}
		known, _, err := tx.knownKey(r.New.Digest)
		if err != nil {
			return nil, err
		}
		if known {
			return nil, fmt.Errorf("the new secret: %w", store.ErrExists)
		}
		w := &store.Written{}
		if made, err = tx.insertKey(r.New, w); err != nil {
			return nil, err
		}
		w.Action = store.ActionRotateKey
		if err := tx.retire(former, r.Overlap, w); err != nil {
			return nil, err
		}
		until, err := store.ExpiryNanos(r.ReplayUntil)
		if err != nil {
			return nil, fmt.Errorf("replay until: %w", err)
		}
		_, err = tx.exec(tx.ctx, sqlInsertReplay, r.ReplayID[:], int64(r.Tenant), r.Reply, tx.now.UnixNano(), until)
		return w, err
	})
	if err != nil {
		return store.ClientKey{}, store.Result{}, err
	}
	return made, result, nil
}

// retire lets live secrets expire after the overlap, never later than they would
// have, or revokes them where there is none.
func (tx *writeTx) retire(former []store.ClientKey, overlap time.Duration, w *store.Written) error {
	until, err := store.ExpiryNanos(tx.now.Add(overlap))
	if err != nil {
		return fmt.Errorf("overlap: %w", err)
	}
	var before store.ClientState
	for i := range former {
		k := &former[i]
		before.Keys = append(before.Keys, keyState(k))
		switch {
		case overlap == 0:
			_, err = tx.exec(tx.ctx, sqlRevokeKey, until, k.ID)
		case k.Expires.IsZero() || k.Expires.UnixNano() > until:
			_, err = tx.exec(tx.ctx, sqlExpireKey, until, k.ID)
		}
		if err != nil {
			return err
		}
		w.Changes.Key(k.Tenant, k.Digest, overlap == 0)
	}
	w.Before = before
	w.Details = map[string]any{"former_expire": store.AuditTime(store.FromNanos(until))}
	return nil
}

// Replay implements store.KeyRotations.
func (s *Store) Replay(ctx context.Context, id store.Digest) (store.TenantID, string, error) {
	var tenant store.TenantID
	var sealed string
	err := s.borrowing(ctx, "read a reply", func(ctx context.Context, c *conn) error {
		var expires int64
		err := c.scan(ctx, sqlReplay, args{id[:]}, &tenant, &sealed, &expires)
		switch {
		case absent(err):
			return store.ErrNotFound
		case err == nil && expires <= s.cfg.Now().UnixNano():
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
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, sqlPruneReplays, s.cfg.Now().Add(-replayGrace).UnixNano())
		return err
	})
	if err != nil {
		return fmt.Errorf("prune replies: %w", err)
	}
	return nil
}
