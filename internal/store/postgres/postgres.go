// Package postgres is the store in a Postgres database, for any number of
// sidecars and admin processes over one primary. Everything lives in the schema
// `portcullis` (docs/design/postgres.md says why).
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// Config says which database to open, and how.
type Config struct {
	// URL names the database: postgres://user:password@host:5432/name?sslmode=...
	// or libpq's keyword form. Several hosts may be listed; the primary among them
	// is used, whatever target_session_attrs says.
	URL string
	// Allow is AllowPlaintext where connections may go to other machines without
	// TLS; else such a URL is a *PlaintextError.
	Allow Allowance
	// Logger hears of lost and regained LISTEN connections, and of values that do not
	// open. Nil discards.
	Logger *slog.Logger
	// MaxConns bounds the pool; the LISTEN connection comes on top. Zero is the
	// URL's pool_max_conns, else 4 or the number of processors, the greater.
	MaxConns int
	// ReadOnly is for a sidecar, which writes nothing but reports: it may run on a
	// newer schema for longer than an admin process can.
	ReadOnly bool
	// Masters are the master keys of AUTH_ENCRYPTION_KEY. Nil is none: a database
	// whose fields are sealed does not open then. With some, a database in clear opens
	// as well.
	Masters *sealing.Masters
	// AuditKeys are the keys of AUTH_AUDIT_KEY, of which the first wraps the secret of the
	// audit's chain, before Masters do. Where the audit is chained, and neither opens the
	// secret, the store does not open, unless it is ReadOnly.
	AuditKeys *sealing.Masters
	// Now is the clock of created, revoked and audit times. Nil is time.Now.
	Now func() time.Time
}

// Store is a store.Store in a Postgres database. It is safe for concurrent use.
type Store struct {
	pool       *pgxpool.Pool
	now        func() time.Time
	log        *slog.Logger
	listener   *listener
	readOnly   bool
	ring       *sealing.Ring
	unreadable *prometheus.CounterVec
	teller     sealing.Teller
	chainKeys  sealing.ChainKeys
	chain      atomic.Pointer[openedChain] // as it was opened last; nil: not yet

	closing   context.Context // done once Close has begun
	cancel    context.CancelFunc
	closeOnce sync.Once
}

// errClosed is what calls get once Close has begun.
var errClosed = errors.New("the store is closed")

var _ store.Store = (*Store)(nil)

// Open connects to the database and checks its schema, which it never changes.
// Errors that callers branch on: store.ErrSchema for a schema that is older than
// this program needs, or newer than it knows, store.ErrEncryption where the
// masters do not open the database, and store.ErrChain where no key opens its audit's
// chain. Close the store when done.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	pool, err := cfg.pool()
	if err != nil {
		return nil, fmt.Errorf("open Postgres store: %w", err)
	}
	s, err := open(ctx, cfg, pool)
	if err != nil {
		return nil, fmt.Errorf("open Postgres store: %w", err)
	}
	return s, nil
}

func (c Config) pool() (*pgxpool.Config, error) {
	pool, err := parseURL(c.URL, c.Allow)
	switch {
	case err != nil:
		return nil, err
	case c.MaxConns < 0 || c.MaxConns > 10_000:
		return nil, fmt.Errorf("max conns: %d is outside 0 to 10000", c.MaxConns)
	case c.MaxConns > 0:
		pool.MaxConns = int32(c.MaxConns)
	}
	return pool, nil
}

func open(ctx context.Context, cfg Config, poolConfig *pgxpool.Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, pool, cfg.ReadOnly); err != nil {
		pool.Close()
		return nil, explainTLS(err)
	}
	if err := checkMasters(ctx, pool, cfg.Masters); err != nil {
		pool.Close()
		return nil, err
	}
	s := &Store{pool: pool, now: cfg.Now, log: cfg.Logger, readOnly: cfg.ReadOnly, ring: sealing.NewRing(cfg.Masters), unreadable: newUnreadableTotal()}
	s.chainKeys = sealing.ChainKeys{Audit: cfg.AuditKeys, Encryption: cfg.Masters}
	if !cfg.ReadOnly { // a sidecar neither writes the audit nor reads it
		// A right that is missing is told of with the others that are.
		if err := s.checkChain(ctx); err != nil && !lacksRight(err) {
			pool.Close()
			return nil, err
		}
	}
	s.closing, s.cancel = context.WithCancel(context.Background())
	s.listener = newListener(s.closing, poolConfig.ConnConfig.Copy(), cfg.Logger)
	return s, nil
}

// MaxReads is how many reads run at once.
func (s *Store) MaxReads() int { return int(s.pool.Config().MaxConns) }

// Close ends the calls in flight, waits for them, and closes every connection. A
// commit that has begun is waited for. Calling it again does nothing.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.cancel()
		s.listener.stop()
		s.pool.Close()
	})
	return nil
}

// checkSchema says whether this program runs on the database's schema.
func checkSchema(ctx context.Context, pool *pgxpool.Pool, readOnly bool) error {
	var present bool
	if err := pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&present); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if !present {
		return fmt.Errorf("%w: the database has no schema of ours: run portcullis migrate", store.ErrSchema)
	}
	var version int64
	if err := pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&version); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if version < schemaVersion {
		return fmt.Errorf("%w: the database is at %d and this program needs %d: run portcullis migrate", store.ErrSchema, version, schemaVersion)
	}
	if version == schemaVersion {
		return nil
	}
	var reader, writer int64
	if err := pool.QueryRow(ctx, `SELECT oldest_reader, oldest_writer FROM portcullis.compatibility`).Scan(&reader, &writer); err != nil {
		return fmt.Errorf("read which programs run on the schema: %w", err)
	}
	oldest := writer
	if readOnly {
		oldest = reader
	}
	if schemaVersion < oldest {
		return fmt.Errorf("%w: the database is at %d, newer than the %d that this program knows, and programs must know %d: install a newer portcullis",
			store.ErrSchema, version, schemaVersion, oldest)
	}
	return nil
}

// checkMasters says whether the masters open the database.
func checkMasters(ctx context.Context, pool *pgxpool.Pool, masters *sealing.Masters) error {
	var check string
	var under sealing.MasterID
	err := pool.QueryRow(ctx, `SELECT key_check, master FROM portcullis.encryption`).Scan(&check, &under)
	switch {
	case isNoRows(err):
		return nil // nothing is sealed
	case err != nil:
		return fmt.Errorf("read the encryption's key check: %w", err)
	}
	if err := masters.Verify(check, under); err != nil {
		return fmt.Errorf("%w: %w", store.ErrEncryption, err)
	}
	return nil
}

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
