package admin_test

import (
	"context"
	"database/sql"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
)

// counted is a store whose rows a test can count beside it.
type counted struct {
	name string
	open func(t testing.TB) (store.Store, rowCounter)
}

// rowCounter counts the rows of every table, and the audit's rows of failures under
// the name auditFailures.
type rowCounter func(t testing.TB) map[string]int

const auditFailures = "audit, failures"

// heartbeats are what the cache reports of itself now and then, whatever is asked.
const heartbeats = "sidecar_reports"

var countedBackends = []counted{{"sqlite", countedSQLite}, {"postgres", countedPostgres}}

// auditKeys let a test chain the audit.
func auditKeys(t testing.TB) *sealing.Masters {
	t.Helper()
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	must(t, err)
	return masters
}

func countedSQLite(t testing.TB) (store.Store, rowCounter) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.sqlite3")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, AuditKeys: auditKeys(t)})
	must(t, err)
	db, err := sql.Open("sqlite", "file://"+path+"?mode=ro")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	count := func(t testing.TB, query string) (n int) {
		t.Helper()
		must(t, db.QueryRow(query).Scan(&n))
		return n
	}
	return s, func(t testing.TB) map[string]int {
		t.Helper()
		rows, err := db.Query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
		must(t, err)
		var tables []string
		for rows.Next() {
			var name string
			must(t, rows.Scan(&name))
			tables = append(tables, name)
		}
		must(t, rows.Err())
		out := map[string]int{auditFailures: count(t, `SELECT count(*) FROM audit WHERE NOT success`)}
		for _, name := range tables {
			out[name] = count(t, `SELECT count(*) FROM "`+name+`"`)
		}
		return out
	}
}

func countedPostgres(t testing.TB) (store.Store, rowCounter) {
	t.Helper()
	url := testkit.PostgresFrom(t, "migrated", func(url string) error {
		_, err := postgres.Migrate(context.Background(), url)
		return err
	})
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, AuditKeys: auditKeys(t)})
	must(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	count := func(t testing.TB, query string) (n int) {
		t.Helper()
		must(t, conn.QueryRow(context.Background(), query).Scan(&n))
		return n
	}
	return s, func(t testing.TB) map[string]int {
		t.Helper()
		rows, err := conn.Query(context.Background(), `SELECT relname FROM pg_class WHERE relnamespace = 'portcullis'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`)
		must(t, err)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		out := map[string]int{auditFailures: count(t, `SELECT count(*) FROM portcullis.audit WHERE NOT success`)}
		for _, name := range tables {
			out[name] = count(t, `SELECT count(*) FROM portcullis.`+pgx.Identifier{name}.Sanitize())
		}
		return out
	}
}

// sameRows reports what has changed between two counts, but for the audit's rows of
// failures; "" is nothing.
func sameRows(before, after map[string]int) string {
	before, after = maps.Clone(before), maps.Clone(after)
	after["audit"] -= after[auditFailures] - before[auditFailures]
	for _, name := range []string{auditFailures, heartbeats} {
		delete(before, name)
		delete(after, name)
	}
	var wrong []string
	for name, n := range after {
		if n != before[name] {
			wrong = append(wrong, name)
		}
	}
	if len(before) < 10 || len(before) != len(after) {
		wrong = append(wrong, "the tables themselves")
	}
	return strings.Join(wrong, ", ")
}
