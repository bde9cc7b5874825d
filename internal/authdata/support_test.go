package authdata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/testkit"
)

const (
	tenantA = "0b6f3c1e-8a55-4f0e-9d3b-6a1f0c2d4e5f"
	tenantB = "7d9e2a40-11c3-4b8a-8f6e-90ab12cd34ef"
)

// authDB is a database as Auth makes it.
type authDB struct {
	url      string
	postgres bool
	exec     func(t *testing.T, statements ...string)
}

// onBoth runs a test on a new, empty database of each sort.
func onBoth(t *testing.T, test func(t *testing.T, db *authDB)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgres(t, "auth_rbac")) })
}

func schema(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func newSQLite(t *testing.T) *authDB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.sqlite3")
	db := &authDB{url: path, exec: func(t *testing.T, statements ...string) { runSQLite(t, path, statements...) }}
	db.exec(t, schema(t, "sqlite.sql"))
	return db
}

func runSQLite(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

func newPostgres(t *testing.T, name string) *authDB {
	t.Helper()
	url := testkit.Postgres(t)
	db := &authDB{url: url, postgres: true, exec: func(t *testing.T, statements ...string) {
		t.Helper()
		runPostgres(t, url, append([]string{"SET search_path = " + name}, statements...)...)
	}}
	runPostgres(t, url, strings.ReplaceAll(schema(t, "postgres.sql"), "$SCHEMA", name))
	return db
}

func runPostgres(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

func (db *authDB) open(t *testing.T, key string) *Source {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: db.url, Key: NewSecret(key)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// said collects a stream as lines: what show makes of a row, and "! " with the
// error of a bad one. A database's error ends the test.
func said[T any](t *testing.T, rows iter.Seq2[T, error], show func(T) string) []string {
	t.Helper()
	var lines []string
	for row, err := range rows {
		var bad *RowError
		switch {
		case err == nil:
			lines = append(lines, show(row))
		case errors.As(err, &bad) && bad.Kind == Invalid:
			lines = append(lines, show(row)+" ! "+bad.Error())
		case errors.As(err, &bad):
			lines = append(lines, "! "+bad.Error())
		default:
			t.Fatal(err)
		}
	}
	return lines
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// expectParts is expect where each line has to hold the words of its want, which
// a | divides.
func expectParts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		for _, part := range strings.Split(want[i], "|") {
			ok = ok && strings.Contains(got[i], part)
		}
	}
	if !ok {
		t.Errorf("%s:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (s *Source) said(t *testing.T, tenant string) map[string][]string {
	t.Helper()
	ctx, key := t.Context(), NewSecret(tenant)
	return map[string][]string{
		"settings": said(t, s.Settings(ctx, key, Cursor{}), func(r Settings) string { return fmt.Sprintf("%s strict=%v", r.ID, r.StrictUsers) }),
		"roles":    said(t, s.Roles(ctx, key, Cursor{}), func(r Role) string { return fmt.Sprintf("%s %s %q", r.ID, r.Name, r.Description) }),
		"permissions": said(t, s.Permissions(ctx, key, Cursor{}), func(r Permission) string {
			return fmt.Sprintf("%s %s", r.ID, r.Name)
		}),
		"grants": said(t, s.Grants(ctx, key, Cursor{}), func(r Grant) string { return fmt.Sprintf("%s %s in %s", r.ID, r.Permission, r.Role) }),
		"memberships": said(t, s.Memberships(ctx, key, Cursor{}), func(r Membership) string {
			return fmt.Sprintf("%s %s in %s", r.ID, r.User, r.Role)
		}),
		"keys": said(t, s.UserKeys(ctx, key, Cursor{}), func(r UserKey) string {
			return fmt.Sprintf("%s %s %s %x %s %q active=%v", r.ID, r.KeyID, r.User, r.Digest[:2], r.Prefix, r.Label, r.Active)
		}),
	}
}

func (s *Source) saidAudit(t *testing.T, after Cursor) []string {
	t.Helper()
	return said(t, s.Audit(t.Context(), after), func(r AuditEntry) string {
		return fmt.Sprintf("%s %s %s %s %s %s %v", r.ID, r.Time.Format("2006-01-02T15:04:05.999999999Z07:00"), r.ClientID, r.User, r.Action, r.Resource, r.Success)
	})
}

func (s *Source) saidTenants(t *testing.T) []string {
	t.Helper()
	return said(t, s.Tenants(t.Context()), Secret.Reveal)
}
