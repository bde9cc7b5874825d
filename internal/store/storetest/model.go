package storetest

import (
	"maps"
	"slices"
	"strings"

	"portcullis/internal/store"
	"portcullis/policy"
)

// model is the store told naively, as at one revision. Writes are applied to it
// in the order of their revisions; what was read at a revision must then be
// what the model holds.
type model struct {
	tenants  map[store.TenantID]*tenantModel
	keys     map[store.Digest]*keyModel
	userKeys map[store.Digest]*userKeyModel
	tokensModel
	indexOf func(store.TenantID, store.KeyID, principal) store.Index
}

type tenantModel struct {
	name     string
	admitted bool
	key      store.KeyID
	roles    map[string]*roleModel
	grants   map[principal]map[string]int64 // role to expiry
}

type roleModel struct {
	born        int64 // the revision that made it: names come again, ids do not
	parents     map[string]bool
	permissions map[string]bool
}

type keyModel struct {
	tenant store.TenantID
	name   string
	live   bool
	seq    int // order of creation
}

type userKeyModel struct {
	tenant  store.TenantID
	user    string
	expires int64 // later than the test
	live    bool
}

type principal struct {
	kind policy.Kind
	id   string
}

// index is a principal's index under the tenant's key of the moment.
func (m *model) index(tenant store.TenantID, p principal) store.Index {
	return m.indexOf(tenant, m.tenants[tenant].key, p)
}

func (m *model) addTenant(id store.TenantID, name string, admitted bool, key store.KeyID) {
	m.tenants[id] = &tenantModel{name: name, admitted: admitted, key: key, roles: make(map[string]*roleModel), grants: make(map[principal]map[string]int64)}
}

// verdict is what a write does to the model.
type verdict struct {
	outcome store.Outcome
	changes []store.Change
}

var (
	unchanged = verdict{outcome: store.OutcomeUnchanged}
	absent    = verdict{outcome: store.OutcomeMissing}
)

func did(changes ...store.Change) verdict {
	return verdict{outcome: store.OutcomeDone, changes: changes}
}

func rolesOf(tenant store.TenantID) store.Change {
	return store.Change{Kind: store.ChangeRoles, Tenant: tenant}
}

func (m *model) putRole(tenant store.TenantID, role string, revision int64) verdict {
	t := m.tenants[tenant]
	if t.roles[role] != nil {
		return unchanged
	}
	t.roles[role] = &roleModel{born: revision, parents: make(map[string]bool), permissions: make(map[string]bool)}
	return did(rolesOf(tenant))
}

func (m *model) deleteRole(tenant store.TenantID, role string) verdict {
	t := m.tenants[tenant]
	if t.roles[role] == nil {
		return absent
	}
	delete(t.roles, role)
	for _, other := range t.roles {
		delete(other.parents, role)
	}
	for _, held := range t.grants {
		delete(held, role)
	}
	return did(rolesOf(tenant))
}

// link adds or removes a parent or permission in a set.
func link(set map[string]bool, name string, add bool, tenant store.TenantID) verdict {
	if set[name] == add {
		return unchanged
	}
	if add {
		set[name] = true
	} else {
		delete(set, name)
	}
	return did(rolesOf(tenant))
}

func (m *model) parent(tenant store.TenantID, role, parent string, add bool) verdict {
	t := m.tenants[tenant]
	if t.roles[role] == nil || t.roles[parent] == nil {
		return absent
	}
	return link(t.roles[role].parents, parent, add, tenant)
}

func (m *model) permission(tenant store.TenantID, role, permission string, add bool) verdict {
	t := m.tenants[tenant]
	if t.roles[role] == nil {
		return absent
	}
	return link(t.roles[role].permissions, permission, add, tenant)
}

// member sets a membership; expires 0 removes it.
func (m *model) member(tenant store.TenantID, p principal, role string, expires int64) verdict {
	t := m.tenants[tenant]
	if t.roles[role] == nil {
		return absent
	}
	held := t.grants[p]
	if held == nil {
		held = make(map[string]int64)
		t.grants[p] = held
	}
	if held[role] == expires {
		return unchanged
	}
	if expires == 0 {
		delete(held, role)
	} else {
		held[role] = expires
	}
	return did(store.Change{Kind: store.ChangeGrant, Tenant: tenant, Index: m.index(tenant, p)})
}

func (m *model) createKey(tenant store.TenantID, name string, digest store.Digest) verdict {
	m.keys[digest] = &keyModel{tenant: tenant, name: name, live: true, seq: len(m.keys)}
	return did(store.Change{Kind: store.ChangeKey, Tenant: tenant, Digest: digest})
}

// retire closes the live keys of a name but one, in the order of creation.
func (m *model) retire(tenant store.TenantID, name string, but store.Digest) []store.Change {
	digests := slices.SortedFunc(maps.Keys(m.keys), func(a, b store.Digest) int { return m.keys[a].seq - m.keys[b].seq })
	var changes []store.Change
	for _, digest := range digests {
		if k := m.keys[digest]; k.tenant == tenant && k.name == name && k.live && digest != but {
			k.live = false
			changes = append(changes, store.Change{Kind: store.ChangeKey, Tenant: tenant, Digest: digest, Gone: true})
		}
	}
	return changes
}

func (m *model) revokeKeys(tenant store.TenantID, name string) verdict {
	changes := m.retire(tenant, name, store.Digest{})
	p := principal{policy.KindClient, name}
	if len(m.tenants[tenant].grants[p]) > 0 {
		delete(m.tenants[tenant].grants, p)
		changes = append(changes, store.Change{Kind: store.ChangeGrant, Tenant: tenant, Index: m.index(tenant, p)})
	}
	if changes = m.revokedClient(tenant, name, changes); len(changes) == 0 {
		return unchanged
	}
	return did(changes...)
}

// userKey makes a key, or where key is nil revokes it.
func (m *model) userKey(digest store.Digest, key *userKeyModel) verdict {
	if key != nil {
		m.userKeys[digest] = key
	} else if key = m.userKeys[digest]; !key.live {
		return unchanged
	} else {
		key.live = false
	}
	return did(store.Change{Kind: store.ChangeKey, Tenant: key.tenant, Digest: digest, Gone: !key.live},
		store.Change{Kind: store.ChangeGrant, Tenant: key.tenant, Index: m.index(key.tenant, principal{policy.KindUser, key.user})})
}

// backed is until when API keys back a principal.
func (m *model) backed(tenant store.TenantID, p principal) (until int64) {
	for _, k := range m.userKeys {
		if k.live && k.tenant == tenant && p == (principal{policy.KindUser, k.user}) {
			until = max(until, k.expires)
		}
	}
	return until
}

func (m *model) admit(tenant store.TenantID) verdict {
	t := m.tenants[tenant]
	if t.admitted {
		return unchanged
	}
	t.admitted = true
	return did(store.Change{Kind: store.ChangeTenant, Tenant: tenant})
}

// cyclic reports whether some role of some tenant inherits itself.
func (m *model) cyclic() bool {
	for _, t := range m.tenants {
		for name := range t.roles {
			if t.reaches(name, name, make(map[string]bool)) {
				return true
			}
		}
	}
	return false
}

func (t *tenantModel) reaches(from, to string, seen map[string]bool) bool {
	for parent := range t.roles[from].parents {
		if parent == to {
			return true
		}
		if !seen[parent] {
			seen[parent] = true
			if t.reaches(parent, to, seen) {
				return true
			}
		}
	}
	return false
}

// describe puts a tenant's role table into words, as the function of that name
// does with one that was read.
func (t *tenantModel) describe() map[string]string {
	out := make(map[string]string)
	for name, r := range t.roles {
		out[name] = "parents [" + strings.Join(slices.Sorted(maps.Keys(r.parents)), " ") +
			"] permissions [" + strings.Join(slices.Sorted(maps.Keys(r.permissions)), " ") + "]"
	}
	return out
}
