package storetest

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"portcullis/internal/store"
)

func testReports(t *testing.T, h Harness) {
	now := inMicroseconds(time.Now())
	beat := func(id string, at time.Time, applied int64) store.Report {
		return store.Report{Sidecar: id, Kind: store.ReportHeartbeat, At: at, Applied: applied, Staleness: time.Minute, PolicyDigest: "aa", Masters: []string{"0011223344556677"}}
	}
	send := func(k *kit, reports ...store.Report) {
		k.Helper()
		if err := k.Report(k.ctx, reports); err != nil {
			k.Fatalf("report: %v", err)
		}
	}
	fold := func(k *kit) {
		k.Helper()
		if err := k.FoldReports(k.ctx); err != nil {
			k.Fatalf("fold: %v", err)
		}
	}
	// want holds before and after folding, and after folding again.
	want := func(k *kit, sidecars ...store.Sidecar) {
		k.Helper()
		for i := range 3 {
			got := must[[]store.Sidecar](k)(k.Sidecars(k.ctx))
			for j := range got {
				got[j].LastSeen = got[j].LastSeen.UTC()
			}
			if len(got)+len(sidecars) > 0 && !reflect.DeepEqual(got, sidecars) {
				k.Errorf("after %d foldings\n got %+v\nwant %+v", i, got, sidecars)
			}
			fold(k)
		}
	}
	sidecar := func(id string, at time.Time, applied int64) store.Sidecar {
		return store.Sidecar{ID: id, LastSeen: at, Applied: applied, Staleness: time.Minute, PolicyDigest: "aa", Masters: []string{"0011223344556677"}}
	}

	t.Run("a sidecar is as its reports say, folded or not", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		send(k) // nothing
		want(k)
		send(k, beat("b", now, 3), beat("a", now.Add(time.Second), 4))
		want(k, sidecar("a", now.Add(time.Second), 4), sidecar("b", now, 3))
		send(k, store.Report{Sidecar: "b", Kind: store.ReportApplied, At: now.Add(2 * time.Second), Applied: 5, Masters: []string{"0011223344556677"}})
		want(k, sidecar("a", now.Add(time.Second), 4), sidecar("b", now.Add(2*time.Second), 5))
		later := beat("b", now.Add(3*time.Second), 6)
		later.Staleness, later.PolicyDigest, later.Masters = 2*time.Minute, "bb", []string{"8899aabbccddeeff", "0011223344556677"}
		send(k, later)
		b := store.Sidecar{ID: "b", LastSeen: now.Add(3 * time.Second), Applied: 6, Staleness: 2 * time.Minute, PolicyDigest: "bb", Masters: later.Masters}
		want(k, sidecar("a", now.Add(time.Second), 4), b)
		if k.head() != before {
			t.Errorf("reports took the revision from %v to %v", before, k.head())
		}
	})

	t.Run("of the masters the last word counts, not the longest", func(t *testing.T) {
		k := newKit(t, h)
		at := now
		for _, masters := range [][]string{{"old"}, {"new", "old"}, {"new"}, nil, {"a", "b", "c", "d", "e", "f", "g", "h"}} {
			at = at.Add(time.Second)
			said, is := beat("a", at, 1), sidecar("a", at, 1)
			said.Masters, is.Masters = masters, masters
			send(k, said)
			send(k, store.Report{Sidecar: "a", Kind: store.ReportUses, At: at, Masters: []string{"no word of it"}})
			want(k, is)
		}
	})

	t.Run("of the applied revision the last word counts, not the highest", func(t *testing.T) {
		k := newKit(t, h)
		send(k, beat("a", now, 100))
		fold(k)
		send(k, beat("a", now.Add(time.Second), 40)) // a backup was restored
		want(k, sidecar("a", now.Add(time.Second), 40))
		send(k, beat("a", now.Add(2*time.Second), 41), beat("a", now.Add(3*time.Second), 39))
		want(k, sidecar("a", now.Add(3*time.Second), 39))
	})

	t.Run("a clock that is set back makes a sidecar no less live", func(t *testing.T) {
		k := newKit(t, h)
		send(k, beat("a", now, 1), beat("a", now.Add(-time.Hour), 2))
		want(k, sidecar("a", now, 2))
	})

	t.Run("stopped, until it is heard from again", func(t *testing.T) {
		k := newKit(t, h)
		stop := beat("a", now.Add(time.Second), 1)
		stop.Kind = store.ReportStopped
		send(k, beat("a", now, 1), stop)
		stopped := sidecar("a", now.Add(time.Second), 1)
		stopped.Stopped = true
		want(k, stopped)
		// Last-used times that come after are no sign of life.
		send(k, store.Report{Sidecar: "a", Kind: store.ReportUses, At: now.Add(time.Minute), Applied: 1, Uses: []store.KeyUse{{Digest: digestOf("one"), At: now}}})
		want(k, stopped)
		send(k, beat("a", now.Add(2*time.Second), 2))
		want(k, sidecar("a", now.Add(2*time.Second), 2))
	})

	t.Run("last-used times reach the keys, the latest one", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "ci", "one")
		k.newKey(k.tenant, "ci", "two")
		k.newKey(k.tenant, "ci", "three")
		before := k.head()
		uses := func(at time.Time, secrets ...string) store.Report {
			r := store.Report{Sidecar: "a", Kind: store.ReportUses, At: at}
			for _, secret := range secrets {
				r.Uses = append(r.Uses, store.KeyUse{Digest: digestOf(secret), At: at})
			}
			return r
		}
		send(k, uses(now, "one", "two", "unknown"), uses(now.Add(-time.Minute), "one"))
		fold(k)
		send(k, uses(now.Add(time.Minute), "two"), uses(now.Add(-time.Hour), "one"))
		fold(k)
		fold(k)
		for secret, at := range map[string]time.Time{"one": now, "two": now.Add(time.Minute), "three": {}} {
			if got := k.key(secret).LastUsed; !sameTime(got, at) {
				t.Errorf("%s was last used %v, want %v", secret, got, at)
			}
		}
		if list := must[[]store.ClientKey](k)(k.KeyList(k.ctx, k.tenant)); !sameTime(list[0].LastUsed, now) {
			t.Errorf("list %+v", list)
		}
		if k.head() != before {
			t.Errorf("uses took the revision from %v to %v", before, k.head())
		}
	})

	t.Run("folding in several processes while sidecars report loses nothing", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "ci", "one")
		second := k.second()
		const sidecars, rounds = 4, 25
		var reporters, folders sync.WaitGroup
		stop := make(chan struct{})
		for _, on := range []*kit{k, second} {
			folders.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := on.FoldReports(k.ctx); err != nil {
						t.Errorf("fold: %v", err)
						return
					}
				}
			})
		}
		for i := range sidecars {
			on := []*kit{k, second}[i%2]
			reporters.Go(func() {
				for n := range rounds {
					at := now.Add(time.Duration(n) * time.Second)
					err := on.Report(k.ctx, []store.Report{
						beat(fmt.Sprint("s", i), at, int64(n)),
						{Sidecar: fmt.Sprint("s", i), Kind: store.ReportUses, At: at, Uses: []store.KeyUse{{Digest: digestOf("one"), At: at}}},
					})
					if err != nil {
						t.Errorf("report: %v", err)
					}
				}
			})
		}
		reporters.Wait()
		close(stop)
		folders.Wait()
		fold(k)
		last := now.Add((rounds - 1) * time.Second)
		var all []store.Sidecar
		for i := range sidecars {
			all = append(all, sidecar(fmt.Sprint("s", i), last, rounds-1))
		}
		want(k, all...)
		if got := k.key("one").LastUsed; !sameTime(got, last) {
			t.Errorf("last used %v, want %v", got, last)
		}
	})

	t.Run("more reports than one folding takes at once", func(t *testing.T) {
		k := newKit(t, h)
		var reports []store.Report
		var all []store.Sidecar
		for n := range 2500 {
			id, at := fmt.Sprintf("s%04d", n), now.Add(time.Duration(n)*time.Millisecond)
			reports = append(reports, beat(id, at, int64(n)))
			all = append(all, sidecar(id, at, int64(n)))
		}
		send(k, reports...)
		want(k, all...)
	})

	t.Run("a sidecar long past its bound is forgotten", func(t *testing.T) {
		k := newKit(t, h)
		long := now.Add(-store.ForgetSidecarAfter)
		send(k, beat("gone", long.Add(-2*time.Minute), 1), beat("late", long.Add(time.Minute), 1))
		fold(k)
		want(k, sidecar("late", long.Add(time.Minute), 1))
	})
}
