package storetest

import (
	"testing"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// testFresh settles what an empty store holds: tenant default, admitted, at a
// revision that is not the zero one, with a tag of its own.
func testFresh(t *testing.T, h Harness) {
	fresh := func() *kit {
		if h.sealed {
			return newSealedKit(t, h)
		}
		return openKit(t, h, sealing.ChainKeys{})
	}
	k := fresh()
	head := must[store.Head](k)(k.Head(k.ctx))
	if head.Revision.Number < 1 || head.Revision.Tag == (store.Tag{}) {
		t.Errorf("revision %+v: a fresh store begins past the zero revision, with a tag", head.Revision)
	}
	if head.Schema < 1 {
		t.Errorf("schema %d: the migrations are numbered from 1", head.Schema)
	}
	tenants := must[[]store.Tenant](k)(k.Tenants(k.ctx))
	if len(tenants) != 1 || tenants[0].Name != store.DefaultTenant || !tenants[0].Admitted || tenants[0].ID < 1 || tenants[0].Created.IsZero() {
		t.Errorf("tenants %+v, want default alone, admitted", tenants)
	}
	other := fresh()
	if k.head().Tag == other.head().Tag {
		t.Error("two fresh stores have one tag: they would pass for one history")
	}

	t.Run("a reader at the head is told nothing", func(t *testing.T) {
		if d := k.delta(head.Revision, k.tenant); d.Head != head.Revision || len(d.Changes)+len(d.Tenants)+len(d.Roles) != 0 || d.Ack {
			t.Errorf("delta from the head: %+v", d)
		}
	})
	t.Run("the zero revision is before the log", func(t *testing.T) {
		_, err := k.Delta(k.ctx, store.Revision{}, nil)
		k.wantErr(err, store.ErrRevisionUnknown)
	})
	t.Run("a second handle sees the same", func(t *testing.T) {
		if second := k.second(); second.head() != head.Revision {
			t.Errorf("second handle at %v, first at %v", second.head(), head.Revision)
		}
	})
	t.Run("what is unknown is empty, not an error", func(t *testing.T) {
		const nobody = store.TenantID(987654)
		if r := must[store.TenantRoles](k)(k.Roles(k.ctx, nobody)); len(r.Roles) != 0 || r.Revision != head.Revision || r.Tenant != nobody {
			t.Errorf("roles of an unknown tenant: %+v", r)
		}
		g := must[store.GrantRow](k)(k.Grant(k.ctx, nobody, policy.KindUser, "alice"))
		if len(g.Grant) != 0 || g.Revision != head.Revision {
			t.Errorf("grant of nobody: %+v", g)
		}
		if r := must[store.KeyRow](k)(k.Key(k.ctx, digestOf("never"))); r.Key != nil || r.Revision != head.Revision {
			t.Errorf("a key that never was: %+v", r)
		}
		if l := must[[]store.Role](k)(k.RoleList(k.ctx, nobody)); len(l) != 0 {
			t.Errorf("role list: %v", l)
		}
		if l := must[[]string](k)(k.PermissionList(k.ctx, k.tenant, "none")); len(l) != 0 {
			t.Errorf("permission list: %v", l)
		}
		if l := must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, "none")); len(l) != 0 {
			t.Errorf("member list: %v", l)
		}
		if l := must[[]store.ClientKey](k)(k.KeyList(k.ctx, nobody)); len(l) != 0 {
			t.Errorf("key list: %v", l)
		}
		if l := must[[]store.Sidecar](k)(k.Sidecars(k.ctx)); len(l) != 0 {
			t.Errorf("sidecars: %v", l)
		}
		if l, total := k.audit(k.tenant); len(l) != 0 || total != 0 {
			t.Errorf("audit: %v", l)
		}
	})
}
