package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// newMasters are fresh master keys, as AUTH_ENCRYPTION_KEY lists them.
func newMasters(t *testing.T, keys ...string) *sealing.Masters {
	t.Helper()
	if len(keys) == 0 {
		keys = []string{sealing.NewMaster()}
	}
	m, err := sealing.ParseMasters(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newClearKit is a store in clear that holds a master.
func newClearKit(t *testing.T, h Harness) *kit {
	t.Helper()
	masters := newMasters(t)
	return kitOn(t, h, h.openCopy(t, "clear", masters, func(store.Store) {}), masters)
}

func newSealedKit(t *testing.T, h Harness) *kit {
	t.Helper()
	// What was prepared may outlive this run of the suite, whose master is its own.
	name := "sealed under " + string(h.masters.First())
	return kitOn(t, h, h.openCopy(t, name, h.masters, func(st store.Store) {
		k := kitOn(t, h, st, h.masters)
		k.rotate(store.RotateEnable, 100, k.alone)
	}), h.masters)
}

// newKitFor is a store in the state from which a rotation of the kind begins.
func newKitFor(t *testing.T, h Harness, kind store.RotationKind) *kit {
	t.Helper()
	if kind == store.RotateEnable {
		return newClearKit(t, h)
	}
	return newSealedKit(t, h)
}

// rotationKinds are all kinds of rotation.
var rotationKinds = []store.RotationKind{store.RotateDeep, store.RotateEnable, store.RotateDisable}

// alone is a between of rotate that does every step on k.
func (k *kit) alone(string) *kit { return k }

// rotate takes the database through a whole rotation, limit rows a batch, and
// returns how many rows of each tenant it wrote. Before each step it asks between
// for the handle to do it on: each may belong to another process.
func (k *kit) rotate(kind store.RotationKind, limit int, between func(step string) *kit) map[store.TenantID]int64 {
	k.Helper()
	rows := make(map[store.TenantID]int64)
	on := between("begin")
	on.done(on.BeginRotation(on.ctx, on.by, kind))
	for {
		tenants := must[[]store.TenantID](on)(on.RotationTenants(on.ctx, 1))
		if len(tenants) == 0 {
			break
		}
		tenant := tenants[0]
		on = between(fmt.Sprintf("begin tenant %d", tenant))
		on.done(on.BeginTenant(on.ctx, on.by, tenant))
		rows[tenant] += k.resealAll(tenant, limit, between)
		on = between(fmt.Sprintf("finish tenant %d", tenant))
		on.done(on.FinishTenant(on.ctx, on.by, tenant))
	}
	on = between("finish")
	on.done(on.FinishRotation(on.ctx, on.by))
	return rows
}

// resealAll seals a begun tenant's rows anew, and returns how many.
func (k *kit) resealAll(tenant store.TenantID, limit int, between func(step string) *kit) (rows int64) {
	k.Helper()
	var at store.ResealCursor
	for done := false; !done; {
		on := between(fmt.Sprintf("reseal tenant %d from %s %d", tenant, at.Table, at.Row))
		before := on.head()
		next, n, end, err := on.Reseal(on.ctx, tenant, at, limit, nil)
		if err != nil {
			k.Fatalf("reseal tenant %d from %+v: %v", tenant, at, err)
		}
		if n < 0 || n > int64(limit) {
			k.Errorf("a batch of %d rows, and the limit is %d", n, limit)
		}
		if !end && next == at {
			k.Fatalf("tenant %d: a batch of %d rows left the cursor at %+v", tenant, n, at)
		}
		if after := on.head(); after != before {
			k.Errorf("sealing rows anew took the revision from %v to %v", before, after)
		}
		at, done, rows = next, end, rows+n
	}
	return rows
}

// sealTables are the tables with sealed columns.
func sealTables() []store.SealTable {
	var all []store.SealTable
	for t := range store.NumSealTables {
		all = append(all, t)
	}
	return all
}

// rowsOf counts a tenant's rows of a table, of the deny-list its subjects, that meet a condition. The key that they
// are under goes by key_id.
func (k *kit) rowsOf(table store.SealTable, tenant store.TenantID, condition string) int64 {
	k.Helper()
	return k.h.Count(k.T, k.Store, countRows(table, tenant, condition))
}

// countRows is rowsOf as a query.
func countRows(table store.SealTable, tenant store.TenantID, condition string) string {
	condition = strings.ReplaceAll(condition, "key_id", keyColumn(table))
	if table == store.SealDenials {
		condition = "kind = 2 AND " + condition
	}
	return fmt.Sprintf("SELECT count(*) FROM %s WHERE tenant_id = %d AND (%s)", table, tenant, condition)
}

// wantAllUnder ends the test unless every row of the tenant is under its key.
func (k *kit) wantAllUnder(tenant store.TenantID, key store.KeyID) {
	k.Helper()
	other := fmt.Sprintf("key_id <> %d", key)
	var each []string
	for _, table := range sealTables() {
		each = append(each, "("+countRows(table, tenant, other)+")")
	}
	if k.h.Count(k.T, k.Store, "SELECT "+strings.Join(each, " + ")) == 0 {
		return
	}
	for _, table := range sealTables() {
		if n := k.rowsOf(table, tenant, other); n > 0 {
			k.Errorf("%d rows of %s are not under key %d of tenant %d", n, table, key, tenant)
		}
	}
}

// furnish gives a tenant a row of everything that is sealed, and more than one. The
// secrets of its keys begin with the tenant's number.
func (k *kit) furnish(tenant store.TenantID) {
	k.Helper()
	secret := func(name string) string { return fmt.Sprintf("%d %s", tenant, name) }
	for role, description := range map[string]string{"editor": "May edit", "viewer": "", "owner": "Owns \u00e9verything"} {
		k.done(k.PutRole(k.ctx, k.by, tenant, role, &description))
	}
	k.done(k.AddParent(k.ctx, k.by, tenant, "owner", "editor"))
	for _, p := range [][2]string{{"editor", "write"}, {"editor", "read"}, {"viewer", "read"}, {"owner", "' OR '1'='1"}} {
		k.done(k.AddPermission(k.ctx, k.by, tenant, p[0], p[1]))
	}
	k.newUserKey(tenant, "alice", secret("hers"))
	former := k.newUserKey(tenant, "alice", secret("her former"))
	k.done(k.RevokeUserKey(k.ctx, k.by, tenant, "alice", former.ID))
	k.newUserKey(tenant, "bob", secret("his"))
	k.newKey(tenant, "ci", secret("ci"))
	for _, m := range []struct {
		kind     policy.Kind
		id, role string
		expires  time.Time
	}{
		{policy.KindUser, "alice", "editor", time.Time{}}, {policy.KindUser, "alice", "viewer", expiry},
		{policy.KindUser, "bob", "viewer", time.Time{}}, {policy.KindClient, "ci", "editor", time.Time{}},
		{policy.KindClient, "ci", "viewer", expiry}, {policy.KindWorkload, "alice", "owner", time.Time{}},
		{policy.KindUser, strings.Repeat("x", 4000), "owner", time.Time{}},
	} {
		k.done(k.AddMember(k.ctx, k.by, tenant, m.kind, m.id, m.role, m.expires))
	}
	k.deny(denyUser(tenant, "mallory", expiry.Add(-time.Hour), expiry))
	f := familyOf(tenant, byte(tenant), expiry)
	k.done(k.StartFamily(k.ctx, k.by, f, digestOf(secret("refresh")), accessOf(secret("jti"), expiry)))
	if err := k.RecordAudit(k.ctx, []store.AuditEntry{
		{Tenant: tenant, Actor: "client:ops", User: "alice", Action: store.ActionCheckPermission, Resource: "permission/editor/write", Details: `{"d": 1}`, Outcome: "done", Success: true},
		{Tenant: tenant, Actor: "unknown", Action: store.ActionAuthFailed, Outcome: "denied"},
	}); err != nil {
		k.Fatal(err)
	}
}

// look puts all that can be read of a tenant into words, but for the revisions.
func (k *kit) look(tenant store.TenantID) string {
	k.Helper()
	var text strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	if tenant == 0 {
		// What belongs to no tenant, but for the trail of the rotation that goes on.
		for _, d := range k.denials(0) {
			say("denied %+v", d)
		}
		say("signing keys %+v", k.signers())
		entries, _ := k.audit(0)
		for _, e := range entries {
			if e.Action != store.ActionRotateEncryption && e.Action != store.ActionRewrapKeys {
				say("%+v", e)
			}
		}
		return text.String()
	}
	table := describe(must[store.TenantRoles](k)(k.Roles(k.ctx, tenant)).Roles)
	for _, role := range slices.Sorted(maps.Keys(table)) {
		say("table %q %s", role, table[role])
	}
	users := map[principal]bool{{policy.KindUser, "nobody"}: true, {policy.KindUser, "alice"}: true, {policy.KindUser, "bob"}: true}
	roles := must[[]store.Role](k)(k.RoleList(k.ctx, tenant))
	for _, role := range roles {
		say("role %+v", role)
		permissions := must[[]string](k)(k.PermissionList(k.ctx, tenant, role.Name))
		say("permissions %q", permissions)
		for _, p := range append([]string{"nothing"}, permissions...) {
			say("has %q: %v", p, must[bool](k)(k.HasPermission(k.ctx, tenant, role.Name, p)))
		}
		for _, m := range must[[]store.Member](k)(k.MemberList(k.ctx, tenant, role.Name)) {
			say("member %v %q of %q until %d", m.Kind, m.ID, m.Role, m.Expires.UnixNano())
			users[principal{m.Kind, m.ID}] = true
		}
	}
	for _, u := range slices.SortedFunc(maps.Keys(users), func(a, b principal) int {
		return strings.Compare(fmt.Sprint(a.kind, a.id), fmt.Sprint(b.kind, b.id))
	}) {
		row := must[store.GrantRow](k)(k.Grant(k.ctx, tenant, u.kind, u.id))
		say("%v %q holds %v, backed until %d", u.kind, u.id, row.Grant, row.KeyBackedUntil)
		for _, role := range roles {
			say("in %q: %v", role.Name, must[bool](k)(k.HasRole(k.ctx, tenant, u.kind, u.id, role.Name, time.Unix(0, 1))))
		}
		for _, key := range must[[]store.UserKey](k)(k.UserKeyList(k.ctx, tenant, u.id)) {
			found := must[store.UserKeyRow](k)(k.UserKey(k.ctx, key.Digest)).Key
			if found == nil || *found != key {
				k.Errorf("key %+v is %+v by its digest", key, found)
			}
			say("key %+v", key)
		}
	}
	say("clients %+v", must[[]store.ClientKey](k)(k.KeyList(k.ctx, tenant)))
	for _, d := range k.denials(tenant) {
		say("denied %+v", d)
	}
	if token, err := k.Refresh(k.ctx, digestOf(fmt.Sprintf("%d refresh", tenant))); err == nil {
		say("refresh token %+v", token)
	} else {
		k.wantErr(err, store.ErrNotFound)
	}
	entries, total := k.audit(tenant)
	say("%d audit rows", total)
	for _, e := range entries {
		say("%+v", e)
	}
	return text.String()
}

// wantLook compares what is read with what was read.
func (k *kit) wantLook(when string, tenant store.TenantID, want string) {
	k.Helper()
	got := k.look(tenant)
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			k.Fatalf("%s: tenant %d reads otherwise\n got %.300s\nwant %.300s", when, tenant, a, b)
		}
	}
}
