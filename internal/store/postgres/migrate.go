package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"portcullis/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is the number of the newest file in migrations.
	schemaVersion int64 = 5

	// versionTable is goose's. It lives in our schema, so that another program in
	// the database may use goose as well.
	versionTable = "portcullis.goose_db_version"

	// migrationLock is our advisory lock, distinct from goose's default.
	migrationLock int64 = 0x706f7274_63756c6c // "portcull"

	// oldestServer is the server_version_num of the oldest Postgres that has all
	// that the schema uses.
	oldestServer = 140000
)

// Applied is one migration that Migrate has run.
type Applied struct {
	Version int64
	Name    string // the file's
	Took    time.Duration
}

// Migrate brings the database's schema to what this program knows, and makes the
// audit's partitions for the months to come. It returns what it applied, nothing
// where there was nothing to do. Several may run at once: one works, the others
// wait for it, five minutes at most.
//
// The lock is a session's: the URL must not lead through a pooler in transaction
// mode. A database that a newer program has migrated is store.ErrSchema.
//
// A URL by which the connection may cross the network without TLS is a
// *PlaintextError, unless AllowPlaintext is among the allowances.
func Migrate(ctx context.Context, url string, allowed ...Allowance) ([]Applied, error) {
	applied, err := migrateTo(ctx, url, migrations, allowed...)
	if err != nil {
		return applied, fmt.Errorf("migrate: %w", explainTLS(err))
	}
	return applied, nil
}

func migrateTo(ctx context.Context, url string, from fs.FS, allowed ...Allowance) (_ []Applied, err error) {
	cfg, err := parseURL(url, allowed...)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	if err := checkServer(ctx, db); err != nil {
		return nil, err
	}
	unlock, err := lockMigration(ctx, db)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := ensureSchema(ctx, db); err != nil {
		return nil, fmt.Errorf("make the schema portcullis: %w", err)
	}
	return apply(ctx, db, from)
}

// ensureSchema asks first: CREATE SCHEMA IF NOT EXISTS wants the right to create
// one even where a DBA has made it already.
func ensureSchema(ctx context.Context, db *sql.DB) error {
	var present bool
	err := db.QueryRowContext(ctx, `SELECT to_regnamespace('portcullis') IS NOT NULL`).Scan(&present)
	if err == nil && !present {
		_, err = db.ExecContext(ctx, `CREATE SCHEMA portcullis`)
	}
	return err
}

// lockMigration waits for the session lock. It is taken here and not by goose,
// which looks for its table before it locks: the schema that the table lives in
// has to be made under the lock as well.
func lockMigration(ctx context.Context, db *sql.DB) (unlock func() error, err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := locker.SessionLock(ctx, conn); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for another migration to end: %w", err), conn.Close())
	}
	return func() error {
		return errors.Join(locker.SessionUnlock(context.WithoutCancel(ctx), conn), conn.Close())
	}, nil
}

func apply(ctx context.Context, db *sql.DB, from fs.FS) ([]Applied, error) {
	files, err := fs.Sub(from, "migrations")
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, err
	}
	sources := provider.ListSources()
	known := sources[len(sources)-1].Version
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return nil, err
	}
	if version > known {
		return nil, fmt.Errorf("%w: the database is at %d, newer than the %d that this program knows: use the portcullis that migrated it",
			store.ErrSchema, version, known)
	}
	results, err := provider.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	applied := make([]Applied, 0, len(results))
	for _, r := range results {
		applied = append(applied, Applied{Version: r.Source.Version, Name: path.Base(r.Source.Path), Took: r.Duration})
	}
	if err != nil {
		return applied, err
	}
	if _, err := db.ExecContext(ctx, sqlEnsurePartitions, time.Now().UTC(), auditMonths); err != nil {
		return applied, fmt.Errorf("make the audit's partitions: %w", err)
	}
	return applied, nil
}

func checkServer(ctx context.Context, db *sql.DB) error {
	var version, encoding string
	if err := db.QueryRowContext(ctx, `SELECT current_setting('server_version_num'), current_setting('server_encoding')`).
		Scan(&version, &encoding); err != nil {
		return err
	}
	if n, err := strconv.Atoi(version); err != nil || n < oldestServer {
		return fmt.Errorf("the server is PostgreSQL %s: %d or newer is needed", version, oldestServer/10000)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: create it with ENCODING 'UTF8'", encoding)
	}
	return nil
}
