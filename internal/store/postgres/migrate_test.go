package postgres

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
)

func TestMigrateTwiceIsNoChange(t *testing.T) {
	url := testkit.Postgres(t)
	applied, err := Migrate(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(applied)) != schemaVersion || applied[0].Version != 1 || !strings.HasPrefix(applied[0].Name, "00001_") {
		t.Errorf("applied %+v, want the %d embedded ones", applied, schemaVersion)
	}
	st := openTest(t, url)
	before := putRole(t, st, "editor").Revision
	applied, err = Migrate(t.Context(), url)
	if err != nil || len(applied) != 0 {
		t.Errorf("the second time: applied %+v, error %v", applied, err)
	}
	if head, err := st.Head(t.Context()); err != nil || head.Revision != before || head.Schema != schemaVersion {
		t.Errorf("the second time changed the head to %+v, error %v", head, err)
	}
}

// The owner of the schema needs no right on the database.
func TestMigrateBySchemaOwner(t *testing.T) {
	url := testkit.Postgres(t)
	conn := connect(t, url)
	for _, sql := range []string{`CREATE ROLE schema_owner LOGIN`, `CREATE SCHEMA portcullis AUTHORIZATION schema_owner`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		for _, sql := range []string{`DROP OWNED BY schema_owner CASCADE`, `DROP ROLE schema_owner`} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Error(err)
			}
		}
	}()
	owned := strings.Replace(url, "postgres://postgres@", "postgres://schema_owner@", 1)
	if _, err := Migrate(t.Context(), owned); err != nil {
		t.Fatal(err)
	}
	st, err := Open(t.Context(), Config{URL: owned})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	putRole(t, st, "editor")
	if _, err := st.EnsureAuditPartitions(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMigrationsCanBeTakenBack(t *testing.T) {
	url := migrated(t)
	cfg, err := parseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	var left []string
	rows, err := connect(t, url).Query(t.Context(), `SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'portcullis'::regnamespace AND c.relkind IN ('r', 'p', 'S', 'v') AND c.relname NOT LIKE 'goose_%'`)
	if err == nil {
		left, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
	if applied, err := Migrate(t.Context(), url); err != nil || int64(len(applied)) != schemaVersion {
		t.Errorf("up again: %+v, error %v", applied, err)
	}
}

func TestMigrateKnowsItsFiles(t *testing.T) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(files)) != schemaVersion {
		t.Errorf("schemaVersion is %d and there are %d files: Open would take the wrong schema for its own", schemaVersion, len(files))
	}
}

func TestSeveralMigrateAtOnce(t *testing.T) {
	url := testkit.Postgres(t)
	var wg sync.WaitGroup
	total := make(chan int, 4)
	for range cap(total) {
		wg.Go(func() {
			applied, err := Migrate(t.Context(), url)
			if err != nil {
				t.Error(err)
			}
			total <- len(applied)
		})
	}
	wg.Wait()
	close(total)
	sum := 0
	for n := range total {
		sum += n
	}
	if int64(sum) != schemaVersion {
		t.Errorf("%d migrations were applied by all together, want each of %d once", sum, schemaVersion)
	}
	if _, err := openTest(t, url).Head(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	url := migrated(t)
	execSQL(t, url, `INSERT INTO portcullis.goose_db_version (version_id, is_applied) VALUES (1000, true)`)
	if _, err := Migrate(t.Context(), url); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v, want store.ErrSchema that says newer", err)
	}
}

// A migration that fails leaves what came before it, and the next run goes on
// from there.
func TestMigrateGoesOnAfterAFailure(t *testing.T) {
	url := testkit.Postgres(t)
	set := fstest.MapFS{}
	for path, sql := range map[string]string{
		"migrations/01000_good.sql": "-- +goose Up\nCREATE TABLE portcullis.good ();",
		"migrations/01001_bad.sql":  "-- +goose Up\nCREATE TABLE portcullis.half (); SELECT 1/0;",
	} {
		set[path] = &fstest.MapFile{Data: []byte(sql)}
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		sql, err := migrations.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		set[path] = &fstest.MapFile{Data: sql}
	}
	applied, err := migrateTo(t.Context(), url, set)
	if err == nil || int64(len(applied)) != schemaVersion+1 {
		t.Errorf("applied %d, error %v; want all but the last, and its error", len(applied), err)
	}
	var half *string
	if err := connect(t, url).QueryRow(t.Context(), `SELECT to_regclass('portcullis.half')::text`).Scan(&half); err != nil || half != nil {
		t.Errorf("the failed migration left a table behind: error %v", err)
	}
	set["migrations/01001_bad.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE portcullis.half ();")}
	if applied, err := migrateTo(t.Context(), url, set); err != nil || len(applied) != 1 {
		t.Errorf("mended: applied %+v, error %v; want the last one", applied, err)
	}
}

// A database of schema 1 is brought up with all that it holds, beside a program of
// schema 1 that goes on: what that one writes and reads is there and allowed to it.
func TestUpgradeFromSchema1(t *testing.T) {
	url := testkit.Postgres(t)
	first, err := fs.ReadFile(migrations, "migrations/00001_schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrateTo(t.Context(), url, fstest.MapFS{"migrations/00001_schema.sql": {Data: first}}); err != nil {
		t.Fatal(err)
	}
	execSQL(t, url, `INSERT INTO portcullis.tenants (name, admitted, created_at) VALUES ('before', true, 1)`)
	applied, err := Migrate(t.Context(), url)
	if err != nil || int64(len(applied)) != schemaVersion-1 || applied[0].Version != 2 {
		t.Fatalf("applied %+v, error %v", applied, err)
	}
	execSQL(t, url, `INSERT INTO portcullis.tenants (name, admitted, created_at) VALUES ('meanwhile', true, 1)`)
	st := openTest(t, url)
	tenants, err := st.Tenants(t.Context())
	if err != nil || len(tenants) != 3 {
		t.Fatalf("tenants %+v, error %v", tenants, err)
	}
	for _, tenant := range tenants {
		if tenant.StrictUsers || !tenant.Admitted {
			t.Errorf("tenant %+v", tenant)
		}
	}
	var reader, writer int64
	if err := connect(t, url).QueryRow(t.Context(), `SELECT oldest_reader, oldest_writer FROM portcullis.compatibility`).Scan(&reader, &writer); err != nil || reader != 1 || writer != 5 {
		t.Errorf("programs must know schema %d to read and %d to write, error %v: want 1 and 5", reader, writer, err)
	}
}
