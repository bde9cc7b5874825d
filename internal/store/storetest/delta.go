package storetest

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func testDelta(t *testing.T, h Harness) {
	t.Run("changes of many writes come in order, with each write's revision", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		start := k.head()
		var want []store.Change
		revisions := make(map[int64]store.Revision) // their tags are random
		note := func(r store.Result, changes ...store.Change) {
			revisions[r.Revision.Number] = r.Revision
			for _, c := range changes {
				c.Revision = r.Revision.Number
				want = append(want, c)
			}
		}
		roles := store.Change{Kind: store.ChangeRoles, Tenant: k.tenant}
		note(k.done(k.PutRole(k.ctx, k.by, k.tenant, "editor", nil)), roles)
		note(k.done(k.PutRole(k.ctx, k.by, acme, "owner", nil)), store.Change{Kind: store.ChangeRoles, Tenant: acme})
		for _, id := range []string{"zoe", "adam", "mia"} {
			note(k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, id, "editor", time.Time{})),
				store.Change{Kind: store.ChangeGrant, Tenant: k.tenant, Index: k.index(k.tenant, policy.KindUser, id)})
		}
		if r, err := k.PutRole(k.ctx, k.by, k.tenant, "editor", nil); err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Fatalf("%v, %v", r, err)
		}
		note(k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write")), roles)
		newKey := func(tenant store.TenantID, name, secret string) store.Result {
			_, r, err := k.CreateKey(k.ctx, k.by, keyOf(tenant, name, secret))
			return k.done(r, err)
		}
		note(newKey(acme, "ci", "one"), store.Change{Kind: store.ChangeKey, Tenant: acme, Digest: digestOf("one")})
		note(newKey(acme, "ci", "two"), store.Change{Kind: store.ChangeKey, Tenant: acme, Digest: digestOf("two")})
		_, r, err := k.RevokeKeys(k.ctx, k.by, acme, "ci")
		note(k.done(r, err),
			store.Change{Kind: store.ChangeKey, Tenant: acme, Digest: digestOf("one"), Gone: true},
			store.Change{Kind: store.ChangeKey, Tenant: acme, Digest: digestOf("two"), Gone: true},
			k.clientDenial(acme, "ci"))
		note(k.done(k.DeleteRole(k.ctx, k.by, k.tenant, "editor")), roles)

		d := k.delta(start, k.tenant, acme, 987654)
		if !reflect.DeepEqual(d.Changes, want) {
			t.Errorf("changes\n got %v\nwant %v", d.Changes, want)
		}
		if d.Head != k.head() {
			t.Errorf("head %v, want %v", d.Head, k.head())
		}
		tenants := must[[]store.Tenant](k)(k.Tenants(k.ctx))
		if len(d.Tenants) != len(tenants) {
			t.Errorf("tenants %v, want each named one once: %v", d.Tenants, tenants)
		}
		var tables []store.TenantRoles
		for _, id := range []store.TenantID{k.tenant, acme} {
			tables = append(tables, must[store.TenantRoles](k)(k.Roles(k.ctx, id)))
		}
		if !reflect.DeepEqual(d.Roles, tables) {
			t.Errorf("roles\n got %v\nwant %v", d.Roles, tables)
		}
		// From the middle, only what comes after.
		middle := want[4].Revision
		if got := k.delta(revisions[middle]).Changes; !reflect.DeepEqual(got, want[5:]) {
			t.Errorf("changes after %d\n got %v\nwant %v", middle, got, want[5:])
		}
	})

	t.Run("a tenant is told as it is at the head", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		_, r, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "acme"})
		k.done(r, err)
		waiting := k.head()
		k.done(k.AdmitTenant(k.ctx, k.by, k.tenantID("acme")))
		for _, from := range []store.Revision{before, waiting} {
			d := k.delta(from)
			if len(d.Tenants) != 1 || d.Tenants[0].Name != "acme" || !d.Tenants[0].Admitted || d.Tenants[0].ID != k.tenantID("acme") {
				t.Errorf("tenants %+v, want acme, admitted", d.Tenants)
			}
		}
		stored := must[store.Tenant](k)(k.TenantByName(k.ctx, "acme"))
		if got := k.delta(before).Tenants; !reflect.DeepEqual(got, []store.Tenant{stored}) {
			t.Errorf("delta tells %+v, the list %+v", got, stored)
		}
	})

	t.Run("a pair that the log does not hold", func(t *testing.T) {
		k := newKit(t, h)
		start := k.head()
		k.role(k.tenant, "a", "b")
		head := k.head()
		unknown := func(r store.Revision) {
			t.Helper()
			_, err := k.Delta(k.ctx, r, []store.TenantID{k.tenant})
			k.wantErr(err, store.ErrRevisionUnknown)
		}
		otherTag := func(r store.Revision) store.Revision {
			r.Tag[15] ^= 1
			return r
		}
		unknown(otherTag(start))
		unknown(otherTag(head))
		unknown(store.Revision{Number: head.Number})
		unknown(store.Revision{Number: head.Number, Tag: start.Tag})
		unknown(store.Revision{Number: start.Number, Tag: head.Tag})
		unknown(store.Revision{Number: head.Number + 1, Tag: head.Tag})
		unknown(store.Revision{Number: -1})
		if got := len(k.delta(start).Changes); got != 2 {
			t.Errorf("%d changes from the start, want 2", got)
		}
	})

	t.Run("a pruned log", func(t *testing.T) {
		k := newKit(t, h)
		revisions := []store.Revision{k.head()}
		for i := range 6 {
			k.role(k.tenant, fmt.Sprint("role", i))
			revisions = append(revisions, k.head())
		}
		before := k.head()
		if err := k.PruneChanges(k.ctx, 100); err != nil {
			t.Fatal(err)
		}
		if got := len(k.delta(revisions[0]).Changes); got != 6 {
			t.Errorf("%d changes after a pruning that keeps more than there are", got)
		}
		if err := k.PruneChanges(k.ctx, 3); err != nil {
			t.Fatal(err)
		}
		for i, r := range revisions {
			d, err := k.Delta(k.ctx, r, nil)
			if kept := len(revisions) - 3; i < kept {
				k.wantErr(err, store.ErrRevisionUnknown)
			} else if err != nil || len(d.Changes) != len(revisions)-1-i {
				t.Errorf("from kept revision %d: %d changes, error %v", r.Number, len(d.Changes), err)
			}
		}
		if err := k.PruneChanges(k.ctx, 0); err != nil {
			t.Fatal(err)
		}
		if k.head() != before {
			t.Errorf("pruning moved the revision to %v", k.head())
		}
		// Else a reader at the head would load in full at every poll.
		if d, err := k.Delta(k.ctx, before, nil); err != nil || len(d.Changes) != 0 {
			t.Errorf("a reader at the head of a log pruned to nothing: %+v, %v", d, err)
		}
		k.role(k.tenant, "after")
		if _, err := k.Delta(k.ctx, before, nil); err != nil {
			k.wantErr(err, store.ErrRevisionUnknown)
		}
		if got := len(must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant)).Roles); got != 7 {
			t.Errorf("%d roles: pruning the log touches nothing else", got)
		}
	})

	t.Run("one write that touches 1,000 principals names them", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		indexes := someIndexes(store.MaxGrantChanges)
		r := h.Touch(t, k.Store, k.by, k.tenant, indexes)
		changes := k.delta(before).Changes
		if len(changes) != len(indexes) {
			t.Fatalf("%d changes, want %d", len(changes), len(indexes))
		}
		for i, c := range changes {
			if want := (store.Change{Revision: r.Revision.Number, Kind: store.ChangeGrant, Tenant: k.tenant, Index: indexes[i]}); c != want {
				t.Fatalf("change %d: %v, want %v", i, c, want)
			}
		}
	})

	t.Run("past 1,000 principals the tenant is named as a whole", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		r := h.Touch(t, k.Store, k.by, k.tenant, someIndexes(store.MaxGrantChanges+1))
		want := []store.Change{{Revision: r.Revision.Number, Kind: store.ChangeTenantGrants, Tenant: k.tenant}}
		if got := k.delta(before).Changes; !reflect.DeepEqual(got, want) {
			t.Errorf("changes %v, want %v", got, want)
		}
	})

	t.Run("past 10,000 changes a reader loads in full", func(t *testing.T) {
		k := newKit(t, h)
		start := k.head()
		for range store.MaxDeltaChanges / store.MaxGrantChanges {
			h.Touch(t, k.Store, k.by, k.tenant, someIndexes(store.MaxGrantChanges))
		}
		if got := len(k.delta(start).Changes); got != store.MaxDeltaChanges {
			t.Errorf("%d changes, want %d", got, store.MaxDeltaChanges)
		}
		later := k.head()
		k.role(k.tenant, "one-more")
		_, err := k.Delta(k.ctx, start, nil)
		k.wantErr(err, store.ErrRevisionUnknown)
		if got := len(k.delta(later).Changes); got != 1 {
			t.Errorf("%d changes for a reader that is near, want 1", got)
		}
	})
}

func someIndexes(n int) []store.Index {
	out := make([]store.Index, n)
	for i := range out {
		out[i] = store.Index{byte(i >> 8), byte(i), 7}
	}
	return out
}
