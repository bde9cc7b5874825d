package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, keys sealing.ChainKeys) store.Store {
			return openWith(t, Config{Path: filepath.Join(t.TempDir(), "store.db"), Masters: keys.Encryption, AuditKeys: keys.Audit})
		},
		Reopen: func(t *testing.T, st store.Store, keys sealing.ChainKeys) (store.Store, error) {
			s, err := Open(context.Background(), Config{Path: st.(*Store).cfg.Path, Masters: keys.Encryption, AuditKeys: keys.Audit})
			if err != nil {
				return nil, err
			}
			closeAtEnd(t, s)
			return s, nil
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
			db := past(t, st)
			for _, sql := range statements {
				if _, err := db.Exec(sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
		},
		Count: func(t *testing.T, st store.Store, query string) (n int64) {
			t.Helper()
			if err := past(t, st).QueryRow(query).Scan(&n); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			return n
		},
	})
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
