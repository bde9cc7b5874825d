package main

import (
	"context"
	"log/slog"

	"portcullis/internal/config"
	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
)

// openStore opens the store that the settings name: Postgres where there is a
// URL, else the SQLite file, which it makes and migrates.
func openStore(ctx context.Context, cfg *config.Config, logger *slog.Logger) (store.Store, error) {
	return openStoreAs(ctx, cfg, logger, false)
}

// openReader opens the store for a sidecar, which writes reports alone.
func openReader(ctx context.Context, cfg *config.Config, logger *slog.Logger) (store.Store, error) {
	return openStoreAs(ctx, cfg, logger, true)
}

func openStoreAs(ctx context.Context, cfg *config.Config, logger *slog.Logger, readOnly bool) (store.Store, error) {
	if onPostgres(cfg) {
		return openPostgres(ctx, cfg, logger, readOnly)
	}
	s, err := sqlite.Open(ctx, sqlite.Config{
		Path: cfg.SQLitePath, Logger: logger, ReadOnly: readOnly,
		Masters: cfg.Masters, AuditKeys: cfg.AuditKeys,
	})
	if err != nil {
		return nil, usageUnlessAway(err)
	}
	return s, nil
}

func openPostgres(ctx context.Context, cfg *config.Config, logger *slog.Logger, readOnly bool) (store.Store, error) {
	s, err := postgres.Open(ctx, postgres.Config{URL: cfg.DatabaseURL.Reveal(), Allow: allowance(cfg), Logger: logger, ReadOnly: readOnly,
		Masters: cfg.Masters, AuditKeys: cfg.AuditKeys,
	})
	if err != nil {
		return nil, usageUnlessAway(err)
	}
	return s, nil
}

func onPostgres(cfg *config.Config) bool { return cfg.DatabaseURL.IsSet() }

// usageUnlessAway classifies what opening a store failed of: a server that does
// not answer is unavailable, and all else is a setting to mend.
func usageUnlessAway(err error) error {
	code, _ := judge(err)
	return &failure{code: code, err: err}
}
