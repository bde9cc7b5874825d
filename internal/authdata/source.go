package authdata

import (
	"context"
	"fmt"
)

// Config says where Auth's data is.
type Config struct {
	// URL is the path of an SQLite file, sqlite:///path, or postgres://... in libpq's
	// or SQLAlchemy's form (postgresql+psycopg2://). It may hold a password, which no
	// error repeats.
	URL string

	// Schema is Auth's in Postgres. By default auth_rbac, or where there is none of
	// that name the only one with Auth's tables.
	Schema string

	// Key is the AUTH_ENCRYPTION_KEY of an Auth that encrypts fields. Whether it is
	// needed, and right, is tried by Open on some rows.
	Key Secret
}

// Source reads one database of Auth's as it was when Open looked. Its streams may
// be nested, so that one is read while another is under way, but it is not safe
// for concurrent use.
type Source struct {
	db     database
	tables catalog
	keys   *keyring // nil without a key
}

// Open begins to read. It returns an error for what is not Auth's database, and
// ErrKeyNeeded, ErrWrongKey or ErrNotEncrypted where the key does not fit. ctx
// bounds Open alone. Close must follow.
//
// An SQLite file in its default journal mode is locked for writers until Close:
// Auth's own writes wait, and fail after its time-out. In WAL mode, and in
// Postgres, Auth writes on unhindered. In WAL mode SQLite may leave its -shm and
// -wal beside the file, owned by this process's user, so run as Auth's.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	at, err := locate(cfg.URL)
	if err != nil {
		return nil, err
	}
	keys, err := newKeyring(cfg.Key)
	if err != nil {
		return nil, err
	}
	s := &Source{keys: keys}
	if at.path != "" {
		if cfg.Schema != "" {
			return nil, fmt.Errorf("a schema (%q) is named, and SQLite has none: leave --schema out", cfg.Schema)
		}
		s.db, err = openSQLite(ctx, at.path)
	} else {
		s.db, err = openPostgres(ctx, at.url, cfg.Schema)
	}
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.db.close()
		return nil, err
	}
	return s, nil
}

func (s *Source) prepare(ctx context.Context) error {
	var err error
	if s.tables, err = s.db.catalog(ctx); err != nil {
		return err
	}
	if err := s.tables.check(); err != nil {
		return err
	}
	return s.tryKey(ctx)
}

// Close ends the transaction and the connection.
func (s *Source) Close() error { return s.db.close() }

// Counts counts the rows of the streams.
func (s *Source) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	for _, t := range []struct {
		table  string
		active bool
		into   *int64
	}{
		{tableSettings, false, &c.Settings},
		{tableRole, true, &c.Roles},
		{tablePermission, true, &c.Permissions},
		{tablePermRole, false, &c.Grants},
		{tableMemberRole, false, &c.Memberships},
		{tableUserKey, false, &c.UserKeys},
		{tableAudit, false, &c.Audit},
	} {
		query := "SELECT " + s.db.text("count(*)") + " FROM " + s.db.table(t.table) + " AS t"
		if t.active {
			query += " WHERE " + notFalse(s.db, quote("t", columnIsActive))
		}
		var err error
		if *t.into, err = one(ctx, s.db, query); err != nil {
			return Counts{}, fmt.Errorf("count the rows of %s: %w", t.table, err)
		}
	}
	return c, nil
}
