package storetest

import (
	"testing"

	"portcullis/internal/store"
	"portcullis/policy"
)

// rotationPhases are how far the rotation of a tenant has come when a write falls
// into it.
var rotationPhases = []struct {
	name string
	get  func(k *kit)
}{
	{"no row is sealed anew", func(*kit) {}},
	{"some rows are sealed anew", func(k *kit) {
		if _, _, _, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 2, nil); err != nil {
			k.Fatal(err)
		}
	}},
	{"all rows are sealed anew, and the former key is in use", func(k *kit) { k.resealAll(k.tenant, 100, k.alone) }},
}

// testRotationWrites: every write of the contract, with every outcome, in the
// middle of every kind of rotation: it leaves behind what it leaves at any other
// time, and what is read afterwards stays when the rotation ends.
func testRotationWrites(t *testing.T, h Harness) {
	for i, w := range writes() {
		for j, kind := range rotationKinds {
			// Each write meets each phase, in one kind or another.
			phase := rotationPhases[(i+j)%len(rotationPhases)]
			t.Run(kind.String()+"/"+w.name, func(t *testing.T) {
				t.Parallel()
				k := newKitFor(t, h, kind)
				if w.given != nil {
					w.given(k)
				}
				// The one who writes knows the former keys alone.
				second := k.second()
				second.tenant = k.tenant
				second.grant(k.tenant, policy.KindUser, "alice")
				rotated := []store.TenantID{k.tenant}
				if w.ofNone {
					rotated = append(rotated, 0)
				}
				k.done(k.BeginRotation(k.ctx, k.by, kind))
				for _, tenant := range rotated {
					k.done(k.BeginTenant(k.ctx, k.by, tenant))
				}
				phase.get(k)
				checkWrite(second, w)
				written := rotated
				if w.makes {
					written = append(written, second.tenant)
				}
				looks := make(map[store.TenantID]string)
				for _, tenant := range written {
					looks[tenant] = k.look(tenant)
					second.wantLook("for the one who wrote", tenant, looks[tenant])
				}
				for _, tenant := range rotated {
					k.resealAll(tenant, 100, k.alone)
					k.done(k.FinishTenant(k.ctx, k.by, tenant))
				}
				// The one who wrote knows keys that are gone, a new one none.
				third := k.second()
				for _, tenant := range written {
					if tenant != 0 {
						k.wantAllUnder(tenant, k.keyOf(tenant))
					}
					for name, on := range map[string]*kit{"the one who wrote": second, "a new one": third} {
						on.wantLook(phase.name+", at the end, for "+name, tenant, looks[tenant])
					}
				}
			})
		}
	}
}
