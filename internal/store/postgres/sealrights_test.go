package postgres

import (
	"context"
	"strings"
	"testing"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// Sealing anew writes the audit, which an admin process may not: it is told who may,
// and the owner takes the rotation up.
func TestARotationNeedsTheOwner(t *testing.T) {
	db := divide(t)
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	open := func(url string) *Store {
		t.Helper()
		st, err := Open(context.Background(), Config{URL: url, Masters: masters})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, st)
		return st
	}
	admin := open(db.admin)
	ctx := t.Context()
	if _, err := admin.BeginRotation(ctx, by, store.RotateEnable); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.BeginTenant(ctx, by, 0); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = admin.Reseal(ctx, 0, store.ResealCursor{}, 100, nil)
	if err == nil || !strings.Contains(err.Error(), "owner") {
		t.Fatalf("an admin's user wrote the audit anew, or was not told who may: %v", err)
	}
	owner := open(db.owner)
	for {
		tenants, err := owner.RotationTenants(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(tenants) == 0 {
			break
		}
		if _, err := owner.BeginTenant(ctx, by, tenants[0]); err != nil {
			t.Fatal(err)
		}
		if _, _, done, err := owner.Reseal(ctx, tenants[0], store.ResealCursor{}, 100, nil); err != nil || !done {
			t.Fatalf("done %v, %v", done, err)
		}
		if _, err := owner.FinishTenant(ctx, by, tenants[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := owner.FinishRotation(ctx, by); err != nil {
		t.Fatal(err)
	}
	// From here on the admin's user does all that it did in clear, and wraps anew.
	putRole(t, admin, "editor")
	if _, _, err := admin.CreateTenant(ctx, by, store.NewTenant{Name: "acme"}); err != nil {
		t.Error(err)
	}
	if err := admin.RecordAudit(ctx, []store.AuditEntry{{Action: "READ", Resource: "roles"}}); err != nil {
		t.Error(err)
	}
	if _, _, err := admin.Rewrap(ctx, by); err != nil {
		t.Error(err)
	}
	sidecar, err := Open(ctx, Config{URL: db.sidecar, ReadOnly: true, Masters: masters})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, sidecar)
	if _, err := sidecar.Grant(ctx, 1, 1, "alice"); err != nil {
		t.Error(err)
	}
}
