package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"portcullis/internal/rotation"
	"portcullis/internal/store"
)

// exitCode is what a script branches on. The root command's help lists them.
type exitCode int

const (
	exitOK          exitCode = 0
	exitNo          exitCode = 1 // the answer is no: a denied check, a failed test, a thing that is not there
	exitUsage       exitCode = 2 // the command line or the configuration is wrong
	exitUnavailable exitCode = 3 // the store or the gate could not be asked
)

// failure is an error that knows its exit code. An empty text says that the
// command has printed its answer already.
type failure struct {
	code exitCode
	err  error
}

func (f *failure) Error() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// answerNo ends the command with exit code 1 and nothing more to say.
func answerNo() error { return &failure{code: exitNo} }

func usagef(format string, args ...any) error {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func refusedf(format string, args ...any) error {
	return &failure{code: exitNo, err: fmt.Errorf(format, args...)}
}

func unavailablef(format string, args ...any) error {
	return &failure{code: exitUnavailable, err: fmt.Errorf(format, args...)}
}

// judge is the one place that says which exit code an error has and what is
// written of it. An error that no command classified is a wrong command line
// (cobra's own), unless it comes from the store or from the way to it.
func judge(err error) (exitCode, string) {
	var f *failure
	var dial *pgconn.ConnectError
	var refused *pgconn.PgError
	var network *net.OpError // not net.Error, which every file system error is too
	switch {
	case errors.As(err, &f):
		return f.code, f.Error()
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExists),
		errors.Is(err, store.ErrRevoked), errors.Is(err, store.ErrCycle),
		errors.Is(err, store.ErrKeyCap), errors.Is(err, store.ErrNotKeyBacked):
		return exitNo, err.Error()
	case errors.Is(err, rotation.ErrSidecar):
		return exitNo, err.Error()
	case errors.Is(err, store.ErrSchema), errors.Is(err, store.ErrEncryption), errors.Is(err, store.ErrChain):
		return exitUsage, err.Error()
	case errors.Is(err, store.ErrUnreadable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &dial), errors.As(err, &refused), errors.As(err, &network), errors.Is(err, syscall.ENOSPC), sqliteAway(err):
		return exitUnavailable, err.Error()
	}
	return exitUsage, err.Error()
}

// sqliteAway reports whether SQLite's file could not be used just now, as
// opposed to being the wrong file.
func sqliteAway(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return true
	}
	return false
}
