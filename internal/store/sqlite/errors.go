package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// code is the primary result code that SQLite gave, 0 where err is not its.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// explain puts what an operator can do before SQLite's own words.
func explain(path string, err error) error {
	if noRoomForShm(err) {
		return noRoom(path, err)
	}
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s is locked by another process: find it with `fuser %s`: %w", path, path, err)
	case sqlite3.SQLITE_FULL:
		return noRoom(path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s cannot be written: make the file, its -wal and -shm, and its directory writable for this user, on a file system mounted read-write: %w", path, err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s cannot be opened: the directory %s must exist and be writable for this user, on a file system mounted read-write: %w", path, filepath.Dir(path), err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s is not a SQLite database: name another file: %w", path, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s is damaged: restore a backup: %w", path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%s cannot be read or written: look at its disk: %w", path, err)
	}
	return err
}

func noRoom(path string, err error) error {
	return fmt.Errorf("no room to write %s: free space on its disk; nothing of this write was kept: %w", path, err)
}

// noRoomForShm reports whether the -shm file could not grow, which a full disk
// leads to: SQLite has a general I/O error for it.
func noRoomForShm(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE
}

// explainCreate is explain for a file that the system would not make.
func explainCreate(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("no room to create %s: free space on its disk: %w", path, err)
	}
	return fmt.Errorf("%s cannot be created: make the directory %s writable for this user, on a file system mounted read-write, or name another file: %w",
		path, filepath.Dir(path), err)
}

// isTaken reports whether a UNIQUE index has such a row already. The statement did
// nothing, and its transaction goes on.
func isTaken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
}

// retryBusy is retryBusy on the store's own terms, counted.
func (s *Store) retryBusy(ctx context.Context, fn func() error) error {
	return retryBusy(ctx, s.cfg.LockTimeout, func() error {
		err := fn()
		if isBusy(err) {
			s.busy.Add(1)
		}
		return err
	})
}

func isBusy(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}

// retryBusy runs fn until it returns something other than SQLite's "busy", for
// as long as ctx and timeout allow. fn must leave no transaction behind.
//
// SQLite waits for a lock by itself, but not where waiting could be a deadlock
// (recovery, the change to WAL), and not past its own timeout.
func retryBusy(ctx context.Context, timeout time.Duration, fn func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		err := fn()
		if !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		pause := time.NewTimer(time.Millisecond + rand.N(9*time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// missing reports whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }
