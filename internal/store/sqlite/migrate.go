package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"portcullis/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to this program's. Each step is a transaction of
// its own. Two processes that start at once may both try a step: one of them
// finds it done, and goes on.
func migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the embedded migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithSlog(cfg.Logger), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", err)
	}
	reached := int64(-1)
	for {
		current, target, err := versions(ctx, provider, cfg)
		if err != nil {
			return err
		}
		if current > target {
			return fmt.Errorf("%w: %s is at version %d and this program knows %d: run the newer program, or restore a backup made before it",
				store.ErrSchema, cfg.Path, current, target)
		}
		if current == target {
			return nil
		}
		err = retryBusy(ctx, cfg.LockTimeout, func() error {
			_, err := provider.Up(ctx)
			return err
		})
		if err == nil {
			return nil
		}
		after, _, verr := versions(ctx, provider, cfg)
		if verr != nil || after <= max(current, reached) {
			return fmt.Errorf("migrate %s from version %d to %d: %w", cfg.Path, current, target, errors.Join(err, verr))
		}
		reached = after
	}
}

func versions(ctx context.Context, provider *goose.Provider, cfg Config) (current, target int64, err error) {
	err = retryBusy(ctx, cfg.LockTimeout, func() error {
		current, target, err = provider.GetVersions(ctx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("read the schema version of %s: %w", cfg.Path, err)
	}
	return current, target, nil
}
