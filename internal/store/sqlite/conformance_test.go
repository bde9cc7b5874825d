package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	var originals copies
	var files pastOnce
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, keys sealing.ChainKeys) store.Store {
			return openWith(t, Config{Path: filepath.Join(t.TempDir(), "store.db"), Masters: keys.Encryption, AuditKeys: keys.Audit})
		},
		OpenCopy: func(t *testing.T, name string, masters *sealing.Masters, prepare func(st store.Store)) store.Store {
			return openWith(t, Config{Path: originals.copy(t, name, masters, prepare), Masters: masters})
		},
		Reopen: func(t *testing.T, st store.Store, keys sealing.ChainKeys) (store.Store, error) {
			s, err := Open(context.Background(), Config{Path: st.(*Store).cfg.Path, Masters: keys.Encryption, AuditKeys: keys.Audit})
			if err != nil {
				return nil, err
			}
			closeAtEnd(t, s)
			return s, nil
		},
		OpenAt: func(t *testing.T, masters *sealing.Masters, now func() time.Time) store.Store {
			return openWith(t, Config{Path: filepath.Join(t.TempDir(), "store.db"), Masters: masters, Now: now})
		},
		Touch: func(t *testing.T, st store.Store, by store.Actor, tenant store.TenantID, principals []store.Index) store.Result {
			t.Helper()
			result, err := st.(*Store).write(context.Background(), "touch", by, func(*writeTx) (*store.Written, error) {
				w := &store.Written{Outcome: store.OutcomeDone, Tenant: tenant, Action: "TOUCH", Resource: "test"}
				for _, index := range principals {
					w.Changes.Grant(tenant, index)
				}
				return w, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return result
		},
		Exec: func(t *testing.T, st store.Store, statements ...string) {
			t.Helper()
			db := files.past(t, st)
			for _, sql := range statements {
				if _, err := db.Exec(sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
		},
		AuditTime: "time", AuditUser: "user",
		Bytes: func(b []byte) string { return fmt.Sprintf("x'%x'", b) },
		Count: func(t *testing.T, st store.Store, query string) (n int64) {
			t.Helper()
			if err := files.past(t, st).QueryRow(query).Scan(&n); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			return n
		},
	})
}

// copies are the files of databases that were prepared once.
type copies struct {
	mu    sync.Mutex
	files map[string][]byte
}

// copy is the path of a copy of the database that prepare filled, with a history of
// its own.
func (c *copies) copy(t *testing.T, name string, masters *sealing.Masters, prepare func(st store.Store)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, c.original(t, name, masters, prepare), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`UPDATE revision_log SET tag = randomblob(16)`,
		`UPDATE revision SET tag = (SELECT l.tag FROM revision_log AS l WHERE l.revision = revision.number)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return path
}

func (c *copies) original(t *testing.T, name string, masters *sealing.Masters, prepare func(st store.Store)) []byte {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if file := c.files[name]; file != nil {
		return file
	}
	path := filepath.Join(t.TempDir(), "store.db")
	st, err := Open(t.Context(), Config{Path: path, Masters: masters})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			st.Close()
		}
	}()
	prepare(st)
	if closed = true; st.Close() != nil {
		t.Fatal("the database that is to be copied does not close")
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Fatal("the database that is to be copied has left a WAL")
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.files == nil {
		c.files = make(map[string][]byte)
	}
	c.files[name] = file
	return file
}

// past opens the file of a store past the store, for this test.
func past(t *testing.T, st store.Store) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+st.(*Store).cfg.Path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// pastOnce is past, opened once for each store.
type pastOnce struct{ open sync.Map } // *Store to *sql.DB

func (p *pastOnce) past(t *testing.T, st store.Store) *sql.DB {
	t.Helper()
	if db, ok := p.open.Load(st); ok {
		return db.(*sql.DB)
	}
	db := past(t, st)
	p.open.Store(st, db)
	t.Cleanup(func() { p.open.Delete(st) }) // before it is closed
	return db
}

// quickLock is the lock timeout of openQuick.
const quickLock = 400 * time.Millisecond

// openQuick opens a store that gives up on locks soon.
func openQuick(t *testing.T, path string) *Store {
	t.Helper()
	return openWith(t, Config{Path: path, LockTimeout: quickLock})
}

func openTest(t *testing.T, path string) *Store {
	t.Helper()
	return openWith(t, Config{Path: path})
}

func openWith(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	return s
}

func closeAtEnd(t testing.TB, s *Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}
