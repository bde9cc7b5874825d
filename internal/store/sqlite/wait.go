package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"portcullis/internal/store"
)

const sqlDataVersion = `PRAGMA data_version`

// watcher notices commits. Those of this process ring; those of others show in
// SQLite's data version, which a connection of its own reads from shared memory.
type watcher struct {
	pool *pool
	ring chan struct{}
	poll time.Duration

	mu      sync.Mutex // held by Wait; guards what follows
	version int64      // the data version that was read before seen
	seen    store.Revision
}

func newWatcher(cfg Config) (*watcher, error) {
	p, err := openPool(cfg, watching)
	if err != nil {
		return nil, err
	}
	return &watcher{pool: p, ring: make(chan struct{}, 1), poll: cfg.PollInterval}, nil
}

func (w *watcher) close() error { return w.pool.close() }

// signal says that this process has committed a write.
func (w *watcher) signal() {
	select {
	case w.ring <- struct{}{}:
	default: // one is waiting to be heard already
	}
}

// Wait implements store.Reader. The first Wait returns at once: what was
// committed before it is not known to have been seen.
func (s *Store) Wait(ctx context.Context) error {
	if err := s.calling(ctx, s.watch.wait); err != nil {
		return fmt.Errorf("wait for a commit: %w", err)
	}
	return nil
}

func (w *watcher) wait(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	tick := time.NewTicker(w.poll)
	defer tick.Stop()
	for {
		moved := false
		err := w.pool.with(ctx, func(c *conn) (err error) {
			moved, err = w.moved(ctx, c)
			return err
		})
		if err != nil || moved {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ring:
		case <-tick.C:
		}
	}
}

// moved reports whether the revision is another than at the last time. The data
// version is read first: a commit that falls between the two reads is seen by
// the second, and costs one look more the next time.
func (w *watcher) moved(ctx context.Context, c *conn) (bool, error) {
	first := c.stmts[sqlDataVersion] == nil // data versions of two connections do not compare
	var version int64
	if err := c.scan(ctx, sqlDataVersion, nil, &version); err != nil {
		return false, err
	}
	if !first && version == w.version {
		return false, nil
	}
	// Sidecars' reports move the data version too; the revision tells.
	head, err := scanRevision(ctx, c, sqlRevision)
	if err != nil {
		c.bad = true // so that the next look takes nothing for granted
		return false, err
	}
	w.version = version
	if head == w.seen {
		return false, nil
	}
	w.seen = head
	return true, nil
}
