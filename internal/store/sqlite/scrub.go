package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// scrub takes what was overwritten out of the file: VACUUM writes every page anew,
// and the WAL, which holds pages as they were, is cut to nothing. It needs room for
// the database once more, in memory and on the disk, and writes wait for it. A
// checkpoint cannot cut the WAL under a reader: it is tried until none is in the way.
func (s *Store) scrub(ctx context.Context) error {
	err := s.calling(ctx, func(ctx context.Context) error {
		return s.writer.with(ctx, func(c *conn) error {
			if _, err := c.exec(ctx, `VACUUM`); err != nil {
				return err
			}
			for deadline := time.Now().Add(s.cfg.LockTimeout); ; {
				var busy, log, done int64
				err := c.scan(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`, nil, &busy, &log, &done)
				if err != nil || busy == 0 {
					return err
				}
				if time.Now().After(deadline) {
					return errors.New("a reader holds the write-ahead log open: run it again")
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	})
	if err != nil {
		return fmt.Errorf("take out of the file what the rotation replaced: %w", err)
	}
	return nil
}
