package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// A damage is something that other hands did to a sealed column.
type damage struct {
	name string
	sql  string // of table and column, the row's id, and another row's
}

// damages are done to %[1]s.%[2]s of row %[3]d; %[4]d is another row.
var damages = []damage{
	{"moved from another row", "UPDATE %[1]s SET %[2]s = (SELECT o.%[2]s FROM %[1]s AS o WHERE o.id = %[4]d) WHERE id = %[3]d"},
	{"cut off", "UPDATE %[1]s SET %[2]s = substr(%[2]s, 1, length(%[2]s) - 4) WHERE id = %[3]d AND %[4]d > 0"},
	{"one character changed", "UPDATE %[1]s SET %[2]s = substr(%[2]s, 1, 19) || CASE substr(%[2]s, 20, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(%[2]s, 21) WHERE id = %[3]d AND %[4]d > 0"},
	{"in clear", "UPDATE %[1]s SET %[2]s = 'alice', %[5]s = 0 WHERE id = %[3]d AND %[4]d > 0"},
}

// damaged is a store of which one row's column was damaged, in default alone.
type damaged struct {
	*kit
	table  store.SealTable
	column string
	row    int64
	whole  bool // the row as a whole says that it is in clear
}

// unreadable ends the test unless the error names the column and the row.
func (d *damaged) unreadable(what string, err error) {
	d.Helper()
	if !errors.Is(err, store.ErrUnreadable) {
		d.Errorf("%s: %v, want one that is %q", what, err, store.ErrUnreadable)
		return
	}
	if !d.named(err) {
		d.Errorf("%s: %q, want %s.%s of row %d in it", what, err, d.table, d.column, d.row)
	}
	if strings.Contains(err.Error(), "alice") || strings.Contains(err.Error(), "write") {
		d.Errorf("%s: the error tells a value: %v", what, err)
	}
}

// named reports whether the error names the place. Of a row that is in clear as a
// whole it may name whichever column was read first.
func (d *damaged) named(err error) bool {
	columns := []string{d.column}
	if d.whole {
		columns = []string{"user_id", "label", d.column}
	}
	for _, column := range columns {
		if strings.Contains(err.Error(), fmt.Sprintf("%s.%s of row %d ", d.table, column, d.row)) {
			return true
		}
	}
	return false
}

func (d *damaged) sound(what string, err error) {
	d.Helper()
	if err != nil {
		d.Errorf("%s, which was not touched: %v", what, err)
	}
}

func theError[T any](_ T, err error) error { return err }

// testUnreadable: a value that does not open is an error that names it, denies what
// depends on it and nothing else, and is taken away like any other.
func testUnreadable(t *testing.T, h Harness) {
	alice := func(k *kit) (store.GrantRow, error) {
		return k.Grant(k.ctx, k.tenant, policy.KindUser, "alice")
	}
	for _, c := range []struct {
		table       store.SealTable
		column      string
		row, other  string // queries for the rows' ids; %[1]d is the tenant, %[2]d role editor, %[3]d role viewer
		check, mend func(d *damaged)
	}{
		{store.SealDenials, "principal_id",
			"SELECT min(id) FROM deny_list WHERE kind = 2 AND tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			"SELECT max(id) FROM deny_list WHERE kind = 2 AND tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			checkDenial, mendDenial},
		{store.SealRefresh, "user_id",
			"SELECT min(id) FROM refresh_families WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			"SELECT max(id) FROM refresh_families WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			checkFamily, mendFamily},
		{store.SealMemberships, "principal_id",
			"SELECT id FROM memberships WHERE tenant_id = %[1]d AND role_id = %[2]d AND kind = 1",
			"SELECT min(id) FROM memberships WHERE tenant_id = %[1]d AND role_id = %[3]d AND kind = 1",
			func(d *damaged) {
				d.unreadable("her grant", theError(alice(d.kit)))
				d.unreadable("the members", theError(d.MemberList(d.ctx, d.tenant, "editor")))
				d.unreadable("whether she is in it", theError(d.HasRole(d.ctx, d.tenant, policy.KindUser, "alice", "editor", time.Now())))
				d.sound("the grant of a client of the role", theError(d.Grant(d.ctx, d.tenant, policy.KindClient, "ci")))
				d.sound("members of another role", theError(d.MemberList(d.ctx, d.tenant, "viewer")))
				d.sound("her other role", theError(d.HasRole(d.ctx, d.tenant, policy.KindUser, "alice", "viewer", time.Unix(1, 0))))
			},
			func(d *damaged) {
				before := d.head()
				d.done(d.RemoveMember(d.ctx, d.by, d.tenant, policy.KindUser, "alice", "editor"))
				d.wantChanges("removed", before, grantChange(policy.KindUser, "alice")(d.kit)...)
				if got := d.names(d.tenant, policy.KindUser, "alice"); !slices.Equal(got, []string{"viewer"}) {
					d.Errorf("she holds %v after the removal", got)
				}
			}},
		{store.SealPermissions, "name",
			"SELECT min(id) FROM permissions WHERE tenant_id = %[1]d AND role_id = %[2]d",
			"SELECT min(id) FROM permissions WHERE tenant_id = %[1]d AND role_id = %[3]d",
			func(d *damaged) {
				d.unreadable("the permissions", theError(d.PermissionList(d.ctx, d.tenant, "editor")))
				d.unreadable("whether it is there", theError(d.HasPermission(d.ctx, d.tenant, "editor", "write")))
				d.sound("another permission", theError(d.HasPermission(d.ctx, d.tenant, "editor", "read")))
				d.sound("permissions of another role", theError(d.PermissionList(d.ctx, d.tenant, "viewer")))
				d.sound("her grant", theError(alice(d.kit)))
				before := d.head()
				d.role(d.tenant, fmt.Sprint("made after revision ", before.Number))
				for _, table := range []store.TenantRoles{must[store.TenantRoles](d.kit)(d.Roles(d.ctx, d.tenant)), d.delta(before, d.tenant).Roles[0]} {
					if got := describe(table.Roles); got["editor"] != "parents [] permissions [read]" || got["viewer"] != "parents [] permissions [read]" {
						d.Errorf("the table is %v: want the one that does not open left out, and nothing else", got)
					}
				}
			},
			func(d *damaged) {
				d.done(d.RemovePermission(d.ctx, d.by, d.tenant, "editor", "write"))
				if list := must[[]string](d.kit)(d.PermissionList(d.ctx, d.tenant, "editor")); !slices.Equal(list, []string{"read"}) {
					d.Errorf("permissions %q after the removal", list)
				}
				d.done(d.AddPermission(d.ctx, d.by, d.tenant, "editor", "write"))
			}},
		{store.SealRoles, "description",
			"SELECT id FROM roles WHERE tenant_id = %[1]d AND id = %[2]d",
			"SELECT id FROM roles WHERE tenant_id = %[1]d AND id = %[3]d",
			func(d *damaged) {
				d.unreadable("the roles", theError(d.RoleList(d.ctx, d.tenant)))
				d.sound("the role table", theError(d.Roles(d.ctx, d.tenant)))
				d.sound("her grant", theError(alice(d.kit)))
			},
			func(d *damaged) {
				d.done(d.DeleteRole(d.ctx, d.by, d.tenant, "editor"))
				d.wantTrail(store.ActionDeleteRole, `"description":"`+store.Unreadable+`"`)
				d.sound("the roles that are left", theError(d.RoleList(d.ctx, d.tenant)))
			}},
		{store.SealUserKeys, "user_id",
			"SELECT min(id) FROM user_keys WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			"SELECT max(id) FROM user_keys WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			checkUserKey, mendUserKey},
		{store.SealUserKeys, "label",
			"SELECT min(id) FROM user_keys WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			"SELECT max(id) FROM user_keys WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			checkUserKey, func(d *damaged) {
				mendUserKey(d)
				d.wantTrail(store.ActionRevokeUserKey, `"label":"`+store.Unreadable+`"`)
			}},
		{store.SealAudit, "sealed",
			"SELECT max(id) FROM audit WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			"SELECT min(id) FROM audit WHERE tenant_id = %[1]d AND %[2]d > 0 AND %[3]d > 0",
			func(d *damaged) {
				page := func(q store.AuditQuery) error {
					q.Tenant = d.tenant
					_, _, err := d.Audit(d.ctx, q)
					return err
				}
				d.unreadable("the newest page", page(store.AuditQuery{Limit: 10}))
				d.sound("the page after it", page(store.AuditQuery{Limit: 500, Offset: 1}))
				d.sound("rows of another action", page(store.AuditQuery{Limit: 10, Actions: []store.Action{store.ActionCreateRole}}))
			},
			func(d *damaged) { d.role(d.tenant, "written-all-the-same") }},
	} {
		for _, how := range damages {
			t.Run(fmt.Sprintf("%s.%s %s", c.table, c.column, how.name), func(t *testing.T) {
				t.Parallel()
				d := &damaged{kit: newSealedKit(t, h), table: c.table, column: c.column, whole: how.name == "in clear"}
				acme := d.newTenant("acme")
				d.furnish(acme)
				d.furnish(d.tenant)
				d.deny(denyUser(d.tenant, "trudy", expiry.Add(-time.Hour), expiry))
				d.aFamily(d.tenant, 100, "app", "bob", time.Time{})
				look, editor, viewer := d.look(acme), d.roleID(d.tenant, "editor"), d.roleID(d.tenant, "viewer")
				d.row = h.Count(t, d.Store, fmt.Sprintf(c.row, d.tenant, editor, viewer))
				other := h.Count(t, d.Store, fmt.Sprintf(c.other, d.tenant, editor, viewer))
				h.Exec(t, d.Store, fmt.Sprintf(how.sql, c.table, c.column, d.row, other, keyColumn(c.table)))
				for _, on := range []*kit{d.kit, d.second()} {
					c.check(&damaged{on, d.table, d.column, d.row, d.whole})
					on.wantLook("another tenant", acme, look)
				}
				c.mend(d)
			})
		}
	}

	t.Run("a row that was given another's index", func(t *testing.T) {
		// Whoever may write to the tables gives alice the role of somebody else.
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		owner := k.roleID(k.tenant, "owner")
		row := h.Count(t, k.Store, fmt.Sprintf("SELECT id FROM memberships WHERE role_id = %d AND kind = 1", owner))
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE memberships SET principal_index = (SELECT o.principal_index FROM memberships AS o WHERE o.role_id = %d AND o.kind = 1) WHERE id = %d",
			k.roleID(k.tenant, "editor"), row))
		d := &damaged{kit: k, table: store.SealMemberships, column: "principal_id", row: row}
		d.unreadable("her grant", theError(alice(k)))
		d.unreadable("whether she owns", theError(k.HasRole(k.ctx, k.tenant, policy.KindUser, "alice", "owner", time.Now())))
		d.sound("her own role", theError(k.HasRole(k.ctx, k.tenant, policy.KindUser, "alice", "editor", time.Now())))
	})

	t.Run("a permission that was given another's index", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		editor, viewer := k.roleID(k.tenant, "editor"), k.roleID(k.tenant, "viewer")
		write := h.Count(t, k.Store, fmt.Sprintf("SELECT min(id) FROM permissions WHERE role_id = %d", editor))
		read := h.Count(t, k.Store, fmt.Sprintf("SELECT max(id) FROM permissions WHERE role_id = %d", editor))
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE permissions SET role_id = %d WHERE id = %d", viewer, write),
			fmt.Sprintf("UPDATE permissions SET name_index = (SELECT o.name_index FROM permissions AS o WHERE o.id = %d) WHERE id = %d", write, read),
			fmt.Sprintf("DELETE FROM permissions WHERE id = %d", write))
		d := &damaged{kit: k, table: store.SealPermissions, column: "name", row: read}
		d.unreadable("whether it is there", theError(k.HasPermission(k.ctx, k.tenant, "editor", "write")))
	})

	t.Run("an API key that was given another's index", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		his := h.Count(t, k.Store, fmt.Sprintf("SELECT max(id) FROM user_keys WHERE tenant_id = %d", k.tenant))
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE user_keys SET principal_index = (SELECT o.principal_index FROM user_keys AS o WHERE o.id = (SELECT min(id) FROM user_keys WHERE tenant_id = %d)) WHERE id = %d", k.tenant, his))
		d := &damaged{kit: k, table: store.SealUserKeys, column: "user_id", row: his}
		d.unreadable("her keys", theError(k.UserKeyList(k.ctx, k.tenant, "alice")))
		if row := must[store.UserKeyRow](k)(k.UserKey(k.ctx, digestOf(fmt.Sprintf("%d his", k.tenant)))); row.Key.User != "bob" {
			t.Errorf("his key is %s's", row.Key.User)
		}
	})

	t.Run("an API key that does not open backs nobody", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.newUserKey(k.tenant, "alice", "hers")
		if k.backed(k.tenant, "alice") == 0 {
			t.Fatal("her key does not back her")
		}
		h.Exec(t, k.Store, "UPDATE user_keys SET user_id = substr(user_id, 1, length(user_id) - 4)")
		for _, on := range []*kit{k, k.second()} {
			if until := on.backed(k.tenant, "alice"); until != 0 {
				t.Errorf("she is backed until %d by a key that does not open", until)
			}
		}
		k.newUserKey(k.tenant, "alice", "her next")
		if k.backed(k.tenant, "alice") != store.BackedForever {
			t.Error("her next key does not back her")
		}
	})
	t.Run("a membership that was moved to another role", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		row := h.Count(t, k.Store, fmt.Sprintf("SELECT id FROM memberships WHERE role_id = %d AND kind = 1", k.roleID(k.tenant, "editor")))
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE memberships SET role_id = %d WHERE id = %d", k.roleID(k.tenant, "owner"), row))
		d := &damaged{kit: k, table: store.SealMemberships, column: "principal_id", row: row}
		d.unreadable("her grant", theError(alice(k)))
		d.unreadable("the members", theError(k.MemberList(k.ctx, k.tenant, "owner")))
	})

	t.Run("a tenant's key that does not open denies that tenant alone", func(t *testing.T) {
		k := newSealedKit(t, h)
		acme := k.newTenant("acme")
		k.furnish(k.tenant)
		k.furnish(acme)
		look := k.look(acme)
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE encryption_keys SET wrapped = (SELECT o.wrapped FROM encryption_keys AS o WHERE o.tenant_id = %d) WHERE tenant_id = %d", acme, k.tenant))
		on := k.second()
		for name, err := range map[string]error{
			"a grant":       theError(alice(on)),
			"the members":   theError(on.MemberList(k.ctx, k.tenant, "editor")),
			"a user's key":  theError(on.UserKey(k.ctx, digestOf(fmt.Sprintf("%d hers", k.tenant)))),
			"a membership":  theError(on.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "carol", "editor", time.Time{})),
			"a permission":  theError(on.HasPermission(k.ctx, k.tenant, "editor", "write")),
			"a principal's": theError(on.PrincipalIndex(k.ctx, k.tenant, on.keyOf(k.tenant), policy.KindUser, "alice")),
		} {
			if !errors.Is(err, store.ErrUnreadable) || !strings.Contains(err.Error(), "encryption_keys.wrapped of row ") {
				t.Errorf("%s: %v", name, err)
			}
		}
		must[store.Base](k)(on.Bootstrap(k.ctx, func(store.Digest) error { return nil }))
		on.wantLook("another tenant", acme, look)
	})

	t.Run("a rotation stops at it, or leaves it", testRotationOfDamage(h))

	testUnreadableTokens(t, h)

	t.Run("an API key that a rotation left is revoked by its id", func(t *testing.T) {
		k := newSealedKit(t, h)
		key := k.newUserKey(k.tenant, "alice", "hers")
		h.Exec(t, k.Store, "UPDATE user_keys SET user_id = substr(user_id, 1, 30)")
		k.done(k.BeginRotation(k.ctx, k.by, store.RotateDeep))
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		left := 0
		if _, _, done, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 100, func(error) { left++ }); err != nil || !done || left != 1 {
			t.Fatalf("%d rows left, done %v, %v", left, done, err)
		}
		k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		if until := k.backed(k.tenant, "alice"); until != 0 {
			t.Errorf("she is backed until %d by a key that does not open", until)
		}
		for _, id := range []string{"", "no-id", key.ID + "0"} {
			_, err := k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", id)
			k.wantErr(err, store.ErrNotFound)
		}
		acme := k.newTenant("acme")
		_, err := k.RevokeUserKey(k.ctx, k.by, acme, "alice", key.ID)
		k.wantErr(err, store.ErrNotFound)
		k.done(k.second().RevokeUserKey(k.ctx, k.by, k.tenant, "alice", key.ID))
		(&damaged{kit: k}).wantTrail(store.ActionRevokeUserKey, `"label":"`+store.Unreadable+`"`)
	})
}

// keyColumn is the column that names the key which a row is under.
func keyColumn(table store.SealTable) string {
	if table == store.SealUserKeys {
		return "seal_key_id"
	}
	return "key_id"
}

// wantTrail ends the test unless the newest row of default is of the action, and
// says so much in Before.
func (d *damaged) wantTrail(action store.Action, before string) {
	d.Helper()
	entries, _ := d.audit(d.tenant)
	if e := entries[0]; e.Action != action || !strings.Contains(e.Before, before) {
		d.Errorf("the trail says %s of %s, want %s in it", e.Before, e.Action, before)
	}
}

func checkUserKey(d *damaged) {
	digest := digestOf(fmt.Sprintf("%d hers", d.tenant))
	d.unreadable("the key", theError(d.UserKey(d.ctx, digest)))
	d.unreadable("her keys", theError(d.UserKeyList(d.ctx, d.tenant, "alice")))
	d.sound("another's key", theError(d.UserKey(d.ctx, digestOf(fmt.Sprintf("%d his", d.tenant)))))
	d.sound("another's keys", theError(d.UserKeyList(d.ctx, d.tenant, "bob")))
}

func mendUserKey(d *damaged) {
	entries, _ := d.audit(d.tenant)
	var id string
	for _, e := range entries { // newest first: the last one is the first that was made
		if e.Action == store.ActionCreateUserKey && e.User == "alice" {
			_, id, _ = strings.Cut(e.Resource, "/")
		}
	}
	before := d.head()
	d.done(d.RevokeUserKey(d.ctx, d.by, d.tenant, "alice", id))
	changes := append([]store.Change{{Kind: store.ChangeKey, Tenant: d.tenant, Digest: digestOf(fmt.Sprintf("%d hers", d.tenant)), Gone: true}},
		grantChange(policy.KindUser, "alice")(d.kit)...)
	d.wantChanges("revoked", before, changes...)
	if until := d.backed(d.tenant, "alice"); until != 0 {
		d.Errorf("her key was revoked, and she is backed until %d", until)
	}
}

func testRotationOfDamage(h Harness) func(*testing.T) {
	return func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		editor := k.roleID(k.tenant, "editor")
		row := h.Count(t, k.Store, fmt.Sprintf("SELECT id FROM memberships WHERE role_id = %d AND kind = 1", editor))
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE memberships SET principal_id = substr(principal_id, 1, 30) WHERE id = %d", row))
		d := &damaged{kit: k, table: store.SealMemberships, column: "principal_id", row: row}
		k.done(k.BeginRotation(k.ctx, k.by, store.RotateDeep))
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		key := k.keyOf(k.tenant)
		at, n, _, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 100, nil)
		d.unreadable("the batch that it is in", err)
		under := k.rowsOf(store.SealMemberships, k.tenant, fmt.Sprintf("key_id = %d", key))
		if n != 0 || at != (store.ResealCursor{}) || under != 0 {
			t.Errorf("the batch wrote %d rows up to %+v, and %d are under the new key; want nothing of it", n, at, under)
		}
		var left []error
		at = store.ResealCursor{}
		for done := false; !done; {
			if at, _, done, err = k.Reseal(k.ctx, k.tenant, at, 3, func(err error) { left = append(left, err) }); err != nil {
				t.Fatal(err)
			}
		}
		if len(left) != 1 {
			t.Fatalf("left as they are: %v, want the one", left)
		}
		d.unreadable("what is left", left[0])
		k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		k.wantAllUnder(k.tenant, key)
		// Whose it is nobody can tell, so it has no index under the new key; it is in the
		// list of its role, and gives nothing.
		if row, err := k.Grant(k.ctx, k.tenant, policy.KindUser, "alice"); err == nil && (len(row.Grant) != 1 || row.Grant[0].Role == editor) {
			t.Errorf("her grant, afterwards: %v", row.Grant)
		}
		d.unreadable("the members, afterwards", theError(k.second().MemberList(k.ctx, k.tenant, "editor")))
		d.sound("another's grant", theError(k.Grant(k.ctx, k.tenant, policy.KindClient, "ci")))
		k.done(k.DeleteRole(k.ctx, k.by, k.tenant, "editor"))
		d.sound("her grant, without the role", theError(k.Grant(k.ctx, k.tenant, policy.KindUser, "alice")))
	}
}
