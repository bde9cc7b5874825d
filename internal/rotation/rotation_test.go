package rotation_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/internal/rotation"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// What is in a database reads the same through every rotation, and afterwards the
// former master opens nothing and is needed for nothing.
func TestTheWholeLifeOfADatabase(t *testing.T) {
	onEveryStore(t, func(w *world) {
		old, fresh := sealing.NewMaster(), sealing.NewMaster()
		d := w.with(old)
		d.fill(20)
		want := d.contents()
		same := func(d *desk, when string) {
			w.t.Helper()
			if got := d.contents(); got != want {
				w.t.Fatalf("%s it reads\n%s\nwant\n%s", when, got, want)
			}
		}

		out := d.rotate(store.RotateEnable)
		if !out.State.Enabled || out.State.Rotation != 0 || out.State.Master != ids(d.masters)[0] || out.Tenants != 3 || out.Resumed || out.Rows < 50 {
			w.t.Errorf("enabled: %+v", out)
		}
		same(d, "sealed")
		if out := d.rotate(store.RotateEnable); !out.Unchanged || out.Rows != 0 {
			w.t.Errorf("enabled again: %+v", out)
		}

		both := w.with(fresh, old)
		if out := both.rotate(0); out.Rewrapped != 3 || out.State.Master != ids(both.masters)[0] || out.State.OtherMasters != 0 || out.Rows != 0 {
			w.t.Errorf("wrapped anew: %+v", out)
		}
		if out := both.rotate(0); !out.Unchanged {
			w.t.Errorf("wrapped again: %+v", out)
		}
		same(d, "by a process that knows the former master and has the keys")
		same(w.with(fresh), "under the new master alone")
		if _, err := w.open(parse(w.t, old)); !errors.Is(err, store.ErrEncryption) {
			w.t.Errorf("under the former master alone: %v", err)
		}

		before := both.state().Keys
		alone := w.with(fresh)
		deep := alone.rotate(store.RotateDeep)
		if deep.Tenants != 3 || deep.Rows < out.Rows || alone.state().Keys != before {
			w.t.Errorf("deep: %+v; %d keys were, %d are", deep, before, alone.state().Keys)
		}
		same(alone, "under new keys")

		if out := alone.rotate(store.RotateDisable); out.State.Enabled || out.Rows < deep.Rows {
			w.t.Errorf("disabled: %+v", out)
		}
		same(w.with(), "in clear again, without a key")
		if out := alone.rotate(store.RotateDisable); !out.Unchanged {
			w.t.Errorf("disabled again: %+v", out)
		}
	})
}

// Each kind is refused where it makes no sense, with the command that does.
func TestWhatDoesNotFitTheDatabaseIsRefused(t *testing.T) {
	onEveryStore(t, func(w *world) {
		d := w.with(sealing.NewMaster())
		d.fill(1)
		for _, kind := range []store.RotationKind{0, store.RotateDeep} {
			_, err := rotation.Run(w.t.Context(), d.config(kind))
			if !errors.Is(err, store.ErrEncryption) || !strings.Contains(err.Error(), "rotate encryption --enable") {
				w.t.Errorf("%s of a database in clear: %v", kind, err)
			}
		}
		if _, err := d.BeginRotation(w.t.Context(), by, store.RotateEnable); err != nil {
			w.t.Fatal(err)
		}
		for _, kind := range []store.RotationKind{store.RotateDeep, store.RotateDisable} {
			_, err := rotation.Run(w.t.Context(), d.config(kind))
			if !errors.Is(err, store.ErrEncryption) || !strings.Contains(err.Error(), "rotate encryption --enable") {
				w.t.Errorf("%s while it is being enabled: %v", kind, err)
			}
		}
		if out := d.rotate(store.RotateEnable); !out.Resumed {
			w.t.Errorf("not resumed: %+v", out)
		}
	})
}

// A run that is asked to end does so between two batches, and another one takes it
// up.
func TestAStoppedRunIsResumed(t *testing.T) {
	onEveryStore(t, func(w *world) {
		d := w.with(sealing.NewMaster())
		d.fill(20)
		want := d.contents()
		for _, kind := range []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDisable} {
			total, runs := int64(0), 0
			for {
				ctx, cancel := context.WithCancel(w.t.Context())
				cfg := d.config(kind)
				cfg.Progress = func(p rotation.Progress) {
					if p.Rows >= 15 {
						cancel()
					}
				}
				out, err := rotation.Run(ctx, cfg)
				cancel()
				runs++
				total += out.Rows
				if got := d.contents(); got != want {
					w.t.Fatalf("%s, run %d: it reads\n%s\nwant\n%s", kind, runs, got, want)
				}
				if runs > 1 && !out.Resumed {
					w.t.Fatalf("%s, run %d: not resumed: %+v, %v", kind, runs, out, err)
				}
				if err == nil {
					break
				}
				if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "rotate encryption --"+kind.String()+"` again") {
					w.t.Fatalf("%s: %v", kind, err)
				}
			}
			if runs < 3 || d.state().Rotation != 0 {
				w.t.Errorf("%s: %d runs, state %+v", kind, runs, d.state())
			}
		}
	})
}

// Writes and reads go on between the batches, and what is written meanwhile is not
// lost.
func TestWritesGoOn(t *testing.T) {
	onEveryStore(t, func(w *world) {
		master := sealing.NewMaster()
		d, beside := w.with(master), w.with(master) // another process
		d.fill(30)
		tenant := d.tenant("acme")
		for _, kind := range []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDisable} {
			var stop atomic.Bool
			ended := make(chan error, 1)
			rounds := 0
			go func() {
				ended <- func() error {
					for !stop.Load() || rounds < 3 {
						rounds++
						if _, err := beside.AddMember(w.t.Context(), by, tenant, policy.KindUser, "late", "viewer", time.Time{}); err != nil {
							return err
						}
						if g, err := beside.Grant(w.t.Context(), tenant, policy.KindUser, "late"); err != nil || len(g.Grant) != 1 {
							return errors.Join(err, errors.New("a membership that was just made is not found"))
						}
						if _, err := beside.RemoveMember(w.t.Context(), by, tenant, policy.KindUser, "late", "viewer"); err != nil {
							return err
						}
						if g, err := beside.Grant(w.t.Context(), tenant, policy.KindUser, "late"); err != nil || len(g.Grant) != 0 {
							return errors.Join(err, errors.New("a membership that was just removed is found"))
						}
						if g, err := beside.Grant(w.t.Context(), tenant, policy.KindUser, "user07@acme"); err != nil || len(g.Grant) != 1 {
							return errors.Join(err, errors.New("a membership that was there all the time is not found"))
						}
					}
					_, err := beside.AddMember(w.t.Context(), by, tenant, policy.KindUser, "late", "viewer", time.Time{})
					return err
				}()
			}()
			d.rotate(kind)
			stop.Store(true)
			if err := <-ended; err != nil {
				w.t.Fatalf("%s: %v", kind, err)
			}
			members, err := d.MemberList(w.t.Context(), tenant, "viewer")
			if err != nil || !slices.ContainsFunc(members, func(m store.Member) bool { return m.ID == "late" }) {
				w.t.Errorf("%s: %v, %v", kind, members, err)
			}
		}
	})
}

// A row that does not open ends the run and is named; where it is to be left, it
// stays unreadable and everything else is sealed anew.
func TestARowThatDoesNotOpen(t *testing.T) {
	onEveryStore(t, func(w *world) {
		d := w.with(sealing.NewMaster())
		d.fill(12)
		d.rotate(store.RotateEnable)
		w.exec("UPDATE SCHEMA.roles SET description = 'x' || description WHERE name = 'editor'")
		_, err := rotation.Run(w.t.Context(), d.config(store.RotateDeep))
		if !errors.Is(err, store.ErrUnreadable) || !strings.Contains(err.Error(), "roles.description of row ") || !strings.Contains(err.Error(), "--leave-unreadable") {
			w.t.Fatalf("%v", err)
		}
		cfg := d.config(store.RotateDeep)
		var left []string
		cfg.Leave = func(err error) { left = append(left, err.Error()) }
		out, err := rotation.Run(w.t.Context(), cfg)
		if err != nil || !out.Resumed || out.Left != 2 || len(left) != 2 || !strings.Contains(left[0], "roles.description of row ") {
			w.t.Fatalf("%+v, %v, left %q", out, err, left)
		}
		if _, err := d.RoleList(w.t.Context(), d.tenant("acme")); !errors.Is(err, store.ErrUnreadable) {
			w.t.Errorf("a listing of what does not open: %v", err)
		}
		if _, err := d.DeleteRole(w.t.Context(), by, d.tenant("acme"), "editor"); err != nil {
			w.t.Errorf("it cannot be taken away: %v", err)
		}
	})
}

func TestProgressCountsUpToTheTotal(t *testing.T) {
	onEveryStore(t, func(w *world) {
		d := w.with(sealing.NewMaster())
		d.fill(20)
		counts, err := d.SealCounts(w.t.Context(), store.RotateEnable)
		if err != nil {
			w.t.Fatal(err)
		}
		cfg := d.config(store.RotateEnable)
		var heard []rotation.Progress
		cfg.Progress = func(p rotation.Progress) { heard = append(heard, p) }
		out, err := rotation.Run(w.t.Context(), cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		var total int64
		for _, n := range counts {
			total += n
		}
		last := heard[len(heard)-1]
		// The rotation's own audit rows come on top, and are under the new key at once.
		if heard[0].Rows != 0 || heard[0].Total < total || last.Rows != out.Rows || last.Rows != last.Total || len(heard) < 5 {
			w.t.Errorf("%d rows to be sealed; first %+v, last %+v of %d", total, heard[0], last, len(heard))
		}
		for i, p := range heard[1:] {
			if p.Rows < heard[i].Rows || p.Rows > p.Total {
				w.t.Errorf("after %+v came %+v", heard[i], p)
			}
		}
	})
}
