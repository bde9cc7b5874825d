package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"modernc.org/sqlite"

	"portcullis/internal/store"
)

// BackupConfig says what to copy, and to where.
type BackupConfig struct {
	// Path is the database file. Processes may have it open and write to it.
	Path string
	// To is the file to make, mode 0600; its directory must exist.
	To string
	// Overwrite lets To be a file that exists.
	Overwrite bool
	// LockTimeout is as in Config.
	LockTimeout time.Duration
	// Progress, where not nil, is called as the work goes on: the stage is "copying"
	// with the pages done and the pages there are, then "verifying" with 0 and 0.
	Progress func(stage string, done, pages int)

	step int32 // pages between calls of Progress; zero is backupStep
}

// BackupResult is what a copy holds.
type BackupResult struct {
	To       string // an absolute path
	Bytes    int64
	Schema   int64 // its schema version
	Revision store.Revision
}

// backupStep is how many pages are copied between looks at the context, 4 MiB of
// pages of SQLite's default size.
const backupStep = 1024

// Backup makes a consistent copy of a database while others write to it: the state
// of one moment after the call, with every write that was answered before. The
// copy comes to be under another name beside To, is synced, checked (SQLite's
// integrity check, foreign keys, schema version and revision), and only then gets
// its name; whatever happens before leaves To as it was. The database is neither
// migrated nor changed, whatever its schema version.
func Backup(ctx context.Context, cfg BackupConfig) (BackupResult, error) {
	result, err := backup(ctx, cfg)
	if err != nil {
		return BackupResult{}, fmt.Errorf("back up: %w", err)
	}
	return result, nil
}

func backup(ctx context.Context, cfg BackupConfig) (_ BackupResult, err error) {
	source, err := Config{Path: cfg.Path, LockTimeout: cfg.LockTimeout}.withDefaults()
	if err != nil {
		return BackupResult{}, err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int, int) {}
	}
	if cfg.step == 0 {
		cfg.step = backupStep
	}
	if err := checkFile(source.Path); err != nil {
		if missing(err) {
			return BackupResult{}, fmt.Errorf("%s does not exist: there is nothing to copy", source.Path)
		}
		return BackupResult{}, err
	}
	if err := checkFiles(source.Path); err != nil {
		return BackupResult{}, err
	}
	target, err := newBackupFile(source.Path, cfg.To, cfg.Overwrite)
	if err != nil {
		return BackupResult{}, err
	}
	defer func() { err = errors.Join(err, target.close()) }()

	held, err := copyDatabase(ctx, source, target.partial, cfg)
	if err != nil {
		return BackupResult{}, err
	}
	if err := target.file.Sync(); err != nil {
		return BackupResult{}, fmt.Errorf("sync the copy: %w", err)
	}
	cfg.Progress("verifying", 0, 0)
	if err := verifyCopy(ctx, target.partial, held); err != nil {
		return BackupResult{}, fmt.Errorf("the copy is not good: %w", err)
	}
	info, err := target.file.Stat()
	if err != nil {
		return BackupResult{}, err
	}
	if err := target.publish(); err != nil {
		return BackupResult{}, err
	}
	return BackupResult{To: target.path, Bytes: info.Size(), Schema: held.schema, Revision: held.revision}, nil
}

// contents is what tells one state of a database from another.
type contents struct {
	schema   int64
	revision store.Revision
}

const sqlReadHead = `SELECT number, tag FROM revision WHERE only_row = 1`

func readContents(ctx context.Context, c *conn) (contents, error) {
	var out contents
	err := c.scan(ctx, sqlSchemaVersion, nil, &out.schema)
	if err == nil {
		out.revision, err = scanRevision(ctx, c, sqlReadHead)
	}
	if err != nil {
		return out, fmt.Errorf("read the schema version and the revision: %w", err)
	}
	return out, nil
}

// copyDatabase copies the pages of the source, as they are at one moment, into the
// empty file at partial.
func copyDatabase(ctx context.Context, source Config, partial string, cfg BackupConfig) (held contents, err error) {
	pool, err := openPool(source, watching)
	if err != nil {
		return held, err
	}
	defer func() { err = errors.Join(err, pool.close()) }()
	err = retryBusy(ctx, source.LockTimeout, func() error {
		_, err := refuseForeign(ctx, pool.db, source.Path)
		return err
	})
	if err != nil {
		return held, explain(source.Path, err)
	}
	err = pool.with(ctx, func(c *conn) error {
		// The open transaction keeps the source at one state for all the steps: without
		// it, every write of another process would make the copy begin again.
		err := retryBusy(ctx, source.LockTimeout, func() (err error) {
			if err = c.begin(ctx, `BEGIN`); err != nil {
				return err
			}
			if held, err = readContents(ctx, c); err != nil {
				c.rollback()
			}
			return err
		})
		if err != nil {
			return explain(source.Path, err)
		}
		defer c.rollback()
		return copyPages(ctx, c, partial, cfg)
	})
	return held, err
}

// backuper is what the driver's connections can do.
type backuper interface {
	NewBackup(uri string) (*sqlite.Backup, error)
}

func copyPages(ctx context.Context, c *conn, partial string, cfg BackupConfig) error {
	return c.c.Raw(func(driver any) error {
		from, ok := driver.(backuper)
		if !ok {
			return fmt.Errorf("the SQLite driver cannot back up")
		}
		// Nobody else sees the copy before it is whole, so it needs no journal; it is
		// synced at the end.
		b, err := from.NewBackup(backupURI(partial, "_pragma", "journal_mode(off)", "_pragma", "synchronous(off)"))
		if err != nil {
			return explain(partial, err)
		}
		for more := true; more; {
			if err = ctx.Err(); err != nil {
				break
			}
			if more, err = b.Step(cfg.step); err != nil {
				err = explain(partial, err)
				break
			}
			cfg.Progress("copying", b.PageCount()-b.Remaining(), b.PageCount())
		}
		if finishing := b.Finish(); err == nil && finishing != nil {
			err = explain(partial, finishing)
		}
		return err
	})
}

// verifyCopy reads the whole copy.
func verifyCopy(ctx context.Context, partial string, want contents) (err error) {
	// Immutable: no file is made beside it, and nothing is locked.
	connector, err := sqlite.NewConnector(backupURI(partial, "immutable", "1", "_query_only", "1", "_error_rc", "1",
		"_pragma", "trusted_schema(0)", "_pragma", "cell_size_check(1)"))
	if err != nil {
		return err
	}
	pool := &pool{db: sql.OpenDB(connector), idle: make(chan *conn, 1)}
	pool.idle <- &conn{}
	defer func() { err = errors.Join(err, pool.close()) }()
	return pool.with(ctx, func(c *conn) error {
		var verdict string
		if err := c.scan(ctx, `PRAGMA integrity_check(1)`, nil, &verdict); err != nil {
			return err
		}
		if verdict != "ok" {
			return fmt.Errorf("integrity check: %s", strings.ReplaceAll(verdict, "\n", " "))
		}
		var broken int64
		if err := c.scan(ctx, `SELECT count(*) FROM pragma_foreign_key_check`, nil, &broken); err != nil {
			return err
		}
		if broken > 0 {
			return fmt.Errorf("%d rows point to rows that are not there", broken)
		}
		got, err := readContents(ctx, c)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("it holds schema %d and revision %d, and the store was at %d and %d", got.schema, got.revision.Number, want.schema, want.revision.Number)
		}
		return nil
	})
}

// backupURI names a file for SQLite, with parameters as pairs.
func backupURI(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// sameFile reports whether a path leads to the file that info describes.
func sameFile(path string, info os.FileInfo) bool {
	other, err := os.Stat(path)
	return err == nil && os.SameFile(other, info)
}
