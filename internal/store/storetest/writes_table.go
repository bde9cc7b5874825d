package storetest

import (
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	expiryJSON = `{"expires": "2031-05-06T07:08:09.123456Z"}`
	present    = `{"present": true}`
)

func entry(action store.Action, resource string, success bool) store.AuditEntry {
	return store.AuditEntry{Action: action, Resource: resource, Success: success}
}

func memberEntry(action store.Action, resource, user string, success bool) store.AuditEntry {
	return store.AuditEntry{Action: action, Resource: resource, User: user, Success: success}
}

func text(s string) *string { return &s }

// writes is every write of the contract with every outcome that it can have.
func writes() []aWrite {
	var all []aWrite
	all = append(all, roleWrites()...)
	all = append(all, linkWrites()...)
	all = append(all, memberWrites()...)
	all = append(all, tenantWrites()...)
	all = append(all, keyWrites()...)
	all = append(all, denialWrites()...)
	all = append(all, signingWrites()...)
	all = append(all, refreshWrites()...)
	all = append(all, rotatedKeyWrites()...)
	all = append(all, openingWrites()...)
	return append(all, importWrites()...)
}

func roleWrites() []aWrite {
	put := func(name string, description *string) func(*kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) { return k.PutRole(k.ctx, k.by, k.tenant, name, description) }
	}
	del := func(k *kit) (store.Result, error) { return k.DeleteRole(k.ctx, k.by, k.tenant, "editor") }
	described := func(k *kit) { k.done(put("editor", text("Edits"))(k)) }
	return []aWrite{
		{name: "create a role", do: put("editor", nil), outcome: store.OutcomeDone, changes: rolesChange,
			audit: entry(store.ActionCreateRole, "role/editor", true), after: `{"description": ""}`},
		{name: "create a described role", do: put("editor", text("Edits")), outcome: store.OutcomeDone, changes: rolesChange,
			audit: entry(store.ActionCreateRole, "role/editor", true), after: `{"description": "Edits"}`},
		{name: "create a role again", given: described, do: put("editor", nil), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit:  entry(store.ActionCreateRole, "role/editor", true),
			before: `{"description": "Edits"}`, after: `{"description": "Edits"}`},
		{name: "describe a role as it is", given: described, do: put("editor", text("Edits")), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit:  entry(store.ActionCreateRole, "role/editor", true),
			before: `{"description": "Edits"}`, after: `{"description": "Edits"}`},
		{name: "describe a role anew", given: described, do: put("editor", text("")), outcome: store.OutcomeDone, changes: rolesChange,
			audit:  entry(store.ActionCreateRole, "role/editor", true),
			before: `{"description": "Edits"}`, after: `{"description": ""}`},
		{name: "delete a role", given: described, do: del, outcome: store.OutcomeDone, changes: rolesChange,
			audit: entry(store.ActionDeleteRole, "role/editor", true), before: `{"description": "Edits"}`},
		{name: "delete a role with all its links", given: func(k *kit) {
			described(k)
			k.role(k.tenant, "above", "below")
			k.done(k.AddParent(k.ctx, k.by, k.tenant, "editor", "above"))
			k.done(k.AddParent(k.ctx, k.by, k.tenant, "below", "editor"))
			k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write"))
			k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "read"))
			k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", time.Time{}))
		}, do: del, outcome: store.OutcomeDone, changes: rolesChange, // no grant changes: the id is gone
			audit:  entry(store.ActionDeleteRole, "role/editor", true),
			before: `{"description": "Edits", "permissions": ["read", "write"], "parents": ["above"], "children": ["below"], "members": 1}`},
		{name: "delete an absent role", do: del, outcome: store.OutcomeMissing, changes: noChanges,
			audit: entry(store.ActionDeleteRole, "role/editor", false)},
	}
}

func linkWrites() []aWrite {
	addParent := func(k *kit) (store.Result, error) { return k.AddParent(k.ctx, k.by, k.tenant, "editor", "viewer") }
	removeParent := func(k *kit) (store.Result, error) {
		return k.RemoveParent(k.ctx, k.by, k.tenant, "editor", "viewer")
	}
	addPermission := func(k *kit) (store.Result, error) {
		return k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write")
	}
	removePermission := func(k *kit) (store.Result, error) {
		return k.RemovePermission(k.ctx, k.by, k.tenant, "editor", "write")
	}
	both := func(k *kit) { k.role(k.tenant, "editor", "viewer") }
	parent := func(k *kit) { both(k); k.done(addParent(k)) }
	permission := func(k *kit) { both(k); k.done(addPermission(k)) }
	added := func(success bool) store.AuditEntry {
		return entry(store.ActionAddParent, "parent/editor/viewer", success)
	}
	removed := entry(store.ActionRemoveParent, "parent/editor/viewer", true)
	gave := func(success bool) store.AuditEntry {
		return entry(store.ActionAddPermission, "permission/editor/write", success)
	}
	took := entry(store.ActionRemovePermission, "permission/editor/write", true)
	return []aWrite{
		{name: "add a parent", given: both, do: addParent, outcome: store.OutcomeDone, changes: rolesChange, audit: added(true), after: present},
		{name: "add a parent again", given: parent, do: addParent, outcome: store.OutcomeUnchanged, changes: noChanges, audit: added(true), before: present, after: present},
		{name: "add a parent to a missing role", given: func(k *kit) { k.role(k.tenant, "viewer") }, do: addParent, outcome: store.OutcomeMissing, changes: noChanges, audit: added(false)},
		{name: "add a missing parent", given: func(k *kit) { k.role(k.tenant, "editor") }, do: addParent, outcome: store.OutcomeMissing, changes: noChanges, audit: added(false)},
		{name: "remove a parent", given: parent, do: removeParent, outcome: store.OutcomeDone, changes: rolesChange, audit: removed, before: present},
		{name: "remove a parent that is none", given: both, do: removeParent, outcome: store.OutcomeUnchanged, changes: noChanges, audit: removed},
		{name: "remove a parent the other way round", given: func(k *kit) {
			both(k)
			k.done(k.AddParent(k.ctx, k.by, k.tenant, "viewer", "editor"))
		}, do: removeParent, outcome: store.OutcomeUnchanged, changes: noChanges, audit: removed},
		{name: "remove a parent from a missing role", do: removeParent, outcome: store.OutcomeMissing, changes: noChanges, audit: removed},
		{name: "add a permission", given: both, do: addPermission, outcome: store.OutcomeDone, changes: rolesChange, audit: gave(true), after: present},
		{name: "add a permission again", given: permission, do: addPermission, outcome: store.OutcomeUnchanged, changes: noChanges, audit: gave(true), before: present, after: present},
		{name: "add a permission to a missing role", do: addPermission, outcome: store.OutcomeMissing, changes: noChanges, audit: gave(false)},
		{name: "remove a permission", given: permission, do: removePermission, outcome: store.OutcomeDone, changes: rolesChange, audit: took, before: present},
		{name: "remove a permission that is not there", given: both, do: removePermission, outcome: store.OutcomeUnchanged, changes: noChanges, audit: took},
		{name: "remove a permission from a missing role", do: removePermission, outcome: store.OutcomeMissing, changes: noChanges, audit: took},
	}
}

func memberWrites() []aWrite {
	add := func(kind policy.Kind, expires time.Time) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) {
			return k.AddMember(k.ctx, k.by, k.tenant, kind, "alice", "editor", expires)
		}
	}
	remove := func(k *kit) (store.Result, error) {
		return k.RemoveMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor")
	}
	editor := func(k *kit) { k.role(k.tenant, "editor") }
	member := func(expires time.Time) func(k *kit) {
		return func(k *kit) { editor(k); k.done(add(policy.KindUser, expires)(k)) }
	}
	alice := grantChange(policy.KindUser, "alice")
	added := func(user string, success bool) store.AuditEntry {
		return memberEntry(store.ActionAddMembership, "membership/editor", user, success)
	}
	removed := memberEntry(store.ActionRemoveMembership, "membership/editor", "alice", true)
	const forever = `{"expires": null}`
	return []aWrite{
		{name: "add a member", given: editor, do: add(policy.KindUser, time.Time{}), outcome: store.OutcomeDone, changes: alice, audit: added("alice", true), after: forever},
		{name: "add a member for a time", given: editor, do: add(policy.KindUser, expiry), outcome: store.OutcomeDone, changes: alice, audit: added("alice", true), after: expiryJSON},
		{name: "add a client", given: editor, do: add(policy.KindClient, time.Time{}), outcome: store.OutcomeDone,
			changes: grantChange(policy.KindClient, "alice"), audit: added("client:alice", true), after: forever},
		{name: "add a workload", given: editor, do: add(policy.KindWorkload, time.Time{}), outcome: store.OutcomeDone,
			changes: grantChange(policy.KindWorkload, "alice"), audit: added("workload:alice", true), after: forever},
		{name: "add a member again", given: member(time.Time{}), do: add(policy.KindUser, time.Time{}), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: added("alice", true), before: forever, after: forever},
		{name: "add a member again for the same time", given: member(expiry), do: add(policy.KindUser, expiry), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: added("alice", true), before: expiryJSON, after: expiryJSON},
		{name: "set a member's expiry", given: member(time.Time{}), do: add(policy.KindUser, expiry), outcome: store.OutcomeDone, changes: alice,
			audit: added("alice", true), before: forever, after: expiryJSON},
		{name: "lift a member's expiry", given: member(expiry), do: add(policy.KindUser, time.Time{}), outcome: store.OutcomeDone, changes: alice,
			audit: added("alice", true), before: expiryJSON, after: forever},
		{name: "add a member to a missing role", do: add(policy.KindUser, time.Time{}), outcome: store.OutcomeMissing, changes: noChanges, audit: added("alice", false)},
		{name: "remove a member", given: member(expiry), do: remove, outcome: store.OutcomeDone, changes: alice, audit: removed, before: expiryJSON},
		{name: "remove a member who is none", given: editor, do: remove, outcome: store.OutcomeUnchanged, changes: noChanges, audit: removed},
		{name: "remove a member of another kind", given: func(k *kit) { editor(k); k.done(add(policy.KindClient, time.Time{})(k)) }, do: remove,
			outcome: store.OutcomeUnchanged, changes: noChanges, audit: removed},
		{name: "remove a member from a missing role", do: remove, outcome: store.OutcomeMissing, changes: noChanges, audit: removed},
	}
}

func tenantWrites() []aWrite {
	// The creation itself is in testTenants: its audit row is the new tenant's.
	acme := func(admitted bool) func(k *kit) {
		return func(k *kit) {
			_, result, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "acme", Admitted: admitted})
			k.done(result, err)
			k.tenant = k.tenantID("acme")
		}
	}
	admit := func(k *kit) (store.Result, error) { return k.AdmitTenant(k.ctx, k.by, k.tenant) }
	rename := func(name string) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) { return k.RenameTenant(k.ctx, k.by, k.tenant, name) }
	}
	strict := func(on bool) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) { return k.SetStrictUsers(k.ctx, k.by, k.tenant, on) }
	}
	settings := entry(store.ActionUpdateSettings, "settings", true)
	changed := func(k *kit) []store.Change {
		return []store.Change{{Kind: store.ChangeTenant, Tenant: k.tenant}}
	}
	return []aWrite{
		{name: "admit a tenant", given: acme(false), do: admit, outcome: store.OutcomeDone, changes: changed,
			audit: entry(store.ActionAdmitTenant, "tenant/acme", true), before: `{"admitted": false}`, after: `{"admitted": true}`},
		{name: "admit a tenant again", given: acme(true), do: admit, outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: entry(store.ActionAdmitTenant, "tenant/acme", true), before: `{"admitted": true}`, after: `{"admitted": true}`},
		{name: "rename a tenant", given: acme(true), do: rename("globex"), outcome: store.OutcomeDone, changes: changed,
			audit: entry(store.ActionRenameTenant, "tenant/acme", true), before: `{"name": "acme"}`, after: `{"name": "globex"}`},
		{name: "rename a tenant to what it is", given: acme(true), do: rename("acme"), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: entry(store.ActionRenameTenant, "tenant/acme", true), before: `{"name": "acme"}`, after: `{"name": "acme"}`},
		{name: "require keys of users", given: acme(true), do: strict(true), outcome: store.OutcomeDone, changes: changed,
			audit: settings, before: `{"strict_users": false}`, after: `{"strict_users": true}`},
		{name: "require keys of users again", given: func(k *kit) { acme(true)(k); k.done(strict(true)(k)) }, do: strict(true), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: settings, before: `{"strict_users": true}`, after: `{"strict_users": true}`},
		{name: "require no keys of users any more", given: func(k *kit) { acme(true)(k); k.done(strict(true)(k)) }, do: strict(false), outcome: store.OutcomeDone, changes: changed,
			audit: settings, before: `{"strict_users": true}`, after: `{"strict_users": false}`},
	}
}

func keyWrites() []aWrite {
	create := func(k *kit) (store.Result, error) {
		key := keyOf(k.tenant, "ci", "one")
		key.Expires = expiry
		_, result, err := k.CreateKey(k.ctx, k.by, key)
		return result, err
	}
	revoke := func(k *kit) (store.Result, error) {
		_, result, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		return result, err
	}
	keyChange := func(k *kit, secret string, gone bool) store.Change {
		return store.Change{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf(secret), Gone: gone}
	}
	const one = `{"prefix": "one-pref", "scopes": ["check", "manage"], "expires": "2031-05-06T07:08:09.123456Z"}`
	const two = `{"prefix": "two-pref", "scopes": ["check", "manage"], "expires": null}`
	created := entry(store.ActionCreateClientKey, "client_key/ci", true)
	revoked := entry(store.ActionRevokeClientKey, "client_key/ci", true)
	return []aWrite{
		{name: "create a key", do: create, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change { return []store.Change{keyChange(k, "one", false)} }, audit: created, after: one},
		{name: "revoke a key", given: func(k *kit) { k.done(create(k)) }, do: revoke, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change {
				return []store.Change{keyChange(k, "one", true), k.clientDenial(k.tenant, "ci")}
			}, audit: revoked,
			before: `{"keys": [` + one + `], "memberships": 0}`},
		{name: "revoke several keys and a membership", given: func(k *kit) {
			k.done(create(k))
			k.newKey(k.tenant, "ci", "two")
			k.newKey(k.tenant, "other", "three")
			k.role(k.tenant, "editor")
			k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindClient, "ci", "editor", time.Time{}))
		}, do: revoke, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change {
				changes := append([]store.Change{keyChange(k, "one", true), keyChange(k, "two", true)}, grantChange(policy.KindClient, "ci")(k)...)
				return append(changes, k.clientDenial(k.tenant, "ci"))
			}, audit: revoked,
			before: `{"keys": [` + one + `, ` + two + `], "memberships": 1}`},
		{name: "revoke keys again", given: func(k *kit) { k.done(create(k)); k.done(revoke(k)) }, do: revoke, outcome: store.OutcomeUnchanged,
			changes: noChanges, audit: revoked},
		{name: "revoke a key and refresh tokens", given: func(k *kit) {
			k.done(create(k))
			for n, client := range []string{"ci", "other", "ci"} {
				k.aFamily(k.tenant, byte(n+1), client, "alice", expiry.Add(-time.Hour))
			}
		}, do: revoke, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change {
				changes := append([]store.Change{keyChange(k, "one", true)}, k.deniedAccess(1, 3)...)
				return append(changes, k.clientDenial(k.tenant, "ci"))
			}, audit: revoked,
			before: `{"keys": [` + one + `], "memberships": 0, "refresh_families": 2, "denied": 2}`},
		{name: "register a key", do: func(k *kit) (store.Result, error) {
			return k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "ci", "two"), time.Hour)
		}, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change { return []store.Change{keyChange(k, "two", false)} }, audit: created, after: two},
		{name: "register a key in place of another", given: func(k *kit) { k.done(create(k)) }, do: func(k *kit) (store.Result, error) {
			return k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "ci", "two"), time.Hour)
		}, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change {
				return []store.Change{keyChange(k, "two", false), keyChange(k, "one", false)}
			}, audit: created, before: `{"keys": [` + one + `], "memberships": 0}`, after: two},
		{name: "register a key in place of another at once", given: func(k *kit) { k.done(create(k)) }, do: func(k *kit) (store.Result, error) {
			return k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "ci", "two"), 0)
		}, outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change {
				return []store.Change{keyChange(k, "two", false), keyChange(k, "one", true)}
			}, audit: created, before: `{"keys": [` + one + `], "memberships": 0}`, after: two},
	}
}
