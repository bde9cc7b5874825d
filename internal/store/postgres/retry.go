package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxAttempts bounds how often one call is tried. A server that restarts leaves
// dead connections in the pool, and each may cost an attempt.
const maxAttempts = 8

// Codes of Postgres (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	codeSerialization  = "40001"
	codeDeadlock       = "40P01"
	codeCheck          = "23514"
	codeReadOnly       = "25006" // the primary has become a standby under us
	codeAdminShutdown  = "57P01"
	codeCrashShutdown  = "57P02"
	codeCannotConnect  = "57P03" // starting up, or shutting down
	classConnection    = "08"
	codeBadCachedPlan  = "0A000" // "cached plan must not change result type", after a migration
	codeIdleInTransact = "25P03"
)

// conflicted reports whether the server rolled the transaction back for the sake
// of another one: the same again may well succeed.
func conflicted(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case codeSerialization, codeDeadlock:
		return true
	case codeCheck:
		// The partition of the row's month was attached while it was on its way to
		// the default one.
		return pg.SchemaName == "portcullis" && pg.TableName == "audit_default" && pg.ConstraintName == ""
	}
	return false
}

// final is an error that must not lead to another attempt, whatever it wraps.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// disconnected reports whether the connection is gone, or leads to a server that
// does not serve (any more): what it was doing has been rolled back, unless it
// was committing.
func disconnected(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case codeReadOnly, codeAdminShutdown, codeCrashShutdown, codeCannotConnect, codeIdleInTransact:
			return true
		}
		return len(pg.Code) == 5 && pg.Code[:2] == classConnection
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	// What is no answer of the server is a broken connection, or the failure to
	// make one.
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// stalePlan reports whether a prepared statement outlived a change of the tables.
func stalePlan(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == codeBadCachedPlan
}

// again runs do until it succeeds, fails for good, or ctx ends. do must have
// been undone wholly where retry says that its error is worth another attempt.
func again(ctx context.Context, pool *pgxpool.Pool, do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		var last final
		switch {
		case errors.As(err, &last):
			return last.error
		case err == nil || attempt == maxAttempts || ctx.Err() != nil:
			return err
		case disconnected(err):
			// The other idle connections lead to the same dead server.
			pool.Reset()
		case conflicted(err), stalePlan(err):
		default:
			return err
		}
		if attempt == 1 {
			continue // a stale connection: the next one is new
		}
		// 10, 20, 40 ... ms, half of it by chance: several callers part.
		wait := 10 * time.Millisecond << (attempt - 2)
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// try runs one call of the contract, again where that may help, and names it in
// its error. Close ends it.
func (s *Store) try(ctx context.Context, what string, do func(ctx context.Context) error) error {
	call, cancel := s.untilClosed(ctx)
	defer cancel()
	err := again(call, s.pool, func() error { return do(call) })
	switch {
	case err == nil:
		return nil
	case s.closing.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("%s: %w", what, errClosed)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// untilClosed returns a context that ends with ctx or with the store.
func (s *Store) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	call, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.closing, cancel)
	return call, func() {
		stop()
		cancel()
	}
}
