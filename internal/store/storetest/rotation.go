package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// testRotation: what is read stays as it was at every step of every kind of
// rotation, for every process, and each step may be another process's.
func testRotation(t *testing.T, h Harness) {
	for _, kind := range rotationKinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			t.Run("what is read stays, at every step and on every handle", testRotationKeepsAll(h, kind))
			t.Run("a step that is done already changes nothing", testRotationSteps(h, kind))
			t.Run("counts", testSealCounts(h, kind))
			t.Run("tenants made meanwhile", testTenantsMeanwhile(h, kind))
			t.Run("both live keys count", testBothKeys(h, kind))
			t.Run("a process that slept", testSleepers(h, kind))
		})
	}
	t.Run("deep, once more after it was finished", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.furnish(k.tenant)
		look, keys := k.look(k.tenant), []store.KeyID{k.keyOf(k.tenant)}
		for range 3 {
			k.rotate(store.RotateDeep, 100, k.alone)
			key := k.keyOf(k.tenant)
			if slices.Contains(keys, key) {
				t.Errorf("key %d is used again: there were %v", key, keys)
			}
			keys = append(keys, key)
			k.wantAllUnder(k.tenant, key)
			k.wantLook("afterwards", k.tenant, look)
		}
		if n := h.Count(t, k.Store, "SELECT count(*) FROM encryption_keys"); n != 2 {
			t.Errorf("%d keys are kept, want one for default and one for what belongs to no tenant", n)
		}
	})
}

func testRotationKeepsAll(h Harness, kind store.RotationKind) func(*testing.T) {
	return func(t *testing.T) {
		k := newKitFor(t, h, kind)
		acme := k.newTenant("acme")
		tenants := []store.TenantID{k.tenant, acme}
		looks := make(map[store.TenantID]string)
		for _, tenant := range tenants {
			k.furnish(tenant)
			looks[tenant] = k.look(tenant)
		}
		// stale knows the keys of one step and looks at another; the two that work take
		// turns; and now and then a new process takes up what was cut off.
		stale, others, steps := k.second(), []*kit{k, k.second()}, 0
		rows := k.rotate(kind, 6, func(step string) *kit {
			steps++
			on := others[steps%2]
			if steps%5 == 0 {
				on = k.second()
				others[1] = on
			}
			tenant := tenants[steps%2]
			on.wantLook("before: "+step, tenant, looks[tenant])
			if steps%7 == 0 {
				for _, tenant := range tenants {
					stale.wantLook("for a handle that slept, before: "+step, tenant, looks[tenant])
				}
			}
			return on
		})
		for _, on := range append(others, k, stale, k.second()) {
			for _, tenant := range tenants {
				on.wantLook("at the end", tenant, looks[tenant])
			}
		}
		for _, tenant := range tenants {
			k.wantAllUnder(tenant, k.keyOf(tenant))
			if (kind == store.RotateDisable) != (k.keyOf(tenant) == 0) {
				t.Errorf("tenant %d is under key %d", tenant, k.keyOf(tenant))
			}
			if rows[tenant] < 20 {
				t.Errorf("%d rows of tenant %d were sealed anew", rows[tenant], tenant)
			}
		}
		if left := h.Count(t, k.Store, "SELECT count(*) FROM tenant_keys WHERE former_key_id IS NOT NULL"); left > 0 {
			t.Errorf("%d tenants have a former key left", left)
		}
		t.Logf("%d steps, rows %v", steps, rows)
	}
}

// testRotationSteps: each step done twice, by two processes, and out of turn.
func testRotationSteps(h Harness, kind store.RotationKind) func(*testing.T) {
	return func(t *testing.T) {
		k := newKitFor(t, h, kind)
		k.furnish(k.tenant)
		second := k.second()
		before := k.keyOf(k.tenant)
		list := func() []store.TenantID {
			t.Helper()
			return must[[]store.TenantID](k)(second.RotationTenants(k.ctx, 100))
		}
		k.done(k.BeginRotation(k.ctx, k.by, kind))
		if got := list(); !slices.Equal(got, []store.TenantID{0, k.tenant}) {
			t.Fatalf("tenants to go through %v, want 0 and default", got)
		}
		if got := must[[]store.TenantID](k)(k.RotationTenants(k.ctx, 1)); !slices.Equal(got, []store.TenantID{0}) {
			t.Errorf("the first one of them is %v", got)
		}
		if k.keyOf(k.tenant) != before {
			t.Error("the tenant's key changed before the tenant was begun")
		}

		revision, mallory := k.head(), denyUser(k.tenant, "mallory", expiry.Add(-time.Hour), expiry)
		former := k.markOf(mallory)
		r := k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		if r.Revision.Number != revision.Number+1 {
			t.Errorf("revision %d after %d", r.Revision.Number, revision.Number)
		}
		k.wantChanges("a tenant is begun", revision,
			store.Change{Kind: store.ChangeTenant, Tenant: k.tenant}, store.Change{Kind: store.ChangeTenantGrants, Tenant: k.tenant},
			denialGone(k.tenant, former), denialChange(k.tenant, k.markOf(mallory)))
		key := k.keyOf(k.tenant)
		if d := k.delta(revision); len(d.Tenants) != 1 || d.Tenants[0].Key != key || key == before {
			t.Errorf("the delta carries %+v, and the key is %d, was %d", d.Tenants, key, before)
		}
		for _, on := range []*kit{k, second, k.second()} {
			revision = k.head()
			r, err := on.BeginTenant(k.ctx, k.by, k.tenant)
			if err != nil || r.Outcome != store.OutcomeUnchanged || on.keyOf(k.tenant) != key {
				t.Errorf("begun again: %v, %v, key %d; want unchanged, and %d", r.Outcome, err, on.keyOf(k.tenant), key)
			}
			k.wantChanges("begun again", revision)
		}
		second.refused("finished with rows left", func() error { _, err := second.FinishTenant(k.ctx, k.by, k.tenant); return err })

		// Cut off in the middle: whoever takes it up may begin from the first row.
		at, n, done, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 5, nil)
		if err != nil || n != 5 || done || at == (store.ResealCursor{}) {
			t.Fatalf("a first batch of 5: %d rows, cursor %+v, done %v, %v", n, at, done, err)
		}
		second.refused("finished with rows left", func() error { _, err := second.FinishTenant(k.ctx, k.by, k.tenant); return err })
		if again, n, _, err := second.Reseal(k.ctx, k.tenant, at, 5, nil); err != nil || n != 5 || again == at {
			t.Errorf("a second batch of 5, by another process: %d rows, cursor %+v, %v", n, again, err)
		}
		second.resealAll(k.tenant, 5, second.alone)
		if _, n, done, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 1000, nil); n != 0 || !done || err != nil {
			t.Errorf("all is done, and once more: %d rows, done %v, %v", n, done, err)
		}
		if got := list(); !slices.Equal(got, []store.TenantID{0, k.tenant}) {
			t.Errorf("tenants to go through %v, want both still", got)
		}
		revision = k.head()
		k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		k.wantChanges("a tenant is finished", revision, store.Change{Kind: store.ChangeTenant, Tenant: k.tenant})
		if got := k.keyOf(k.tenant); got != key {
			t.Errorf("finishing took the key from %d to %d", key, got)
		}
		if got := list(); !slices.Equal(got, []store.TenantID{0}) {
			t.Errorf("tenants to go through %v, want 0 alone", got)
		}
		// The steps of a tenant that is finished change nothing any more.
		if r, err := second.BeginTenant(k.ctx, k.by, k.tenant); err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("begun once more: %v, %v", r.Outcome, err)
		}
		if r, err := second.FinishTenant(k.ctx, k.by, k.tenant); err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("finished once more: %v, %v", r.Outcome, err)
		}
		if k.keyOf(k.tenant) != key {
			t.Error("the steps once more changed the key")
		}
		second.refused("the end with a tenant left", func() error { _, err := second.FinishRotation(k.ctx, k.by); return err })

		revision = k.head()
		k.done(k.BeginTenant(k.ctx, k.by, 0))
		k.resealAll(0, 100, k.alone)
		k.done(second.FinishTenant(k.ctx, k.by, 0))
		for _, c := range k.changesOf(revision) {
			if c.Tenant != 0 {
				t.Errorf("going through what belongs to no tenant changed %v", c)
			}
		}
		if got := list(); len(got) != 0 {
			t.Errorf("tenants to go through %v, want none", got)
		}
		revision = k.head()
		k.done(second.FinishRotation(k.ctx, k.by))
		k.wantChanges("the end", revision)
		if e := k.encryption(); e.Rotation != 0 || e.Enabled == (kind == store.RotateDisable) {
			t.Errorf("at the end: %+v", e)
		}
		k.refused("the end once more", func() error { _, err := k.FinishRotation(k.ctx, k.by); return err })
	}
}

// testSealCounts: what is counted beforehand is what is written.
func testSealCounts(h Harness, kind store.RotationKind) func(*testing.T) {
	return func(t *testing.T) {
		k := newKitFor(t, h, kind)
		acme := k.newTenant("acme")
		k.furnish(k.tenant)
		k.furnish(acme)
		var want [store.NumSealTables]int64
		under := "key_id <> 0"
		if kind == store.RotateEnable {
			under = "key_id = 0"
		}
		for _, table := range sealTables() {
			for _, tenant := range []store.TenantID{0, k.tenant, acme} {
				want[table] += k.rowsOf(table, tenant, under)
			}
			if want[table] == 0 {
				t.Fatalf("no rows of %s: the test proves nothing", table)
			}
		}
		if got := must[[store.NumSealTables]int64](k)(k.SealCounts(k.ctx, kind)); got != want {
			t.Errorf("counted %v, want %v", got, want)
		}
		k.done(k.BeginRotation(k.ctx, k.by, kind))
		before := must[[store.NumSealTables]int64](k)(k.SealCounts(k.ctx, kind))
		_, n, _, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 1, nil)
		if err == nil && n > 0 {
			t.Errorf("%d rows of a tenant that was not begun were sealed anew", n)
		}
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		rows := k.resealAll(k.tenant, 4, k.alone)
		var mine int64
		for _, table := range sealTables() {
			if table == store.SealDenials {
				continue // BeginTenant wrote them: their digests changed
			}
			mine += k.rowsOf(table, k.tenant, "1 = 1")
		}
		if rows != mine {
			t.Errorf("%d rows were written, the tenant has %d", rows, mine)
		}
		// What is left is counted once it is begun as well as before.
		after := must[[store.NumSealTables]int64](k)(k.SealCounts(k.ctx, kind))
		for _, table := range sealTables() {
			left := before[table] - k.rowsOf(table, k.tenant, "1 = 1")
			if table == store.SealAudit {
				continue // the steps' own rows are among them
			}
			if after[table] != left {
				t.Errorf("%s: %d rows left, want %d", table, after[table], left)
			}
		}
	}
}

// testTenantsMeanwhile: a tenant that is made while a rotation is under way is made
// as the rotation leaves the others, and is not gone through.
func testTenantsMeanwhile(h Harness, kind store.RotationKind) func(*testing.T) {
	return func(t *testing.T) {
		k := newKitFor(t, h, kind)
		second := k.second()
		steps := 0
		made := make(map[store.TenantID]string)
		keys := make(map[store.TenantID]store.KeyID)
		rows := k.rotate(kind, 100, func(step string) *kit {
			if steps++; step == "begin" {
				return k
			}
			on := []*kit{k, second}[steps%2]
			tenant, r, err := on.CreateTenant(k.ctx, k.by, store.NewTenant{Name: fmt.Sprint("made-", steps), Admitted: true})
			on.done(r, err)
			if (tenant.Key == 0) != (kind == store.RotateDisable) || tenant.Key != on.keyOf(tenant.ID) {
				t.Errorf("before %s: tenant %+v was made, and is under key %d", step, tenant, on.keyOf(tenant.ID))
			}
			on.furnish(tenant.ID)
			k.wantAllUnder(tenant.ID, tenant.Key)
			made[tenant.ID], keys[tenant.ID] = on.look(tenant.ID), tenant.Key
			return []*kit{second, k}[steps%2]
		})
		if len(made) < 5 {
			t.Fatalf("%d tenants were made", len(made))
		}
		for tenant, look := range made {
			if n, ok := rows[tenant]; ok {
				t.Errorf("tenant %d was made as it should be, and was gone through: %d rows", tenant, n)
			}
			k.wantAllUnder(tenant, keys[tenant])
			k.second().wantLook("a tenant that was made meanwhile", tenant, look)
		}
	}
}

// testBothKeys: while a tenant's rows are under two keys, look-ups, deletions and
// uniqueness hold across both.
func testBothKeys(h Harness, kind store.RotationKind) func(*testing.T) {
	return func(t *testing.T) {
		k := newKitFor(t, h, kind)
		k.furnish(k.tenant)
		for n := range store.MaxUserKeys - 2 {
			k.newUserKey(k.tenant, "alice", fmt.Sprintf("former %d", n))
		}
		second := k.second()
		k.done(k.BeginRotation(k.ctx, k.by, kind))
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		key := k.keyOf(k.tenant)
		unchanged := func(what string, r store.Result, err error) {
			t.Helper()
			if err != nil || r.Outcome != store.OutcomeUnchanged {
				t.Errorf("%s: %v, %v; want unchanged", what, r.Outcome, err)
			}
		}
		for i, on := range []*kit{second, k} {
			r, err := on.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "bob", "viewer", time.Time{})
			unchanged("a membership that is there", r, err)
			r, err = on.AddPermission(k.ctx, k.by, k.tenant, "editor", "write")
			unchanged("a permission that is there", r, err)
			if i > 0 {
				continue
			}
			on.done(on.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "bob", "viewer", expiry))
			on.done(on.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "bob", "viewer", time.Time{}))
			// One more of hers, under the other key, and there is no room.
			on.newUserKey(k.tenant, "alice", "new")
			_, _, err = on.CreateUserKey(k.ctx, k.by, userKeyOf(k.tenant, "alice", "too many"))
			k.wantErr(err, store.ErrKeyCap)
		}
		if n := len(must[[]store.UserKey](k)(k.UserKeyList(k.ctx, k.tenant, "alice"))); n != store.MaxUserKeys+1 {
			t.Errorf("%d keys of alice, want %d with the revoked one", n, store.MaxUserKeys+1)
		}
		if list := must[[]string](k)(k.PermissionList(k.ctx, k.tenant, "editor")); !slices.Equal(list, []string{"read", "write"}) {
			t.Errorf("permissions %q", list)
		}
		// New rows beside the old ones.
		k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "delete"))
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "carol", "viewer", time.Time{}))
		for table, condition := range map[store.SealTable]string{store.SealMemberships: "key_id %s %d", store.SealPermissions: "key_id %s %d", store.SealUserKeys: "key_id %s %d"} {
			if old, young := k.rowsOf(table, k.tenant, fmt.Sprintf(condition, "<>", key)), k.rowsOf(table, k.tenant, fmt.Sprintf(condition, "=", key)); old == 0 || young == 0 {
				t.Fatalf("%s: %d rows under the former key, %d under the current: the test proves nothing", table, old, young)
			}
		}
		for _, on := range []*kit{k, second, k.second()} {
			if list := must[[]string](k)(on.PermissionList(k.ctx, k.tenant, "editor")); !slices.Equal(list, []string{"delete", "read", "write"}) {
				t.Errorf("permissions %q", list)
			}
			var members []string
			for _, m := range must[[]store.Member](k)(on.MemberList(k.ctx, k.tenant, "viewer")) {
				members = append(members, m.ID)
			}
			if want := []string{"alice", "bob", "carol", "ci"}; !slices.Equal(members, want) {
				t.Errorf("members %q, want %q", members, want)
			}
			for _, user := range []string{"bob", "carol"} {
				if !must[bool](k)(on.HasRole(k.ctx, k.tenant, policy.KindUser, user, "viewer", time.Now())) {
					t.Errorf("%s is no viewer", user)
				}
			}
			for _, permission := range []string{"write", "delete"} {
				if !must[bool](k)(on.HasPermission(k.ctx, k.tenant, "editor", permission)) {
					t.Errorf("editors may not %s", permission)
				}
			}
		}
		// Taken away and given again: the row is the new key's, and there is one.
		second.done(second.RemovePermission(k.ctx, k.by, k.tenant, "editor", "write"))
		if must[bool](k)(k.HasPermission(k.ctx, k.tenant, "editor", "write")) {
			t.Error("a permission that was taken away is there")
		}
		k.done(k.AddPermission(k.ctx, k.by, k.tenant, "editor", "write"))
		for _, user := range []string{"bob", "carol"} {
			second.done(second.RemoveMember(k.ctx, k.by, k.tenant, policy.KindUser, user, "viewer"))
			if g := k.grant(k.tenant, policy.KindUser, user); len(g) > 0 {
				t.Errorf("%s still holds %v", user, g)
			}
		}
		// A strict tenant counts keys under either.
		k.done(k.SetStrictUsers(k.ctx, k.by, k.tenant, true))
		k.newUserKey(k.tenant, "carol", "hers, new")
		for _, user := range []string{"bob", "carol"} {
			if until := k.backed(k.tenant, user); until != store.BackedForever {
				t.Errorf("%s is backed until %d", user, until)
			}
			k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, user, "viewer", time.Time{}))
		}
		for _, key := range must[[]store.UserKey](k)(k.UserKeyList(k.ctx, k.tenant, "alice")) {
			if key.Active(time.Now()) {
				second.done(second.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", key.ID))
			}
		}
		if until := k.backed(k.tenant, "alice"); until != 0 {
			t.Errorf("alice has no key left, and is backed until %d", until)
		}
		// A client's memberships under both go with its keys.
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindClient, "ci", "owner", time.Time{}))
		before := k.head()
		_, r, err := second.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		k.done(r, err)
		if g := k.grant(k.tenant, policy.KindClient, "ci"); len(g) > 0 {
			t.Errorf("the client still holds %v", g)
		}
		k.wantChanges("keys are revoked", before, store.Change{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf(fmt.Sprintf("%d ci", k.tenant)), Gone: true},
			store.Change{Kind: store.ChangeGrant, Tenant: k.tenant, Index: k.index(k.tenant, policy.KindClient, "ci")},
			k.clientDenial(k.tenant, "ci"))
		look := k.look(k.tenant)
		k.resealAll(k.tenant, 5, k.alone)
		k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		k.wantAllUnder(k.tenant, key)
		k.wantLook("at the end", k.tenant, look)
		second.wantLook("at the end, for another handle", k.tenant, look)
	}
}
