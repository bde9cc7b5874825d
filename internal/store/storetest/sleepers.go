package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// testSleepers: each call by itself is the first that a process makes after its
// tenant's keys were changed behind its back, and is answered as ever.
func testSleepers(h Harness, kind store.RotationKind) func(*testing.T) {
	return func(t *testing.T) {
		k := newKitFor(t, h, kind)
		k.furnish(k.tenant)
		k.furnish(k.newTenant("acme"))
		former := must[[]store.UserKey](k)(k.UserKeyList(k.ctx, k.tenant, "alice"))[1]
		_, rows := k.audit(k.tenant)
		calls := sleepersCalls(former.ID, &rows)
		phase := func(name string, wake func()) {
			sleepers := make([]*kit, len(calls))
			for i := range sleepers {
				sleepers[i] = k.second()
				sleepers[i].grant(k.tenant, policy.KindUser, "alice") // it knows the keys of now
			}
			wake()
			for i, c := range calls {
				if err := c.call(sleepers[i]); err != nil {
					t.Errorf("%s, %s: %v", name, c.name, err)
				}
				if err := sleepers[i].Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		}
		phase("a tenant that was begun", func() {
			k.done(k.BeginRotation(k.ctx, k.by, kind))
			k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		})
		phase("a tenant whose rows were sealed anew", func() { k.resealAll(k.tenant, 100, k.alone) })
		phase("a tenant that was finished", func() {
			k.resealAll(k.tenant, 100, k.alone)
			k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		})
		k.wantAllUnder(k.tenant, k.keyOf(k.tenant))
		next := store.RotateDeep
		if kind == store.RotateDisable {
			next = store.RotateEnable
		}
		phase("a whole rotation, and another one", func() {
			for {
				tenants := must[[]store.TenantID](k)(k.RotationTenants(k.ctx, 10))
				if len(tenants) == 0 {
					break
				}
				for _, tenant := range tenants {
					_, err := k.BeginTenant(k.ctx, k.by, tenant)
					if err != nil {
						t.Fatal(err)
					}
					k.resealAll(tenant, 100, k.alone)
					k.done(k.FinishTenant(k.ctx, k.by, tenant))
				}
			}
			k.done(k.FinishRotation(k.ctx, k.by))
			k.rotate(next, 100, k.alone)
		})
		k.wantAllUnder(k.tenant, k.keyOf(k.tenant))
	}
}

type sleepersCall struct {
	name string
	call func(k *kit) error
}

// sleepersCalls are calls on a furnished tenant, each with what it must find. rows
// is how many audit rows the tenant has.
func sleepersCalls(formerKey string, rows *int) []sleepersCall {
	const user = policy.KindUser
	expect := func(got, want any, err error) error {
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			err = fmt.Errorf("got %v, want %v", got, want)
		}
		return err
	}
	unchanged := func(r store.Result, err error) error {
		*rows++
		return expect(r.Outcome, store.OutcomeUnchanged, err)
	}
	return []sleepersCall{
		{"a grant", func(k *kit) error {
			row, err := k.Grant(k.ctx, k.tenant, user, "alice")
			return expect(len(row.Grant), 2, err)
		}},
		{"until when keys back a user", func(k *kit) error {
			row, err := k.Grant(k.ctx, k.tenant, user, "bob")
			return expect(row.KeyBackedUntil, int64(store.BackedForever), err)
		}},
		{"a member", func(k *kit) error {
			has, err := k.HasRole(k.ctx, k.tenant, user, "alice", "editor", time.Now())
			return expect(has, true, err)
		}},
		{"one who is no member", func(k *kit) error {
			has, err := k.HasRole(k.ctx, k.tenant, user, "bob", "editor", time.Now())
			return expect(has, false, err)
		}},
		{"a permission", func(k *kit) error {
			has, err := k.HasPermission(k.ctx, k.tenant, "editor", "write")
			return expect(has, true, err)
		}},
		{"a permission that is not there", func(k *kit) error {
			has, err := k.HasPermission(k.ctx, k.tenant, "viewer", "write")
			return expect(has, false, err)
		}},
		{"the role table", func(k *kit) error {
			table, err := k.Roles(k.ctx, k.tenant)
			return expect(describe(table.Roles)["editor"], "parents [] permissions [read write]", err)
		}},
		{"a user's key", func(k *kit) error {
			row, err := k.UserKey(k.ctx, digestOf(fmt.Sprintf("%d hers", k.tenant)))
			if err == nil && row.Key == nil {
				err = errors.New("it is not there")
			}
			if err != nil {
				return err
			}
			return expect(row.Key.User+", "+row.Key.Label, fmt.Sprintf("alice, of %d hers", k.tenant), nil)
		}},
		{"a user's keys", func(k *kit) error {
			list, err := k.UserKeyList(k.ctx, k.tenant, "alice")
			return expect(len(list), 2, err)
		}},
		{"members", func(k *kit) error {
			list, err := k.MemberList(k.ctx, k.tenant, "viewer")
			var ids []string
			for _, m := range list {
				ids = append(ids, m.ID)
			}
			return expect(ids, []string{"alice", "bob", "ci"}, err)
		}},
		{"permissions", func(k *kit) error {
			list, err := k.PermissionList(k.ctx, k.tenant, "editor")
			return expect(list, []string{"read", "write"}, err)
		}},
		{"roles", func(k *kit) error {
			list, err := k.RoleList(k.ctx, k.tenant)
			i := slices.IndexFunc(list, func(r store.Role) bool { return r.Name == "editor" })
			if err != nil || i < 0 {
				return expect(i, "that of editor", err)
			}
			return expect(list[i].Description, "May edit", nil)
		}},
		{"the audit", func(k *kit) error {
			entries, total, err := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant, Limit: 500})
			if err == nil && (total != *rows || entries[total-1].Resource == "") {
				err = fmt.Errorf("%d rows, want %d; the oldest is %+v", total, *rows, entries[len(entries)-1])
			}
			return err
		}},
		{"a membership that is there", func(k *kit) error {
			return unchanged(k.AddMember(k.ctx, k.by, k.tenant, user, "bob", "viewer", time.Time{}))
		}},
		{"a permission that is there already", func(k *kit) error {
			return unchanged(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write"))
		}},
		{"a description that is so", func(k *kit) error {
			description := "May edit"
			return unchanged(k.PutRole(k.ctx, k.by, k.tenant, "editor", &description))
		}},
		{"a key that was revoked", func(k *kit) error {
			return unchanged(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", formerKey))
		}},
		{"another user's key", func(k *kit) error {
			_, err := k.RevokeUserKey(k.ctx, k.by, k.tenant, "bob", formerKey)
			return expect(errors.Is(err, store.ErrNotFound), true, nil)
		}},
		{"an audit row", func(k *kit) error {
			*rows++
			return k.RecordAudit(k.ctx, []store.AuditEntry{{Tenant: k.tenant, Actor: "client:ops", User: "alice", Action: store.ActionGetAudit, Outcome: "done"}})
		}},
		{"an index under the key of the moment", func(k *kit) error {
			got, err := k.PrincipalIndex(k.ctx, k.tenant, k.keyOf(k.tenant), user, "alice")
			if err != nil {
				return err
			}
			return expect(got, k.second().index(k.tenant, user, "alice"), nil)
		}},
	}
}
