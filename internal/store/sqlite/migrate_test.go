package sqlite

import (
	"context"
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"portcullis/internal/store"
)

// A file of schema 1 is brought up with all that it holds: the revision stays, no
// tenant is strict, and user keys can be made.
func TestUpgradeFromSchema1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path)
	putRole(t, s, "editor")
	before, err := s.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	downTo(t, path, 1)

	s = openTest(t, path)
	after, err := s.Head(context.Background())
	if err != nil || after.Revision != before.Revision || after.Schema != newestSchema {
		t.Errorf("head %+v, error %v; was %+v", after, err, before)
	}
	tenant, err := s.TenantByName(context.Background(), store.DefaultTenant)
	if err != nil || tenant.StrictUsers || !tenant.Admitted {
		t.Errorf("tenant %+v, error %v", tenant, err)
	}
	if _, _, err := s.CreateUserKey(context.Background(), store.Actor{Name: "cli"}, store.NewUserKey{Tenant: tenant.ID, User: "amy"}); err != nil {
		t.Error(err)
	}
}

// downTo takes the file back to an older schema, by the migrations' own way back.
func downTo(t *testing.T, path string, version int64) {
	t.Helper()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.DownTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}
