package storetest

import (
	"fmt"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// importedAt is when imported things were made, long before they are.
var importedAt = inMicroseconds(time.Date(2021, 2, 3, 4, 5, 6, 789000, time.UTC))

func importOf(tenant store.TenantID) store.ImportBatch {
	return store.ImportBatch{
		Tenants:     []store.ImportTenant{{Tenant: store.NewTenant{Name: "acme", Admitted: true}, Key: keyOf(0, "imported", "acme's")}},
		Roles:       []store.ImportRole{{Tenant: tenant, Name: "editor", Description: "May edit"}, {Tenant: tenant, Name: "viewer"}},
		Permissions: []store.ImportPermission{{Tenant: tenant, Role: "editor", Name: "write"}},
		Members:     []store.ImportMember{{Tenant: tenant, User: "alice", Role: "editor"}},
		UserKeys: []store.ImportUserKey{
			{NewUserKey: userKeyOf(tenant, "alice", "hers"), ID: "5c1b1d0e-0000-4000-8000-000000000001", Created: importedAt, LastUsed: importedAt.Add(time.Hour)},
			{NewUserKey: userKeyOf(tenant, "alice", "her former"), Created: importedAt, Revoked: importedAt.Add(2 * time.Hour)},
		},
		Audit: []store.AuditEntry{{Time: importedAt, Tenant: tenant, Actor: "client:old", User: "alice", Action: store.ActionAddMembership, Resource: "membership/editor", Outcome: "done", Success: true}},
	}
}

func (k *kit) importing(batch store.ImportBatch, cursor string, done bool) (store.ImportCounts, store.Result) {
	k.Helper()
	counts, r, err := k.Import(k.ctx, k.by, "source", batch, cursor, done)
	if err != nil {
		k.Fatalf("import: %v", err)
	}
	return counts, r
}

func (k *kit) wantCursor(cursor string, done bool) {
	k.Helper()
	got, ended, err := k.ImportCursor(k.ctx, "source")
	if err != nil || got != cursor || ended != done {
		k.Errorf("cursor %q, done %v, error %v; want %q, %v", got, ended, err, cursor, done)
	}
}

func testImport(t *testing.T, h Harness) {
	t.Run("a batch is written once, with its history", func(t *testing.T) {
		k := newKit(t, h)
		k.wantCursor("", false)
		counts, r := k.importing(importOf(k.tenant), "at 1", false)
		if want := (store.ImportCounts{Tenants: 1, Roles: 2, Permissions: 1, Members: 1, UserKeys: 2, Audit: 1}); counts != want || r.Outcome != store.OutcomeDone {
			t.Errorf("counts %+v, outcome %q; want %+v", counts, r.Outcome, want)
		}
		k.wantCursor("at 1", false)
		if names := fmt.Sprint(k.names(k.tenant, policy.KindUser, "alice")); names != "[editor]" || !must[bool](k)(k.HasPermission(k.ctx, k.tenant, "editor", "write")) {
			t.Errorf("alice holds %s", names)
		}
		hers, former := k.userKey("hers"), k.userKey("her former")
		if hers == nil || hers.ID != "5c1b1d0e-0000-4000-8000-000000000001" || hers.User != "alice" || !hers.Created.Equal(importedAt) || !hers.Revoked.IsZero() || !hers.LastUsed.Equal(importedAt.Add(time.Hour)) {
			t.Errorf("her key %+v", hers)
		}
		if former == nil || former.ID == "" || !former.Revoked.Equal(importedAt.Add(2*time.Hour)) {
			t.Errorf("her former key %+v", former)
		}
		if key := k.key("acme's"); key == nil || key.Tenant != k.tenantID("acme") {
			t.Errorf("the tenant's key is %+v", key)
		}
		found := 0
		entries, _ := k.audit(k.tenant)
		for _, e := range entries {
			if e.Actor == "client:old" && e.Time.Equal(importedAt) && e.User == "alice" && e.Resource == "membership/editor" {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d imported audit rows with their own time, want 1", found)
		}
		system, _ := k.audit(0)
		if len(system) == 0 || system[0].Action != store.ActionImport || system[0].Revision != r.Revision.Number {
			t.Errorf("audit of no tenant %+v: a batch has a row of its own", system)
		}

		look, head := k.look(k.tenant), k.head()
		counts, r = k.importing(importOf(k.tenant), "at 1", false)
		if counts != (store.ImportCounts{}) || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("again: counts %+v, outcome %q", counts, r.Outcome)
		}
		k.wantWritten(head, r)
		k.wantLook("again", k.tenant, look)
		k.importing(store.ImportBatch{}, "end", true)
		k.wantCursor("end", true)
	})

	t.Run("what is there already stays as it is", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("mine")
		k.newKey(acme, "ci", "acme's")
		k.done(k.PutRole(k.ctx, k.by, k.tenant, "editor", text("Mine")))
		k.role(k.tenant, "viewer")
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", expiry))
		counts, _ := k.importing(importOf(k.tenant), "at 1", false)
		if counts.Tenants != 0 || counts.Roles != 0 || counts.Members != 0 || counts.Permissions != 1 {
			t.Errorf("counts %+v", counts)
		}
		if roles := must[[]store.Role](k)(k.RoleList(k.ctx, k.tenant)); roles[0].Description != "Mine" {
			t.Errorf("roles %+v", roles)
		}
		if m := must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, "editor")); len(m) != 1 || !m[0].Expires.Equal(expiry) {
			t.Errorf("members %+v", m)
		}
		_, err := k.TenantByName(k.ctx, "acme")
		k.wantErr(err, store.ErrNotFound) // its key stands for "mine"
	})

	t.Run("a batch that fails leaves nothing", func(t *testing.T) {
		k := newKit(t, h)
		k.importing(store.ImportBatch{}, "start", false)
		head, look := k.head(), k.look(k.tenant)
		bad := importOf(k.tenant)
		bad.Members = append(bad.Members, store.ImportMember{Tenant: k.tenant, User: "bob", Role: "none"})
		_, _, err := k.Import(k.ctx, k.by, "source", bad, "at 1", false)
		k.wantErr(err, store.ErrNotFound)
		if k.head() != head || k.key("acme's") != nil {
			t.Errorf("head %v after %v, key %+v", k.head(), head, k.key("acme's"))
		}
		k.wantLook("failed", k.tenant, look)
		k.wantCursor("start", false)
	})

	t.Run("thousands of rows", func(t *testing.T) {
		k := newKit(t, h)
		batch := store.ImportBatch{Roles: []store.ImportRole{{Tenant: k.tenant, Name: "editor"}}}
		for i := range 3000 {
			batch.Members = append(batch.Members, store.ImportMember{Tenant: k.tenant, User: fmt.Sprint("user", i), Role: "editor"})
		}
		head := k.head()
		counts, r := k.importing(batch, "at 1", true)
		if counts.Members != 3000 || len(must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, "editor"))) != 3000 {
			t.Errorf("counts %+v", counts)
		}
		k.wantWritten(head, r, store.Change{Kind: store.ChangeRoles, Tenant: k.tenant}, store.Change{Kind: store.ChangeTenantGrants, Tenant: k.tenant})
	})
}
