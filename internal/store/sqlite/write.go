package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// errNoWrite is what the work of a write returns when it wrote nothing and the
// revision is to stay as it is.
var errNoWrite = errors.New("nothing was written")

// writeTx is a write in progress: it holds the lock on the revision row.
type writeTx struct {
	*conn
	store *Store
	ctx   context.Context
	now   time.Time
	head  store.Revision // the last committed write
	trail *trail
	held  map[store.TenantID]sealing.Keys // what was read of tenants' keys, or given them
}

const (
	sqlBeginWrite = `BEGIN IMMEDIATE`

	sqlLockRevision = `UPDATE revision SET number = number WHERE only_row = 1 RETURNING number, tag`

	sqlBumpRevision = `UPDATE revision SET number = ?, tag = ? WHERE only_row = 1`

	sqlLogRevision = `INSERT INTO revision_log (revision, tag, committed_at, ack) VALUES (?, ?, ?, ?)`

	sqlLogChange = `INSERT INTO change_log (revision, n, kind, tenant_id, principal_index, digest, gone, issued_before, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// write is the one way in which the tables of the contract change: one
// transaction that locks the revision row, runs fn, adds the audit row and the
// change rows, and bumps the revision with a new random tag. It returns after
// the commit. An error from fn undoes everything and comes back.
func (s *Store) write(ctx context.Context, what string, by store.Actor, fn func(tx *writeTx) (*store.Written, error)) (store.Result, error) {
	var result store.Result
	err := s.writing(ctx, func(ctx context.Context, c *conn) error {
		tx := &writeTx{conn: c, store: s, ctx: ctx, now: s.cfg.Now()}
		var err error
		if tx.head, err = scanRevision(ctx, c, sqlLockRevision); err != nil {
			return fmt.Errorf("lock the revision: %w", err)
		}
		if tx.trail, err = s.openTrail(ctx, c); err != nil {
			return err
		}
		w, err := fn(tx)
		if errors.Is(err, errNoWrite) {
			result = store.Result{Revision: tx.head, Outcome: store.OutcomeUnchanged}
			return errNoWrite
		}
		if err != nil {
			return err
		}
		next := store.Revision{Number: tx.head.Number + 1}
		rand.Read(next.Tag[:]) // never fails: it ends the program instead
		if err := tx.finish(next, by, w); err != nil {
			return err
		}
		result = store.Result{Revision: next, Outcome: w.Outcome}
		return nil
	})
	switch {
	case errors.Is(err, errNoWrite):
		return result, nil
	case err != nil:
		return store.Result{}, fmt.Errorf("%s: %w", what, err)
	}
	s.watch.signal()
	return result, nil
}

func (tx *writeTx) finish(next store.Revision, by store.Actor, w *store.Written) error {
	if err := tx.record(next, by, w); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	for n, change := range w.Changes.Rows(next.Number) {
		var index, digest any
		switch change.Kind {
		case store.ChangeGrant:
			index = change.Index[:]
		case store.ChangeKey, store.ChangeDenial:
			digest = change.Digest[:]
		}
		_, err := tx.exec(tx.ctx, sqlLogChange, next.Number, n, int64(change.Kind), int64(change.Tenant), index, digest, change.Gone,
			change.Before, change.Expires)
		if err != nil {
			return fmt.Errorf("log the change: %w", err)
		}
	}
	if _, err := tx.exec(tx.ctx, sqlLogRevision, next.Number, next.Tag[:], tx.now.UnixNano(), by.Ack); err != nil {
		return fmt.Errorf("log the revision: %w", err)
	}
	if _, err := tx.exec(tx.ctx, sqlBumpRevision, next.Number, next.Tag[:]); err != nil {
		return fmt.Errorf("bump the revision: %w", err)
	}
	return nil
}

// record adds the write's row to the audit, unless that is turned off.
func (tx *writeTx) record(next store.Revision, by store.Actor, w *store.Written) error {
	if !tx.trail.enabled {
		return nil
	}
	entry, err := w.Entry(by, tx.now, next.Number)
	if err != nil {
		return err
	}
	keys, err := tx.keys(entry.Tenant)
	if err != nil {
		return err
	}
	return tx.trail.add(tx.ctx, keys.Current, entry)
}

// writing runs fn in a transaction that holds SQLite's write lock, and commits
// unless fn returns an error. fn may run again where the lock was not to be had.
func (s *Store) writing(ctx context.Context, fn func(ctx context.Context, c *conn) error) error {
	return s.calling(ctx, func(ctx context.Context) error {
		return s.writer.with(ctx, func(c *conn) error {
			if err := c.begin(ctx, sqlBeginWrite); err != nil {
				return err
			}
			if err := fn(ctx, c); err != nil {
				c.rollback()
				return err
			}
			return c.commit(ctx)
		})
	})
}
