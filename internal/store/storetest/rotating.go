package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
)

// testRotating is testSnapshots while the encryption keys are turned on, changed,
// turned off and on again, each step by one or the other of two processes: what is
// read is true at its revision all the same, and no write fails.
func testRotating(t *testing.T, h Harness) {
	k := newClearKit(t, h)
	storm(k, (*world).rotateOn)
	if t.Failed() {
		return
	}
	// What was cut off ends as well.
	if kind := k.encryption().Rotation; kind != 0 {
		t.Fatalf("the rotation %q was left", kind)
	}
	for _, tenant := range must[[]store.Tenant](k)(k.Tenants(k.ctx)) {
		k.wantAllUnder(tenant.ID, tenant.Key)
	}
	k.wantAllUnder(0, store.KeyID(h.Count(t, k.Store, "SELECT coalesce((SELECT key_id FROM tenant_keys WHERE tenant_id = 0), 0)")))
}

// rotateOn goes from one rotation to the next, at least through one of each kind,
// until stop is closed.
func (w *world) rotateOn(handles []*kit, stop <-chan struct{}) {
	rng, steps, rows, ended := rand.New(rand.NewPCG(3, 5)), 0, int64(0), 0
	on := func() *kit {
		steps++
		time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		return handles[rng.IntN(len(handles))]
	}
	note := func(what string, r store.Result, err error, apply func(m *model) []store.Change) bool {
		if err != nil || r.Outcome != store.OutcomeDone {
			w.Errorf("%s: %v, %v; want done", what, r.Outcome, err)
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.writes = append(w.writes, written{what, r, func(m *model, _ int64) verdict { return did(apply(m)...) }})
		return true
	}
	nothing := func(*model) []store.Change { return nil }
	rotation := func(kind store.RotationKind) bool {
		r, err := on().BeginRotation(w.ctx, w.by, kind)
		if !note("begin "+kind.String(), r, err, nothing) {
			return false
		}
		for {
			tenants, err := on().RotationTenants(w.ctx, 3)
			w.noErr("rotation tenants", err)
			if err != nil || len(tenants) == 0 {
				break
			}
			for _, tenant := range tenants {
				n, ok := w.rotateTenant(tenant, rng, on, note)
				rows += n
				if !ok {
					return false
				}
			}
		}
		r, err = on().FinishRotation(w.ctx, w.by)
		ended++
		return note("finish "+kind.String(), r, err, nothing)
	}
	kinds := []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDisable, store.RotateEnable, store.RotateDeep, store.RotateDeep, store.RotateDisable}
	for i := 0; ; i++ {
		select {
		case <-stop:
			if i > 4 {
				w.Logf("%d rotations, %d steps, %d rows sealed anew", ended, steps, rows)
				return
			}
		default:
		}
		if !rotation(kinds[i%len(kinds)]) {
			return
		}
	}
}

// rotateTenant takes one tenant through the rotation under way.
func (w *world) rotateTenant(tenant store.TenantID, rng *rand.Rand, on func() *kit, note func(string, store.Result, error, func(*model) []store.Change) bool) (rows int64, ok bool) {
	begun := on()
	r, err := begun.BeginTenant(w.ctx, w.by, tenant)
	key := store.KeyID(0)
	if tenant != 0 && err == nil {
		key = begun.keyOf(tenant)
		if slices.Contains(w.tenants, tenant) {
			w.keepIndexes(tenant, key)
		}
	}
	if !note(fmt.Sprintf("begin tenant %d", tenant), r, err, func(m *model) []store.Change {
		if tenant == 0 {
			return nil
		}
		return append([]store.Change{{Kind: store.ChangeTenant, Tenant: tenant}, {Kind: store.ChangeTenantGrants, Tenant: tenant}}, m.rekey(tenant, key)...)
	}) {
		return 0, false
	}
	var at store.ResealCursor
	for done := false; !done; {
		var n int64
		if at, n, done, err = on().Reseal(w.ctx, tenant, at, 1+rng.IntN(40), nil); err != nil {
			w.Errorf("reseal tenant %d from %+v: %v", tenant, at, err)
			return rows, false
		}
		rows += n
		if rng.IntN(20) == 0 {
			at = store.ResealCursor{} // killed, and taken up from the first row
		}
	}
	r, err = on().FinishTenant(w.ctx, w.by, tenant)
	return rows, note(fmt.Sprintf("finish tenant %d", tenant), r, err, func(*model) []store.Change {
		if tenant == 0 {
			return nil
		}
		return []store.Change{{Kind: store.ChangeTenant, Tenant: tenant}}
	})
}

// readLists reads what comes without a revision, and keeps what is known to be of
// one: nothing was committed while it was read.
func (w *world) readLists(on *kit, rng *rand.Rand, stop <-chan struct{}) {
	for range modelReads {
		select {
		case <-stop:
			return
		default:
		}
		tenant, role, p := pick(rng, w.tenants...), pick(rng, "a", "b", "c", "d"), somebody(rng)
		before, err := on.Head(w.ctx)
		w.noErr("head", err)
		members, err := on.MemberList(w.ctx, tenant, role)
		w.noErr("member list", err)
		permissions, err := on.PermissionList(w.ctx, tenant, role)
		w.noErr("permission list", err)
		has, err := on.HasRole(w.ctx, tenant, p.kind, p.id, role, time.Unix(0, 1))
		w.noErr("has role", err)
		may, err := on.HasPermission(w.ctx, tenant, role, "write")
		w.noErr("has permission", err)
		after, err := on.Head(w.ctx)
		w.noErr("head", err)
		_, err = on.UserKeyList(w.ctx, tenant, "ci")
		w.noErr("user key list", err)
		if _, _, err = on.Audit(w.ctx, store.AuditQuery{Tenant: tenant, Limit: 20}); err != nil {
			w.noErr("audit", err)
		}
		if before != after {
			continue
		}
		w.see(observation{"lists", before.Revision, func(r *replay) {
			r.checkLists(tenant, role, p, members, permissions, has, may)
		}})
	}
}

func (r *replay) checkLists(tenant store.TenantID, role string, p principal, members []store.Member, permissions []string, has, may bool) {
	t := r.model.tenants[tenant]
	want := make(map[principal]int64)
	for who, held := range t.grants {
		if expires, ok := held[role]; ok {
			want[who] = expires
		}
	}
	for _, m := range members {
		who := principal{m.Kind, m.ID}
		if expires, ok := want[who]; !ok || m.Expires.UnixNano() != expires || m.Role != role {
			r.Errorf("at %d: member %+v of %s, want until %d (%v)", r.now, m, role, expires, ok)
		}
		delete(want, who)
	}
	if len(want) > 0 {
		r.Errorf("at %d: %v are not among the members of %s", r.now, want, role)
	}
	_, isMember := t.grants[p][role]
	if has != isMember {
		r.Errorf("at %d: %v in %s: %v", r.now, p, role, has)
	}
	var own []string
	if t.roles[role] != nil {
		for name := range t.roles[role].permissions {
			own = append(own, name)
		}
	}
	slices.Sort(own)
	if !slices.Equal(permissions, own) || may != slices.Contains(own, "write") {
		r.Errorf("at %d: %s has %q, and may write: %v; want %q", r.now, role, permissions, may, own)
	}
}
