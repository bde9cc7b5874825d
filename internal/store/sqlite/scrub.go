package sqlite

import (
	"context"
	"fmt"
	"time"
)

// scrubPause is how long a scrub leaves the file alone between two tries to cut the
// WAL. Each try may hold the lock of writers for as long as SQLite waits by itself
// (see dsn), so that other processes' writes get in between.
const scrubPause = 100 * time.Millisecond

// scrub takes what was overwritten out of the file: VACUUM writes every page anew,
// and the WAL, which holds pages as they were, is cut to nothing. VACUUM needs room
// for the database once more in memory, and twice on the disk (the WAL holds all of
// it before the file does); writes wait for it, reads do not.
//
// The WAL cannot be cut under a reader. Reads of this program are short; where one
// stays for longer than LockTimeout it is a backup, or another program's, and scrub
// fails: what it is to take out may still be there, and nobody would come back for
// it if the rotation had ended.
func (s *Store) scrub(ctx context.Context) error {
	err := s.calling(ctx, func(ctx context.Context) error {
		return s.writer.with(ctx, func(c *conn) error {
			_, err := c.exec(ctx, `VACUUM`)
			return err
		})
	})
	if err == nil {
		err = s.cutWAL(ctx)
	}
	if err != nil {
		return fmt.Errorf("take out of the file what the rotation replaced: %w", err)
	}
	return nil
}

// cutWAL writes all of the WAL to the file, and cuts it to nothing.
func (s *Store) cutWAL(ctx context.Context) error {
	for deadline := time.Now().Add(s.cfg.LockTimeout); ; {
		var busy, log, done int64
		err := s.calling(ctx, func(ctx context.Context) error {
			return s.writer.with(ctx, func(c *conn) error {
				return c.scan(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`, nil, &busy, &log, &done)
			})
		})
		switch {
		case err != nil || busy == 0:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("something has read from %s for longer than %s and still does (a backup, another program), so that %s-wal cannot be cut: "+
				"find it with `fuser %s`, let it end, and run the same command again, which goes on from here", s.cfg.Path, s.cfg.LockTimeout, s.cfg.Path, s.cfg.Path)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing.Done():
			return errClosed
		case <-time.After(scrubPause):
		}
	}
}
