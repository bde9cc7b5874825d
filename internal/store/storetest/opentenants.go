package storetest

import (
	"testing"

	"portcullis/internal/store"
)

// testOpenTenants: tenants that open themselves with a key, and their other names.
func testOpenTenants(t *testing.T, h Harness) {
	open := func(k *kit, name, secret string) (store.Tenant, store.Result, error) {
		key := keyOf(0, "ci", secret)
		key.RotateAt = expiry
		return k.OpenTenant(k.ctx, k.by, store.NewTenant{Name: name}, key)
	}
	t.Run("a tenant and its key in one write", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		made, r, err := open(k, "acme", "one")
		k.done(r, err)
		k.wantWritten(before, r, store.Change{Kind: store.ChangeTenant, Tenant: made.ID}, store.Change{Kind: store.ChangeKey, Tenant: made.ID, Digest: digestOf("one")})
		if key := k.key("one"); made.Admitted || key == nil || key.Tenant != made.ID || !key.RotateAt.Equal(expiry) {
			t.Errorf("made %+v with %+v", made, key)
		}
		if list := must[[]store.ClientKey](k)(k.KeyList(k.ctx, made.ID)); len(list) != 1 || !list[0].RotateAt.Equal(expiry) {
			t.Errorf("list %+v, want a key to be replaced at %v", list, expiry)
		}
		again, r, err := open(k, "another name", "one")
		if err != nil || r.Outcome != store.OutcomeUnchanged || again.ID != made.ID || again.Name != "acme" {
			t.Errorf("again: %+v, outcome %q, error %v", again, r.Outcome, err)
		}
		_, r, err = k.RevokeKeys(k.ctx, k.by, made.ID, "ci")
		k.done(r, err)
		head, rows := k.head(), k.allAudit(made.ID)
		_, _, err = open(k, "acme two", "one")
		k.wantErr(err, store.ErrRevoked)
		_, _, err = open(k, "acme", "two")
		k.wantErr(err, store.ErrExists)
		if k.head() != head || k.allAudit(made.ID) != rows || k.key("two") != nil {
			t.Error("a refusal left something behind")
		}
	})

	t.Run("two processes with one key open one tenant", func(t *testing.T) {
		k := newKit(t, h)
		type opened struct {
			tenant  store.Tenant
			outcome store.Outcome
			err     error
		}
		results := make(chan opened, 2)
		for name, on := range map[string]*kit{"acme": k, "other": k.second()} {
			go func() {
				made, r, err := open(on, name, "one")
				results <- opened{made, r.Outcome, err}
			}()
		}
		a, b := <-results, <-results
		if a.err != nil || b.err != nil || a.tenant.ID != b.tenant.ID || a.outcome+b.outcome != store.OutcomeDone+store.OutcomeUnchanged {
			t.Errorf("opened %+v and %+v", a, b)
		}
		if list := must[[]store.Tenant](k)(k.Tenants(k.ctx)); len(list) != 2 {
			t.Errorf("tenants %+v, want default and one more", list)
		}
	})

	t.Run("another name, and all else stays", func(t *testing.T) {
		k := newKit(t, h)
		made, r, err := open(k, "acme", "one")
		k.done(r, err)
		k.role(made.ID, "editor")
		before := k.head()
		r = k.done(k.RenameTenant(k.ctx, k.by, made.ID, "apex"))
		k.wantWritten(before, r, store.Change{Kind: store.ChangeTenant, Tenant: made.ID})
		if d := k.delta(before); len(d.Tenants) != 1 || d.Tenants[0].Name != "apex" {
			t.Errorf("the delta names %+v", d.Tenants)
		}
		if id := k.tenantID("apex"); id != made.ID || k.key("one").Tenant != made.ID || k.roleID(made.ID, "editor") == 0 {
			t.Errorf("apex is %d, acme was %d", id, made.ID)
		}
		entries, _ := k.audit(made.ID)
		if e := entries[0]; e.Action != store.ActionRenameTenant || e.Before != `{"name":"acme"}` || e.After != `{"name":"apex"}` {
			t.Errorf("audit row %+v", e)
		}
		r, err = k.RenameTenant(k.ctx, k.by, made.ID, "apex")
		if err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("again: outcome %q, error %v", r.Outcome, err)
		}
		head := k.head()
		_, err = k.TenantByName(k.ctx, "acme")
		k.wantErr(err, store.ErrNotFound)
		_, err = k.RenameTenant(k.ctx, k.by, made.ID, store.DefaultTenant)
		k.wantErr(err, store.ErrExists)
		_, err = k.RenameTenant(k.ctx, k.by, 987654, "nobody")
		k.wantErr(err, store.ErrNotFound)
		if _, err := k.RenameTenant(k.ctx, k.by, made.ID, ""); err == nil {
			t.Error("a tenant without a name")
		}
		if k.head() != head {
			t.Error("a refusal took a revision")
		}
	})
}
