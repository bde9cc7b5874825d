package sqlite

import (
	"context"
	"path/filepath"
	"testing"

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
	runOn(t, path, `DROP TABLE user_keys`, `ALTER TABLE tenants DROP COLUMN strict_users`, `DELETE FROM goose_db_version WHERE version_id > 1`)

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
