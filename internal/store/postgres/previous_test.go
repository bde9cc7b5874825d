package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

var update = flag.Bool("update", false, "write this schema version's file of testdata/sidecar")

// sidecarFolder has one file for each version of the schema: what a sidecar of that
// version runs, as it was. A file is written while its version is this program's,
// and is frozen from then on: after a new migration, -update begins the next file
// and leaves the former ones alone. A file may go when no sidecar of its version
// may run any more (oldest_reader in the table compatibility).
const sidecarFolder = "testdata/sidecar"

func sidecarFile(version int64) string {
	return filepath.Join(sidecarFolder, fmt.Sprintf("schema-%04d.sql", version))
}

const sidecarHead = `-- What a sidecar of schema %d runs, in its order, with arguments. Written by
-- go test ./internal/store/postgres -run TestSidecarStatements -update
-- while that is the program's own schema, and never changed afterwards.
`

// recorded is one statement of a sidecar.
type recorded struct {
	call    string   // the method that runs it
	sql     string   // verbatim
	args    []string // as Postgres writes them; "" is NULL
	returns []string // types of the columns
	rows    bool     // it returned some
}

// TestSidecarStatements holds the file of this program's schema to what the program
// runs.
func TestSidecarStatements(t *testing.T) {
	db := divide(t)
	seedForSidecars(t, db)
	statements := recordSidecar(t, db)
	replay(t, db.sidecar, statements, func(s *recorded, got recorded) { s.returns, s.rows = got.returns, got.rows })
	want := formatStatements(schemaVersion, statements)
	path := sidecarFile(schemaVersion)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Fatalf("%s (error %v) is not what a sidecar runs: run this test with -update; the files of former versions stay", path, err)
	}
	if parsed := parseStatements(t, path); !slices.EqualFunc(parsed, statements, sameStatement) {
		t.Errorf("%s does not read back as it was written", path)
	}
}

// TestFormerSidecarsRunOnThisSchema runs what former versions run, as a sidecar's
// user: no right, table or column is missing to them, and no type has changed.
func TestFormerSidecarsRunOnThisSchema(t *testing.T) {
	db := divide(t)
	seedForSidecars(t, db)
	var oldest int64
	if err := connect(t, db.super).QueryRow(t.Context(), `SELECT oldest_reader FROM portcullis.compatibility`).Scan(&oldest); err != nil {
		t.Fatal(err)
	}
	if oldest > max(schemaVersion-1, 1) {
		t.Errorf("sidecars must know schema %d, and those one version older are not to be cut off", oldest)
	}
	ran := 0
	for version := max(oldest, firstRecorded); version <= schemaVersion; version++ {
		t.Run(fmt.Sprintf("schema %d", version), func(t *testing.T) {
			statements := parseStatements(t, sidecarFile(version))
			replay(t, db.sidecar, statements, func(then *recorded, now recorded) {
				if !slices.Equal(then.returns, now.returns) || then.rows && !now.rows {
					t.Errorf("%s: returned %v (some rows: %v), and now %v (%v):\n%s", then.call, then.returns, then.rows, now.returns, now.rows, then.sql)
				}
			})
			ran += len(statements)
		})
	}
	if ran == 0 {
		t.Error("nothing was run")
	}
}

// firstRecorded is the oldest version that has a file.
const firstRecorded int64 = 2

// seedForSidecars gives every look-up of a sidecar something to find.
func seedForSidecars(t *testing.T, db divided) {
	t.Helper()
	st := openTest(t, db.admin)
	tenant := tenantID(t, st)
	putRole(t, st, "viewer")
	putRole(t, st, "editor")
	done := func(_ store.Result, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	done(st.AddParent(t.Context(), by, tenant, "editor", "viewer"))
	done(st.AddPermission(t.Context(), by, tenant, "viewer", "view_content"))
	done(st.AddMember(t.Context(), by, tenant, policy.KindUser, "amy", "editor", time.Time{}))
	if _, _, err := st.CreateKey(t.Context(), by, store.NewKey{Tenant: tenant, Name: "ci", Digest: store.Digest{1}, Prefix: "11111111", Scopes: store.DefaultScopes()}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := st.CreateUserKey(t.Context(), by, store.NewUserKey{Tenant: tenant, User: "amy", Digest: store.Digest{2}, Prefix: "rak_1234", Label: "laptop"}); err != nil {
		t.Fatal(err)
	}
}

// recordSidecar runs all that a sidecar does with the store, and returns what it
// sent. To the sidecar the schema is a newer one, so that it looks whether it may
// run there, as it does beside newer programs.
func recordSidecar(t *testing.T, db divided) []recorded {
	t.Helper()
	execSQL(t, db.super, `INSERT INTO portcullis.goose_db_version (version_id, is_applied) VALUES (1000, true)`)
	cfg := Config{URL: db.sidecar, ReadOnly: true, MaxConns: 1, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
	pool, err := cfg.pool()
	if err != nil {
		t.Fatal(err)
	}
	tracer := &statementTracer{call: "Open"}
	pool.ConnConfig.Tracer = tracer
	st, err := open(t.Context(), cfg, pool)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var tenant store.TenantID = 1
	for _, c := range []struct {
		name string
		run  func(ctx context.Context) error
	}{
		{"Head", func(ctx context.Context) error { _, err := st.Head(ctx); return err }},
		{"Bootstrap", func(ctx context.Context) error {
			_, err := st.Bootstrap(ctx, func(store.Digest) error { return nil })
			return err
		}},
		{"Roles", func(ctx context.Context) error { _, err := st.Roles(ctx, tenant); return err }},
		{"Delta", func(ctx context.Context) error {
			// The tag is the zero one, so the revision is unknown: the answer is refused
			// after all of it has been read.
			if _, err := st.Delta(ctx, store.Revision{Number: 1}, []store.TenantID{tenant}); err == nil {
				return fmt.Errorf("revision 1 is known without its tag")
			}
			return nil
		}},
		{"PrincipalIndex", func(ctx context.Context) error {
			_, err := st.PrincipalIndex(ctx, tenant, 0, policy.KindUser, "amy")
			return err
		}},
		{"Grant", func(ctx context.Context) error {
			_, err := st.Grant(ctx, tenant, policy.KindUser, "amy")
			return err
		}},
		{"Key", func(ctx context.Context) error { _, err := st.Key(ctx, store.Digest{1}); return err }},
		{"UserKey", func(ctx context.Context) error { _, err := st.UserKey(ctx, store.Digest{2}); return err }},
		{"Report", func(ctx context.Context) error {
			at := time.Unix(1_800_000_000, 0)
			return st.Report(ctx, []store.Report{
				{Sidecar: "s", Kind: store.ReportApplied, At: at, Applied: 1, Staleness: time.Minute, PolicyDigest: "d"},
				{Sidecar: "s", Kind: store.ReportUses, At: at, Uses: []store.KeyUse{{Digest: store.Digest{1}, At: at}}},
			})
		}},
		{"Wait", st.Wait},
	} {
		tracer.begin(c.name)
		if err := c.run(t.Context()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	return slices.Clone(tracer.statements)
}

// statementTracer notes every statement of the connections that it is given to.
type statementTracer struct {
	mu         sync.Mutex
	call       string
	statements []recorded
}

func (s *statementTracer) begin(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call = call
}

func (s *statementTracer) note(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := recorded{call: s.call, sql: strings.TrimSpace(sql)}
	for _, arg := range args {
		r.args = append(r.args, literalOf(arg))
	}
	s.statements = append(s.statements, r)
}

func (s *statementTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.note(q.SQL, q.Args)
	return ctx
}
func (s *statementTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *statementTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (s *statementTracer) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	s.note(q.SQL, q.Args)
}
func (s *statementTracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// literalOf is an argument as Postgres reads it from text.
func literalOf(arg any) string {
	switch v := arg.(type) {
	case string:
		return v
	case []byte:
		return `\x` + hex.EncodeToString(v)
	case []int64:
		words := make([]string, len(v))
		for i, n := range v {
			words[i] = strconv.FormatInt(n, 10)
		}
		return "{" + strings.Join(words, ",") + "}"
	case [][]byte:
		words := make([]string, len(v))
		for i, b := range v {
			words[i] = `"\\x` + hex.EncodeToString(b) + `"`
		}
		return "{" + strings.Join(words, ",") + "}"
	}
	return fmt.Sprint(arg)
}

// replay runs the statements in their order on one connection, as a sidecar's user,
// and hands what each returned to check.
func replay(t *testing.T, url string, statements []recorded, check func(s *recorded, got recorded)) {
	t.Helper()
	conn := connect(t, url)
	for i := range statements {
		s := &statements[i]
		args := make([][]byte, len(s.args))
		for n, arg := range s.args {
			args[n] = []byte(arg)
		}
		result := conn.PgConn().ExecParams(t.Context(), s.sql, args, nil, nil, nil).Read()
		if result.Err != nil {
			t.Fatalf("%s: %v:\n%s", s.call, result.Err, s.sql)
		}
		got := recorded{rows: len(result.Rows) > 0}
		for _, column := range result.FieldDescriptions {
			got.returns = append(got.returns, typeName(conn, column))
		}
		check(s, got)
	}
}

func typeName(conn *pgx.Conn, column pgconn.FieldDescription) string {
	if known, ok := conn.TypeMap().TypeForOID(column.DataTypeOID); ok {
		return known.Name
	}
	return strconv.FormatUint(uint64(column.DataTypeOID), 10)
}

func sameStatement(a, b recorded) bool {
	return a.call == b.call && a.sql == b.sql && a.rows == b.rows && slices.Equal(a.args, b.args) && slices.Equal(a.returns, b.returns)
}

func formatStatements(version int64, statements []recorded) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, sidecarHead, version)
	for _, s := range statements {
		fmt.Fprintf(&b, "\n-- call: %s\n", s.call)
		for i, arg := range s.args {
			fmt.Fprintf(&b, "-- $%d: %s\n", i+1, arg)
		}
		rows := "none"
		if s.rows {
			rows = "some"
		}
		fmt.Fprintf(&b, "-- returns: %s; rows: %s\n%s;\n", strings.Join(s.returns, ", "), rows, s.sql)
	}
	return b.String()
}

var argLine = regexp.MustCompile(`^-- \$\d+: (.*)$`)

func parseStatements(t *testing.T, path string) []recorded {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []recorded
	for _, block := range strings.Split(string(text), "\n-- call: ")[1:] {
		lines := strings.Split(strings.TrimSuffix(strings.TrimSuffix(block, "\n"), ";"), "\n")
		s := recorded{call: lines[0]}
		i := 1
		for ; i < len(lines); i++ {
			arg := argLine.FindStringSubmatch(lines[i])
			if arg == nil {
				break
			}
			s.args = append(s.args, arg[1])
		}
		returns, rows, ok := strings.Cut(strings.TrimPrefix(lines[i], "-- returns: "), "; rows: ")
		if !ok {
			t.Fatalf("%s: %q is no line of what a statement returns", path, lines[i])
		}
		if returns != "" {
			s.returns = strings.Split(returns, ", ")
		}
		s.rows = rows == "some"
		s.sql = strings.Join(lines[i+1:], "\n")
		out = append(out, s)
	}
	if len(out) == 0 {
		t.Fatalf("%s has no statements", path)
	}
	return out
}

// This program on the schema of the version before it says so, to each kind of
// process, and does not touch it.
func TestThisProgramRefusesThePreviousSchema(t *testing.T) {
	db := testDatabaseAt(t, schemaVersion-1)
	for _, readOnly := range []bool{true, false} {
		st, err := Open(t.Context(), Config{URL: db, ReadOnly: readOnly})
		if err == nil {
			st.Close()
			t.Fatal("opened")
		}
		if want := fmt.Sprintf("the database is at %d and this program needs %d: run portcullis migrate", schemaVersion-1, schemaVersion); !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := EnsureRoles(t.Context(), db, DefaultGroupRoles()); err == nil {
		t.Error("the roles of this version's schema were granted on the former one")
	}
}

// testDatabaseAt is the URL of a database with the migrations up to a version.
func testDatabaseAt(t *testing.T, version int64) string {
	t.Helper()
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	set := fstest.MapFS{}
	for _, path := range files[:version] {
		sql, err := migrations.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		set[path] = &fstest.MapFile{Data: sql}
	}
	url := testkit.Postgres(t)
	if _, err := migrateTo(t.Context(), url, set); err != nil {
		t.Fatal(err)
	}
	return url
}
