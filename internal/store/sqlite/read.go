package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	sqlBeginRead = `BEGIN DEFERRED`

	sqlRevision = `SELECT number, tag FROM revision`

	sqlHead = `SELECT r.number, r.tag, (SELECT max(version_id) FROM goose_db_version WHERE is_applied)
		FROM revision AS r`
)

// reading runs fn in one read snapshot, which begins with fn's first query.
func (s *Store) reading(ctx context.Context, what string, fn func(ctx context.Context, c *conn) error) error {
	return s.borrowing(ctx, what, func(ctx context.Context, c *conn) error {
		if err := c.begin(ctx, sqlBeginRead); err != nil {
			return err
		}
		if err := fn(ctx, c); err != nil {
			c.rollback()
			return err
		}
		return c.commit(ctx)
	})
}

// borrowing runs fn with a read connection, for a single statement: that is a
// snapshot by itself. fn may run again where the file was locked.
func (s *Store) borrowing(ctx context.Context, what string, fn func(ctx context.Context, c *conn) error) error {
	err := s.calling(ctx, func(ctx context.Context) error {
		return s.reader.with(ctx, func(c *conn) error { return fn(ctx, c) })
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Head reads the revision row.
func (s *Store) Head(ctx context.Context) (store.Head, error) {
	var head store.Head
	err := s.borrowing(ctx, "read the revision", func(ctx context.Context, c *conn) error {
		return c.scan(ctx, sqlHead, nil, &head.Revision.Number, tagOf(&head.Revision.Tag), &head.Schema)
	})
	return head, err
}

// PrincipalIndex implements store.Reader. It reads a key the first time that one is
// asked for, and nothing else.
func (s *Store) PrincipalIndex(ctx context.Context, tenant store.TenantID, key store.KeyID, kind policy.Kind, id string) (store.Index, error) {
	if key == 0 {
		return store.PlainIndex(tenant, kind, id), nil
	}
	var index store.Index
	err := s.borrowing(ctx, "compute an index", func(ctx context.Context, c *conn) error {
		held, err := s.ring.Key(ctx, int64(tenant), int64(key), loadKey(c))
		switch {
		case errors.Is(err, sealing.ErrKeyGone):
			return fmt.Errorf("key %d of tenant %d: %w", key, tenant, store.ErrKeyGone)
		case err != nil:
			return s.told(ctx, err)
		}
		index = indexUnder(held, tenant, kind, id)
		return nil
	})
	return index, err
}

func scanRevision(ctx context.Context, c *conn, query string) (store.Revision, error) {
	var r store.Revision
	err := c.scan(ctx, query, nil, &r.Number, tagOf(&r.Tag))
	return r, err
}

// fixed scans a BLOB of a known length.
type fixed []byte

func tagOf(t *store.Tag) fixed       { return t[:] }
func indexOf(i *store.Index) fixed   { return i[:] }
func digestOf(d *store.Digest) fixed { return d[:] }

// Scan implements sql.Scanner; NULL leaves what is there.
func (f fixed) Scan(src any) error {
	if src == nil {
		return nil
	}
	b, ok := src.([]byte)
	if !ok || len(b) != len(f) {
		return fmt.Errorf("a BLOB of %d bytes was expected", len(f))
	}
	copy(f, b)
	return nil
}

// nullable is a time's nanoseconds as a column holds them: NULL for 0.
func nullable(nanos int64) sql.NullInt64 { return sql.NullInt64{Int64: nanos, Valid: nanos != 0} }

// nanosOf is a time as a column holds it: NULL for the zero time.
func nanosOf(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return nullable(t.UnixNano())
}

func absent(err error) bool { return errors.Is(err, sql.ErrNoRows) }
