package rotation_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"portcullis/internal/rotation"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// Nothing begins while a sidecar that may be answering lacks the new key, and it is
// named.
func TestALiveSidecarWithoutTheKeyStopsARotation(t *testing.T) {
	onEveryStore(t, func(w *world) {
		old, fresh := sealing.NewMaster(), sealing.NewMaster()
		d := w.with(old)
		d.fill(3)
		refused := func(d *desk, kind store.RotationKind, name string) {
			w.t.Helper()
			before := d.state()
			plan, err := rotation.Look(w.t.Context(), d.config(kind))
			if err != nil || !errors.Is(plan.Refused, rotation.ErrSidecar) {
				w.t.Errorf("%s: the plan says %v, %v", kind, plan.Refused, err)
			}
			_, err = rotation.Run(w.t.Context(), d.config(kind))
			if !errors.Is(err, rotation.ErrSidecar) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), ids(d.masters)[0]) {
				w.t.Errorf("%s: %v", kind, err)
			}
			if after := d.state(); after != before {
				w.t.Errorf("%s was refused, and %+v became %+v", kind, before, after)
			}
		}

		d.heartbeat("aaaaaaaa-older-version", time.Minute)
		refused(d, store.RotateEnable, "sidecar aaaaaaaa holds no master key")
		d.heartbeat("aaaaaaaa-older-version", time.Minute, ids(d.masters)...)
		d.rotate(store.RotateEnable)

		both := w.with(fresh, old)
		refused(both, 0, "sidecar aaaaaaaa holds "+ids(d.masters)[0])
		refused(both, store.RotateDeep, "sidecar aaaaaaaa holds")
		both.heartbeat("bbbbbbbb", time.Minute, ids(both.masters)...)
		refused(both, 0, "sidecar aaaaaaaa")
		both.heartbeat("aaaaaaaa-older-version", time.Minute, append(ids(d.masters), ids(both.masters)[0])...)
		both.rotate(0)
		both.rotate(store.RotateDeep)

		// Turning it off needs no key but those that open.
		both.heartbeat("cccccccc", time.Minute)
		both.rotate(store.RotateDisable)
	})
}

// One that is gone counts until it must have failed closed.
func TestAnEndedSidecarIsNotAsked(t *testing.T) {
	onEveryStore(t, func(w *world) {
		d := w.with(sealing.NewMaster())
		d.heartbeat("aaaaaaaa", time.Minute)
		cfg := d.config(store.RotateEnable)
		cfg.Now = func() time.Time { return time.Now().Add(64 * time.Second) }
		if _, err := rotation.Run(w.t.Context(), cfg); !errors.Is(err, rotation.ErrSidecar) {
			w.t.Errorf("within its bound: %v", err)
		}
		cfg.Now = func() time.Time { return time.Now().Add(66 * time.Second) }
		if _, err := rotation.Run(w.t.Context(), cfg); err != nil {
			w.t.Errorf("past its bound: %v", err)
		}
	})
}

// A sidecar that comes without the key while a rotation is under way stops it
// before the next tenant.
func TestASidecarThatComesLateStopsTheNextTenant(t *testing.T) {
	onEveryStore(t, func(w *world) {
		d := w.with(sealing.NewMaster())
		d.fill(3)
		cfg := d.config(store.RotateEnable)
		cfg.Progress = func(p rotation.Progress) {
			if p.Table == store.NumSealTables {
				d.heartbeat("dddddddd", time.Minute)
			}
		}
		out, err := rotation.Run(w.t.Context(), cfg)
		if !errors.Is(err, rotation.ErrSidecar) || out.Tenants != 1 || !strings.Contains(err.Error(), "--enable` again") {
			w.t.Errorf("%+v, %v", out, err)
		}
		d.heartbeat("dddddddd", time.Minute, ids(d.masters)...)
		if out := d.rotate(store.RotateEnable); !out.Resumed || out.Tenants != 2 {
			w.t.Errorf("resumed: %+v", out)
		}
	})
}
