package authdata

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func refused(t *testing.T, cfg Config, want ...string) error {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err == nil {
		s.Close()
		t.Errorf("%q is opened", cfg.URL)
		return nil
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want %q in it", cfg.URL, err, part)
		}
	}
	return err
}

func TestFilesThatAreNotAuths(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) string {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	made := func(name string, statements ...string) string {
		runSQLite(t, at(name), statements...)
		return at(name)
	}
	good := newSQLite(t).url
	if err := os.Symlink(good, at("link")); err != nil {
		t.Fatal(err)
	}
	refused(t, Config{}, "cannot be read")
	refused(t, Config{URL: at("absent")}, "does not exist")
	refused(t, Config{URL: "sqlite://" + at("absent")}, "does not exist")
	refused(t, Config{URL: at("link")}, "is a symbolic link")
	refused(t, Config{URL: dir}, "is not a regular file")
	refused(t, Config{URL: "sqlite://relative.db"}, "three slashes")
	refused(t, Config{URL: good, Schema: "auth_rbac"}, "leave --schema out")
	for path, want := range map[string]string{
		write("text", strings.Repeat("no database at all\n", 100)): "is no SQLite file",
		write("empty", ""): "it has none of the tables",
		made("other.db", "CREATE TABLE notes (id INTEGER PRIMARY KEY)"):                                                             "it has none of the tables",
		made("own.db", "CREATE TABLE roles (id INTEGER)", fmt.Sprintf("PRAGMA application_id = %d", portcullisID)):                  "is Portcullis's own",
		made("utf16.db", "PRAGMA encoding = 'UTF-16le'", schema(t, "sqlite.sql")):                                                   "UTF-16le",
		made("older.db", schema(t, "sqlite.sql"), "DROP TABLE auth_api_key", "ALTER TABLE audit_log DROP COLUMN user_agent"):        "lacks the table auth_api_key, the column audit_log.user_agent",
		made("view.db", schema(t, "sqlite.sql"), "ALTER TABLE auth_group RENAME TO g", "CREATE VIEW auth_group AS SELECT * FROM g"): "lacks the table auth_group",
	} {
		if err := refused(t, Config{URL: path}, want); !errors.Is(err, ErrNotAuth) {
			t.Errorf("%s: %v is not ErrNotAuth", path, err)
		}
	}
	if info, err := os.Stat(at("absent")); err == nil {
		t.Errorf("a look made the file %v", info.Name())
	}
}

// Reading leaves every byte and every file as it was.
func TestAFileIsOnlyRead(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			db := newSQLite(t)
			db.exec(t, append(filled(sealings[0].field), "PRAGMA journal_mode = "+mode)...)
			if err := os.Chmod(db.url, 0o400); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(db.url)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), Config{URL: "sqlite://" + db.url})
			if err != nil {
				t.Fatal(err)
			}
			s.said(t, tenantA)
			if _, err := s.db.(*sqliteDB).conn.ExecContext(t.Context(), "DELETE FROM auth_group"); err == nil {
				t.Error("the connection writes")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if after, err := os.ReadFile(db.url); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file has changed (%v)", err)
			}
			entries, err := os.ReadDir(filepath.Dir(db.url))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if info, err := e.Info(); e.Name() != filepath.Base(db.url) && (err != nil || info.Size() > 0 && strings.HasSuffix(e.Name(), "-wal")) {
					t.Errorf("left behind: %s (%v)", e.Name(), err)
				}
			}
		})
	}
}

// What Auth was writing when it was killed can only be undone by who may write.
func TestAFileThatAuthLeftHalfWritten(t *testing.T) {
	db := newSQLite(t)
	auth, err := sql.Open("sqlite", db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer auth.Close()
	auth.SetMaxOpenConns(1)
	many := "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 2000) "
	for _, statement := range []string{
		many + "INSERT INTO audit_log (id, timestamp, action) SELECT i, '2024-05-06 00:00:00', 'BEFORE' FROM s",
		"PRAGMA cache_size = 1", "BEGIN", "UPDATE audit_log SET action = 'HALFWAY'",
	} {
		if _, err := auth.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	killed := filepath.Join(t.TempDir(), "killed.sqlite3")
	for _, suffix := range []string{"", "-journal"} {
		text, err := os.ReadFile(db.url + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(killed+suffix, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, Config{URL: killed}, "was left in the middle of a write: start Auth on it once")
	refused(t, Config{URL: db.url}, "is being written by another program")
}

// Auth's last writes may be in its log alone.
func TestAFileThatAuthHasOpen(t *testing.T) {
	db := newSQLite(t)
	auth, err := sql.Open("sqlite", db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer auth.Close()
	auth.SetMaxOpenConns(1)
	for _, statement := range append([]string{"PRAGMA journal_mode = WAL"}, filled(sealings[0].field)...) {
		if _, err := auth.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	s := db.open(t, "")
	expect(t, "tenants", s.saidTenants(t), tenantA, tenantB)
	if _, err := auth.Exec("DELETE FROM auth_group"); err != nil {
		t.Errorf("Auth cannot write: %v", err)
	}
	if got := s.said(t, tenantA)["roles"]; len(got) != 2 {
		t.Errorf("roles %q, want 2", got)
	}
}

func TestURLsOfPostgres(t *testing.T) {
	db := newPostgres(t, "auth_rbac")
	db.exec(t, filled(sealings[0].field)...)
	for _, scheme := range []string{"postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg", "PostgreSQL"} {
		s, err := Open(t.Context(), Config{URL: scheme + strings.TrimPrefix(db.url, "postgres")})
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		expect(t, scheme, s.saidTenants(t), tenantA, tenantB)
		s.Close()
	}
}

func TestNoErrorHoldsThePassword(t *testing.T) {
	const password = "hunter2secret"
	socket := newPostgres(t, "auth_rbac").url
	host := socket[strings.Index(socket, "?"):]
	for _, url := range []string{
		"postgres://auth:" + password + "@127.0.0.1:1/db",
		"postgres://auth:" + password + "@/absent" + host,
		"postgres://auth:" + password + "@127.0.0.1:port/db",
		"postgres://auth:x/" + password + "@127.0.0.1/db",
		"postgres://auth:1/" + password + "@127.0.0.1/db",
		"postgres://auth:1?" + password + "@127.0.0.1/db",
		"postgres://auth:1#" + password + "@127.0.0.1/db",
		"postgres://auth:%zz" + password + "@127.0.0.1/db",
		"postgres://auth:" + password + "@127.0.0.1:1/db?sslmode=what",
		"postgres://127.0.0.1:1/db?sslmode=what&password=" + password,
		"postgres:/auth:" + password + "@127.0.0.1/db",
		"mysql://auth:" + password + "@127.0.0.1/db",
		"host=127.0.0.1 port=1 password=" + password,
	} {
		if err := refused(t, Config{URL: url}); err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%v", err)
		}
	}
}

func TestWhichSchemaIsRead(t *testing.T) {
	t.Run("the only one", func(t *testing.T) {
		db := newPostgres(t, "elsewhere")
		db.exec(t, filled(sealings[0].field)...)
		expect(t, "tenants", db.open(t, "").saidTenants(t), tenantA, tenantB)
		err := refused(t, Config{URL: db.url, Schema: "auth_rbac"}, `the schema "auth_rbac" has no table auth_group, and these have: elsewhere`)
		if !errors.Is(err, ErrNotAuth) {
			t.Errorf("%v is not ErrNotAuth", err)
		}
	})
	t.Run("the default, a named one, or none to choose", func(t *testing.T) {
		db := newPostgres(t, "auth_rbac")
		other := strings.ReplaceAll(schema(t, "postgres.sql"), "$SCHEMA", `"Odd ""name"`)
		runPostgres(t, db.url, other, `INSERT INTO "Odd ""name".auth_tenant_settings VALUES (1, '`+tenantB+`', true)`)
		expect(t, "tenants", db.open(t, "").saidTenants(t))
		s, err := Open(t.Context(), Config{URL: db.url, Schema: `Odd "name`})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "tenants", s.saidTenants(t), tenantB)
		s.Close()
		runPostgres(t, db.url, "ALTER SCHEMA auth_rbac RENAME TO third")
		refused(t, Config{URL: db.url}, "several schemas hold Auth's tables", "third", "--schema")
	})
	t.Run("an empty database", func(t *testing.T) {
		db := newPostgres(t, "auth_rbac")
		runPostgres(t, db.url, "DROP SCHEMA auth_rbac CASCADE")
		if err := refused(t, Config{URL: db.url}, "no schema of it has a table auth_group"); !errors.Is(err, ErrNotAuth) {
			t.Errorf("%v is not ErrNotAuth", err)
		}
	})
}

// Rows that a policy of Postgres hides must not be missed in silence, nor tables
// that the user may not read.
func TestWhatAPostgresUserMayNotSee(t *testing.T) {
	db := newPostgres(t, "auth_rbac")
	db.exec(t, filled(sealings[0].field)...)
	name := strings.ReplaceAll(filepath.Base(strings.SplitN(db.url, "?", 2)[0]), "test_", "reader_")
	runPostgres(t, db.url, "CREATE ROLE "+name+" LOGIN", "GRANT USAGE ON SCHEMA auth_rbac TO "+name)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), db.url)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	as := strings.Replace(db.url, "postgres@", name+"@", 1)
	refused(t, Config{URL: as}, "may not read all of Auth's tables")
	runPostgres(t, db.url, "GRANT SELECT ON ALL TABLES IN SCHEMA auth_rbac TO "+name)
	s, err := Open(t.Context(), Config{URL: as})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	runPostgres(t, db.url, "ALTER TABLE auth_rbac.auth_membership ENABLE ROW LEVEL SECURITY")
	refused(t, Config{URL: as}, "row-level security hides rows", "BYPASSRLS")
}

func TestAClosedContextEndsAStream(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, filled(sealings[0].field)...)
		s := db.open(t, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var last error
		for _, err := range s.Audit(ctx, Cursor{}) {
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("%v, want the context's error", last)
		}
	})
}

// The audit may hold millions of rows: none of them is held to sort them.
func TestTheAuditIsReadInOrderWithoutSorting(t *testing.T) {
	db := newSQLite(t)
	s := db.open(t, "")
	var plan []string
	for row, err := range s.db.rows(t.Context(), `EXPLAIN QUERY PLAN SELECT t.id FROM `+s.db.table(tableAudit)+` AS t WHERE t.id >= CAST($1 AS BIGINT) ORDER BY t.id, t."timestamp"`, 0) {
		if err != nil {
			t.Fatal(err)
		}
		plan = append(plan, *row[3])
	}
	if len(plan) != 1 || !strings.Contains(plan[0], "INTEGER PRIMARY KEY") {
		t.Errorf("plan %q, want the table in its own order", plan)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	held := struct{ creator, Key Secret }{NewSecret(tenantA), NewSecret(theKey)}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, held), fmt.Sprintf(verb, held.Key), fmt.Sprintf(verb, &held), fmt.Sprintf(verb, Config{Key: held.Key}))
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", held.Key, "held", held)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", held.Key, "held", held)
	text, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, log.String(), string(text))
	for _, s := range shown {
		if strings.Contains(s, tenantA) || strings.Contains(s, theKey) || strings.Contains(s, fmt.Sprintf("%x", theKey)) {
			t.Errorf("shown: %s", s)
		}
	}
	if !slices.ContainsFunc(shown, func(s string) bool { return strings.Contains(s, redacted) }) {
		t.Error("nothing says that it is redacted")
	}
	if held.Key.Reveal() != theKey || (Secret{}).Reveal() != "" || (Secret{}).String() != "" {
		t.Error("a secret does not reveal what it holds")
	}
}
