package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"portcullis/internal/store"
)

// madeBy is a database that another program has made with the statements, in
// rollback-journal mode, as most do.
func madeBy(t *testing.T, mode os.FileMode, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	runOn(t, path, statements...)
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func runOn(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

var authSchema = []string{
	`CREATE TABLE auth_group (id INTEGER PRIMARY KEY, creator TEXT, role TEXT, description TEXT, is_active BOOLEAN)`,
	`CREATE TABLE auth_membership (id INTEGER PRIMARY KEY, creator TEXT, user TEXT)`,
	`CREATE TABLE membership_groups (membership_id INTEGER, group_id INTEGER)`,
	`INSERT INTO auth_group VALUES (1, 'a', 'editor', '', 1)`,
}

func TestAnotherProgramsDatabase(t *testing.T) {
	t.Run("Auth's", func(t *testing.T) {
		for _, mode := range []os.FileMode{0o600, 0o644} { // Auth makes it 0644
			path := madeBy(t, mode, authSchema...)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, path, "holds the tables of Auth", "auth_group", "portcullis import auth --from")
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("mode %04o: Auth's file was changed: %v", mode, err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("mode %04o: files beside it: %v, %v", mode, entries, err)
			}
		}
	})
	t.Run("Auth's file that others can write is not even opened", func(t *testing.T) {
		refused(t, madeBy(t, 0o666, authSchema...), "chmod 600")
	})
	t.Run("some program's", func(t *testing.T) {
		refused(t, madeBy(t, 0o600, `CREATE TABLE moz_places (id INTEGER)`), "another program's tables (moz_places)")
		refused(t, madeBy(t, 0o644, `CREATE TABLE moz_places (id INTEGER)`), "another program's tables (moz_places)")
	})
	t.Run("one with tables named like ours", func(t *testing.T) {
		refused(t, madeBy(t, 0o600, `CREATE TABLE roles (id INTEGER)`, `CREATE TABLE audit (id INTEGER)`), "another program's tables (audit, roles)")
	})
	t.Run("Auth's tables inside ours", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		if err := openTest(t, path).Close(); err != nil {
			t.Fatal(err)
		}
		runOn(t, path, authSchema...)
		refused(t, path, "holds the tables of Auth", "portcullis import auth")
	})
	t.Run("a stranger's table inside ours", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		if err := openTest(t, path).Close(); err != nil {
			t.Fatal(err)
		}
		runOn(t, path, `CREATE TABLE notes (id INTEGER)`)
		refused(t, path, "another program's tables (notes)")
	})
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := openTest(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	runOn(t, path, `CREATE TABLE of_the_future (id INTEGER)`,
		fmt.Sprintf(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1)`, newestSchema+1))
	err := refused(t, path, fmt.Sprintf("version %d", newestSchema+1), fmt.Sprintf("knows %d", newestSchema), "newer program")
	if !errors.Is(err, store.ErrSchema) {
		t.Errorf("error %v is not ErrSchema", err)
	}
}

// TestOwnTables holds the lists that are kept by hand against what the
// migrations make.
func TestOwnTables(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	tables, err := tableNames(context.Background(), s.reader.db)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tables, ownTables[:]) {
		t.Errorf("the migrations make %v, ownTables lists %v", tables, ownTables)
	}
	head, err := s.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if head.Schema != newestSchema {
		t.Errorf("schema %d, newestSchema %d", head.Schema, newestSchema)
	}
	var mark int64
	if err := s.reader.db.QueryRow(sqlApplicationID).Scan(&mark); err != nil || mark != applicationID {
		t.Errorf("application id %x, error %v; want %x", mark, err, applicationID)
	}
}

// TestManyOpenAtOnce: processes that start together on a file that is not there
// all get the one store.
func TestManyOpenAtOnce(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "store.db")
		var wait sync.WaitGroup
		heads := make([]store.Head, 6)
		for i := range heads {
			wait.Go(func() {
				s, err := Open(context.Background(), Config{Path: path})
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				defer s.Close()
				if heads[i], err = s.Head(context.Background()); err != nil {
					t.Errorf("head: %v", err)
				}
			})
		}
		wait.Wait()
		for _, head := range heads {
			if head != heads[0] {
				t.Errorf("heads %v", heads)
			}
		}
	}
}
