package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/storetest"
	"portcullis/internal/testkit"
)

func TestConformance(t *testing.T) {
	var urls sync.Map // *Store to the URL that it was opened with
	open := func(t *testing.T, cfg Config) (store.Store, error) {
		st, err := Open(context.Background(), cfg)
		if err != nil {
			return nil, err
		}
		closeAtEnd(t, st)
		urls.Store(st, cfg.URL)
		return st, nil
	}
	urlOf := func(st store.Store) string {
		url, _ := urls.Load(st)
		return url.(string)
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, keys sealing.ChainKeys) store.Store {
			st, err := open(t, Config{URL: migrated(t), Masters: keys.Encryption, AuditKeys: keys.Audit})
			if err != nil {
				t.Fatal(err)
			}
			return st
		},
		OpenCopy: func(t *testing.T, name string, masters *sealing.Masters, prepare func(st store.Store)) store.Store {
			url := testkit.PostgresFrom(t, "conformance "+name, func(url string) error {
				if _, err := Migrate(context.Background(), url); err != nil {
					return err
				}
				st, err := Open(context.Background(), Config{URL: url, Masters: masters})
				if err != nil {
					return err
				}
				defer st.Close()
				prepare(st)
				return nil
			})
			newHistory(t, url)
			st, err := open(t, Config{URL: url, Masters: masters})
			if err != nil {
				t.Fatal(err)
			}
			return st
		},
		Reopen: func(t *testing.T, st store.Store, keys sealing.ChainKeys) (store.Store, error) {
			return open(t, Config{URL: urlOf(st), Masters: keys.Encryption, AuditKeys: keys.Audit})
		},
		OpenAt: func(t *testing.T, masters *sealing.Masters, now func() time.Time) store.Store {
			st, err := open(t, Config{URL: migrated(t), Masters: masters, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			return st
		},
		Touch: func(t *testing.T, st store.Store, by store.Actor, tenant store.TenantID, principals []store.Index) store.Result {
			t.Helper()
			return touch(t, st.(*Store), by, tenant, principals)
		},
		Exec: func(t *testing.T, st store.Store, statements ...string) {
			t.Helper()
			pastExec(t, urlOf(st), statements...)
		},
		AuditTime: "at", AuditUser: "about",
		Bytes: func(b []byte) string { return fmt.Sprintf(`'\x%x'`, b) },
		Count: func(t *testing.T, st store.Store, query string) int64 {
			t.Helper()
			return pastCount(t, urlOf(st), query)
		},
	})
}

// pastExec runs statements on our tables by their bare names.
func pastExec(t *testing.T, url string, statements ...string) {
	t.Helper()
	execSQL(t, url, append([]string{"SET search_path TO portcullis"}, statements...)...)
}

// pastCount reads the one number that a query of our tables gives.
func pastCount(t *testing.T, url, query string) (n int64) {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "SET search_path TO portcullis"); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// touch commits a write that names principals and changes nothing else.
func touch(t *testing.T, st *Store, by store.Actor, tenant store.TenantID, principals []store.Index) store.Result {
	t.Helper()
	result, err := st.write(context.Background(), "touch", tenant, by, func(*writeTx) (*store.Written, error) {
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
}

// migrated is the URL of a new database that Migrate has prepared. It is a copy,
// so it is given a history of its own, as one that was migrated by itself has.
func migrated(t *testing.T) string {
	t.Helper()
	return migratedFor(t)
}

// migratedFor is migrated, for benchmarks too.
func migratedFor(t testing.TB) string {
	t.Helper()
	url := testkit.PostgresFrom(t, "migrated", func(url string) error {
		_, err := Migrate(context.Background(), url)
		return err
	})
	newHistory(t, url)
	return url
}

// newHistory sets a copied database apart from the others.
func newHistory(t testing.TB, url string) {
	t.Helper()
	execSQL(t, url, `UPDATE portcullis.revision_log SET tag = uuid_send(gen_random_uuid())`,
		`UPDATE portcullis.revision r SET tag = l.tag FROM portcullis.revision_log l WHERE l.revision = r.number`)
}

// execSQL runs statements past the store.
func execSQL(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn := connect(t, url)
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// connect opens a connection past the store, for this test.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func openTest(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{URL: url})
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
