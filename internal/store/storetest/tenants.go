package storetest

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func testTenants(t *testing.T, h Harness) {
	t.Run("a tenant that is renamed stays what it is", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.role(acme, "editor")
		k.done(k.AddMember(k.ctx, k.by, acme, policy.KindUser, "alice", "editor", time.Time{}))
		before := k.head()
		k.done(k.RenameTenant(k.ctx, k.by, acme, "globex"))
		for _, on := range []*kit{k, k.second()} {
			if got := must[store.Tenant](on)(on.TenantByName(k.ctx, "globex")); got.ID != acme {
				t.Errorf("globex is tenant %d, was %d", got.ID, acme)
			}
			if _, err := on.TenantByName(k.ctx, "acme"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the former name: %v", err)
			}
			if got := on.names(acme, policy.KindUser, "alice"); !slices.Equal(got, []string{"editor"}) {
				t.Errorf("alice holds %v", got)
			}
		}
		if d := k.delta(before); len(d.Tenants) != 1 || d.Tenants[0].Name != "globex" {
			t.Errorf("the delta carries %+v", d.Tenants)
		}
		if other := k.newTenant("acme"); other == acme {
			t.Error("a new tenant of the former name is the renamed one")
		}
	})
	t.Run("a tenant is made as asked, and its trail begins with that", func(t *testing.T) {
		for _, admitted := range []bool{true, false} {
			k := newKit(t, h)
			before, from := k.head(), time.Now()
			made, result, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "acme", Admitted: admitted})
			k.done(result, err)
			if made.ID == k.tenant || made.ID < 1 || made.Name != "acme" || made.Admitted != admitted || !about(made.Created, from, time.Now()) {
				t.Errorf("made %+v", made)
			}
			read := must[store.Tenant](k)(k.TenantByName(k.ctx, "acme"))
			if !sameTime(read.Created, made.Created) {
				t.Errorf("created %v, read %v", made.Created, read.Created)
			}
			read.Created = made.Created
			if read != made {
				t.Errorf("made %+v, read %+v", made, read)
			}
			want := []store.Change{{Kind: store.ChangeTenant, Tenant: made.ID}}
			k.tenant = made.ID
			checkDeltaOf(k, before, result.Revision, want)
			after := `{"admitted": ` + strconv.FormatBool(admitted) + `}`
			checkAuditOf(k, aWrite{outcome: store.OutcomeDone, audit: entry(store.ActionCreateTenant, "tenant/acme", true), after: after},
				0, result, from, time.Now())
		}
	})

	t.Run("the list is by name", func(t *testing.T) {
		k := newKit(t, h)
		for _, name := range []string{"zebra", "Acme", "acme", "b_c", "b-c", "éclair"} {
			k.newTenant(name)
		}
		var got []string
		for _, tenant := range must[[]store.Tenant](k)(k.Tenants(k.ctx)) {
			got = append(got, tenant.Name)
		}
		// Byte order: the same on every store, whatever a database's locale says.
		if want := []string{"Acme", "acme", "b-c", "b_c", "default", "zebra", "éclair"}; !slices.Equal(got, want) {
			t.Errorf("list %q, want %q", got, want)
		}
	})

	t.Run("an unknown name", func(t *testing.T) {
		k := newKit(t, h)
		for _, name := range []string{"acme", "", "Default", "default ", "d%", "_efault"} {
			_, err := k.TenantByName(k.ctx, name)
			k.wantErr(err, store.ErrNotFound)
		}
	})

	t.Run("what one tenant does, another does not see", testIsolation(h))

	t.Run("an operator's hand in another tenant says whose it is", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.by.Tenant = acme
		k.role(k.tenant, "editor")
		k.role(acme, "owner")
		entries, _ := k.audit(k.tenant)
		checkJSON(k, "details", entries[0].Details, `{"actor_tenant": `+jsonNumber(int64(acme))+`}`)
		entries, _ = k.audit(acme)
		checkJSON(k, "details", entries[0].Details, "")
	})
}

func testIsolation(h Harness) func(*testing.T) {
	return func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		// The same names in both, and different links.
		for _, tenant := range []store.TenantID{k.tenant, acme} {
			k.role(tenant, "editor", "viewer", "admin")
		}
		k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write"))
		k.done(k.AddParent(k.ctx, k.by, k.tenant, "editor", "viewer"))
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", time.Time{}))
		k.newKey(k.tenant, "ci", "one")

		t.Run("roles", func(t *testing.T) {
			for _, spec := range must[store.TenantRoles](k)(k.Roles(k.ctx, acme)).Roles {
				if len(spec.Parents)+len(spec.Permissions) > 0 {
					t.Errorf("acme's %+v", spec)
				}
				if spec.ID == k.roleID(k.tenant, spec.Name) {
					t.Errorf("both tenants' %s have id %d", spec.Name, spec.ID)
				}
			}
			if list := must[[]string](k)(k.PermissionList(k.ctx, acme, "editor")); len(list) > 0 {
				t.Errorf("acme's editor may %v", list)
			}
			if must[bool](k)(k.HasPermission(k.ctx, acme, "editor", "write")) {
				t.Error("acme's editor may write")
			}
		})
		t.Run("members", func(t *testing.T) {
			if list := must[[]store.Member](k)(k.MemberList(k.ctx, acme, "editor")); len(list) > 0 {
				t.Errorf("acme's editors: %v", list)
			}
			if must[bool](k)(k.HasRole(k.ctx, acme, policy.KindUser, "alice", "editor", time.Now())) {
				t.Error("acme's alice is an editor")
			}
			if g := k.grant(acme, policy.KindUser, "alice"); len(g) > 0 {
				t.Errorf("acme's alice holds %v", g)
			}
			if k.index(acme, policy.KindUser, "alice") == k.index(k.tenant, policy.KindUser, "alice") {
				t.Error("both alices have one index")
			}
		})
		t.Run("writes", func(t *testing.T) {
			before := must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant)).Roles
			for name, write := range map[string]func() (store.Result, error){
				"remove permission": func() (store.Result, error) {
					return k.RemovePermission(k.ctx, k.by, acme, "editor", "write")
				},
				"remove parent": func() (store.Result, error) { return k.RemoveParent(k.ctx, k.by, acme, "editor", "viewer") },
				"remove member": func() (store.Result, error) {
					return k.RemoveMember(k.ctx, k.by, acme, policy.KindUser, "alice", "editor")
				},
			} {
				if r, err := write(); err != nil || r.Outcome != store.OutcomeUnchanged {
					t.Errorf("%s in acme: %v, %v", name, r, err)
				}
			}
			k.done(k.DeleteRole(k.ctx, k.by, acme, "editor"))
			if after := must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant)).Roles; !reflect.DeepEqual(after, before) {
				t.Errorf("default's roles went from %v to %v", before, after)
			}
			if got := k.names(k.tenant, policy.KindUser, "alice"); !slices.Equal(got, []string{"editor"}) {
				t.Errorf("default's alice holds %v", got)
			}
		})
		t.Run("audit and keys", func(t *testing.T) {
			entries, total := k.audit(acme)
			if total != len(entries) {
				t.Errorf("total %d, rows %d", total, len(entries))
			}
			for _, e := range entries {
				if e.Tenant != acme {
					t.Errorf("acme's trail holds %+v", e)
				}
			}
			if list := must[[]store.ClientKey](k)(k.KeyList(k.ctx, acme)); len(list) > 0 {
				t.Errorf("acme's keys: %v", list)
			}
		})
	}
}
