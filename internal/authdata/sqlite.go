package authdata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// portcullisID is the application id of Portcullis's own files ("Pcls").
const portcullisID = 0x50636c73

// sqliteDB is a read transaction on an SQLite file.
type sqliteDB struct {
	db   *sql.DB
	conn *sql.Conn
}

// sqliteDSN opens for reading, whatever the file's mode allows; the file comes
// from another program, so neither its cells nor its schema are trusted.
func sqliteDSN(path string) string {
	q := url.Values{}
	q.Set("mode", "ro")
	q.Set("_dqs", "0")
	q.Set("_defensive", "1")
	q.Set("_error_rc", "1")
	q.Set("_query_only", "1")
	q.Set("_busy_timeout", "5000")
	q.Add("_pragma", "trusted_schema(0)")
	q.Add("_pragma", "cell_size_check(1)")
	// What is sorted are names and keys: they go to no file.
	q.Add("_pragma", "temp_store(memory)")
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func openSQLite(ctx context.Context, path string) (database, error) {
	connector, err := sqlite.NewConnector(sqliteDSN(path))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &sqliteDB{db: sql.OpenDB(connector)}
	if err := s.begin(ctx, path); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sqliteDB) begin(ctx context.Context, path string) error {
	var err error
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return sqliteError(path, err)
	}
	if _, err := s.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return sqliteError(path, err)
	}
	// The first read is what takes the snapshot.
	var id int64
	var encoding string
	if err := s.conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&id); err != nil {
		return sqliteError(path, err)
	}
	if err := s.conn.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return sqliteError(path, err)
	}
	if id == portcullisID {
		return fmt.Errorf("%w: %s is Portcullis's own: name Auth's file", ErrNotAuth, path)
	}
	if err := s.conn.QueryRowContext(ctx, "PRAGMA encoding").Scan(&encoding); err != nil {
		return sqliteError(path, err)
	}
	if encoding != "UTF-8" {
		return fmt.Errorf("%w: %s holds its text in %s, and Auth makes UTF-8", ErrNotAuth, path, encoding)
	}
	return nil
}

// sqliteError adds the mend to the errors that an operator may meet.
func sqliteError(path string, err error) error {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		switch e.Code() {
		case sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY:
			return fmt.Errorf("%s was left in the middle of a write: start Auth on it once, which completes or undoes it: %w", path, err)
		}
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%w: %s is no SQLite file", ErrNotAuth, path)
		case sqlite3.SQLITE_BUSY:
			return fmt.Errorf("%s is being written by another program: try again: %w", path, err)
		case sqlite3.SQLITE_CANTOPEN:
			return fmt.Errorf("%s cannot be opened: this user must be able to read it, and where Auth runs in WAL mode to write into its directory: %w", path, err)
		}
	}
	return fmt.Errorf("read %s: %w", path, err)
}

func (s *sqliteDB) catalog(ctx context.Context) (catalog, error) {
	c := make(catalog)
	for _, r := range required {
		const query = `SELECT c.name FROM pragma_table_list AS t JOIN pragma_table_info(t.name, 'main') AS c
			WHERE t.schema = 'main' AND t.type = 'table' AND t.name = $1`
		for row, err := range s.rows(ctx, query, r.table) {
			if err != nil {
				return nil, fmt.Errorf("list the columns of %s: %w", r.table, err)
			}
			c[r.table] = append(c[r.table], *row[0])
		}
	}
	return c, nil
}

func (s *sqliteDB) table(name string) string { return `main."` + name + `"` }

// text cuts a BLOB, since substr of text ends at a NUL, and cuts only what is too
// long, since substr of an empty BLOB is NULL: an expiry that is ” would be none.
func (s *sqliteDB) text(expr string) string {
	text := "CAST(" + expr + " AS TEXT)"
	most, more := strconv.Itoa(maxText), strconv.Itoa(maxText+1)
	return "CASE WHEN COALESCE(length(CAST(" + text + " AS BLOB)), 0) <= " + most + " THEN " + text +
		" ELSE CAST(substr(CAST(" + text + " AS BLOB), 1, " + more + ") AS TEXT) END"
}

func (s *sqliteDB) booleans() (yes, no []string) { return []string{"1"}, []string{"0"} }

func (s *sqliteDB) binary() string { return "BINARY" }

func (s *sqliteDB) rows(ctx context.Context, query string, args ...any) iter.Seq2[[]*string, error] {
	return func(yield func([]*string, error) bool) {
		// ?1, since SQLite takes $1 for a name.
		rows, err := s.conn.QueryContext(ctx, strings.ReplaceAll(query, "$", "?"), args...)
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close() // again, where the caller ends it; Err has what matters
		names, err := rows.Columns()
		if err != nil {
			yield(nil, err)
			return
		}
		held := make([]sql.NullString, len(names))
		dest, values := make([]any, len(names)), make([]*string, len(names))
		for i := range held {
			dest[i] = &held[i]
		}
		for rows.Next() {
			if err := rows.Scan(dest...); err != nil {
				yield(nil, err)
				return
			}
			for i := range held {
				values[i] = nil
				if held[i].Valid {
					values[i] = &held[i].String
				}
			}
			if !yield(values, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

func (s *sqliteDB) close() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close()) // with it the transaction
	}
	return errors.Join(append(errs, s.db.Close())...)
}
