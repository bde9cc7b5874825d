package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// testRefusals: a write that is refused changes nothing, takes no revision and
// leaves no audit row.
func testRefusals(t *testing.T, h Harness) {
	k := newKit(t, h)
	acme := k.newTenant("acme")
	const nobody = store.TenantID(987654)
	k.role(k.tenant, "a", "b", "c", "d")
	k.role(acme, "z")
	k.done(k.AddParent(k.ctx, k.by, k.tenant, "a", "b"))
	k.done(k.AddParent(k.ctx, k.by, k.tenant, "b", "c"))
	k.newKey(k.tenant, "ci", "one")
	k.newKey(k.tenant, "gone", "two")
	if _, _, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "gone"); err != nil {
		t.Fatal(err)
	}
	past := keyOf(k.tenant, "past", "three")
	past.Expires = time.Now().Add(-time.Hour)
	if _, _, err := k.CreateKey(k.ctx, k.by, past); err != nil {
		t.Fatal(err)
	}
	createKey := func(key store.NewKey) error {
		_, _, err := k.CreateKey(k.ctx, k.by, key)
		return err
	}
	member := func(tenant store.TenantID, kind policy.Kind, id string, expires time.Time) error {
		_, err := k.AddMember(k.ctx, k.by, tenant, kind, id, "a", expires)
		return err
	}
	result := func(_ store.Result, err error) error { return err }
	createTenant := func(name string) error {
		_, _, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: name, Admitted: true})
		return err
	}
	revoke := func(tenant store.TenantID, name string) error {
		_, _, err := k.RevokeKeys(k.ctx, k.by, tenant, name)
		return err
	}

	k.refuseAll(acme, []refusal{
		{"a tenant of that name is there", store.ErrExists, func() error { return createTenant("acme") }},
		{"a tenant without a name", nil, func() error { return createTenant("") }},
		{"rename an unknown tenant", store.ErrNotFound, func() error { return result(k.RenameTenant(k.ctx, k.by, nobody, "globex")) }},
		{"rename a tenant to another's name", store.ErrExists, func() error {
			return result(k.RenameTenant(k.ctx, k.by, k.tenantID("acme"), store.DefaultTenant))
		}},
		{"rename a tenant to nothing", nil, func() error { return result(k.RenameTenant(k.ctx, k.by, k.tenantID("acme"), "")) }},
		{"rename default", nil, func() error { return result(k.RenameTenant(k.ctx, k.by, k.tenant, "globex")) }},
		{"admit an unknown tenant", store.ErrNotFound, func() error { return result(k.AdmitTenant(k.ctx, k.by, nobody)) }},
		{"a role of an unknown tenant", store.ErrNotFound, func() error { return result(k.PutRole(k.ctx, k.by, nobody, "a", nil)) }},
		{"a role without a name", nil, func() error { return result(k.PutRole(k.ctx, k.by, k.tenant, "", nil)) }},
		{"delete a role of an unknown tenant", store.ErrNotFound, func() error { return result(k.DeleteRole(k.ctx, k.by, nobody, "a")) }},
		{"a parent in an unknown tenant", store.ErrNotFound, func() error { return result(k.AddParent(k.ctx, k.by, nobody, "a", "b")) }},
		{"remove a parent in an unknown tenant", store.ErrNotFound, func() error { return result(k.RemoveParent(k.ctx, k.by, nobody, "a", "b")) }},
		{"a permission in an unknown tenant", store.ErrNotFound, func() error { return result(k.AddPermission(k.ctx, k.by, nobody, "a", "p")) }},
		{"a permission without a name", nil, func() error { return result(k.AddPermission(k.ctx, k.by, k.tenant, "a", "")) }},
		{"remove a permission in an unknown tenant", store.ErrNotFound, func() error { return result(k.RemovePermission(k.ctx, k.by, nobody, "a", "p")) }},
		{"a member in an unknown tenant", store.ErrNotFound, func() error { return member(nobody, policy.KindUser, "alice", time.Time{}) }},
		{"remove a member in an unknown tenant", store.ErrNotFound, func() error {
			return result(k.RemoveMember(k.ctx, k.by, nobody, policy.KindUser, "alice", "a"))
		}},
		{"a member of no kind", nil, func() error { return member(k.tenant, 0, "alice", time.Time{}) }},
		{"a member of an unknown kind", nil, func() error { return member(k.tenant, 4, "alice", time.Time{}) }},
		{"a member without an id", nil, func() error { return member(k.tenant, policy.KindUser, "", time.Time{}) }},
		{"a member until the epoch, which would read as forever", nil, func() error { return member(k.tenant, policy.KindUser, "alice", time.Unix(0, 0)) }},
		{"a member until before the epoch", nil, func() error { return member(k.tenant, policy.KindUser, "alice", time.Unix(-1, 0)) }},
		{"a member until past what nanoseconds hold", nil, func() error {
			return member(k.tenant, policy.KindUser, "alice", time.Unix(0, math.MaxInt64).Add(time.Hour))
		}},
		{"a role that inherits itself", store.ErrCycle, func() error { return result(k.AddParent(k.ctx, k.by, k.tenant, "a", "a")) }},
		{"a cycle of two", store.ErrCycle, func() error { return result(k.AddParent(k.ctx, k.by, k.tenant, "b", "a")) }},
		{"a cycle of three", store.ErrCycle, func() error { return result(k.AddParent(k.ctx, k.by, k.tenant, "c", "a")) }},
		{"a key whose digest is known", store.ErrExists, func() error { return createKey(keyOf(k.tenant, "new", "one")) }},
		{"a key whose digest another tenant has", store.ErrExists, func() error { return createKey(keyOf(acme, "ci", "one")) }},
		{"a key whose digest was revoked", store.ErrExists, func() error { return createKey(keyOf(k.tenant, "gone", "two")) }},
		{"a key of an unknown tenant", store.ErrNotFound, func() error { return createKey(keyOf(nobody, "ci", "new")) }},
		{"a key without a name", nil, func() error { return createKey(keyOf(k.tenant, "", "new")) }},
		{"a key with a scope that is none", nil, func() error {
			key := keyOf(k.tenant, "new", "new")
			key.Scopes = []store.Scope{store.ScopeCheck, "root"}
			return createKey(key)
		}},
		{"a key until the epoch", nil, func() error {
			key := keyOf(k.tenant, "new", "new")
			key.Expires = time.Unix(0, 0)
			return createKey(key)
		}},
		{"revoke a name that never had a key", store.ErrNotFound, func() error { return revoke(k.tenant, "never") }},
		{"revoke a name of another tenant", store.ErrNotFound, func() error { return revoke(acme, "ci") }},
		{"register a revoked key", store.ErrRevoked, func() error {
			return result(k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "gone", "two"), time.Hour))
		}},
		{"register an expired key", store.ErrRevoked, func() error {
			return result(k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "past", "three"), time.Hour))
		}},
		{"register a key of an unknown tenant", store.ErrNotFound, func() error {
			return result(k.RegisterKey(k.ctx, k.by, keyOf(nobody, "ci", "new"), time.Hour))
		}},
		{"prune to less than nothing", nil, func() error { return k.PruneChanges(k.ctx, -1) }},
		{"an audit page of none", nil, func() error {
			_, _, err := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant})
			return err
		}},
		{"an audit page of too many", nil, func() error {
			_, _, err := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant, Limit: 1001})
			return err
		}},
		{"an audit page from before the first", nil, func() error {
			_, _, err := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant, Limit: 1, Offset: -1})
			return err
		}},
	})
	if got, want := fmt.Sprint(k.names(k.tenant, policy.KindUser, "alice")), "[]"; got != want {
		t.Errorf("alice holds %s after refusals alone", got)
	}
}

// refusal is a call that must be refused.
type refusal struct {
	name string
	want error // nil: any error
	do   func() error
}

// refuseAll ends the test unless each is refused and leaves nothing behind: no
// revision, and no audit row of no tenant, of default or of the other.
func (k *kit) refuseAll(other store.TenantID, all []refusal) {
	k.Helper()
	on := *k
	for _, c := range all {
		k.Run(c.name, func(t *testing.T) {
			k := &on
			k.T = t
			before, rows := k.head(), k.allAudit(other)
			err := c.do()
			if err == nil {
				t.Fatal("it was accepted")
			}
			if c.want != nil {
				k.wantErr(err, c.want)
			}
			if after := k.head(); after != before {
				t.Errorf("the revision went from %v to %v", before, after)
			}
			if after := k.allAudit(other); after != rows {
				t.Errorf("audit rows before %v, after %v", rows, after)
			}
		})
	}
}

// allAudit counts the audit rows of no tenant, of default and of another.
func (k *kit) allAudit(other store.TenantID) [3]int {
	k.Helper()
	var n [3]int
	for i, tenant := range []store.TenantID{0, k.tenant, other} {
		_, n[i] = k.audit(tenant)
	}
	return n
}
