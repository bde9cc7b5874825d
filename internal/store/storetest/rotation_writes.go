package storetest

import (
	"testing"

	"portcullis/internal/store"
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
				second.look(k.tenant)
				k.done(k.BeginRotation(k.ctx, k.by, kind))
				k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
				phase.get(k)
				checkWrite(second, w)
				look := k.look(k.tenant)
				second.wantLook("for the one who wrote", k.tenant, look)
				k.resealAll(k.tenant, 100, k.alone)
				k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
				k.wantAllUnder(k.tenant, k.keyOf(k.tenant))
				for name, on := range map[string]*kit{"this handle": k, "the one who wrote": second, "a new one": k.second()} {
					on.wantLook(phase.name+", at the end, for "+name, k.tenant, look)
				}
			})
		}
	}
}
