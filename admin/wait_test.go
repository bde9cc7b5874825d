package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/internal/store"
)

// report appends what a sidecar elsewhere would.
func (h *house) report(id string, kind store.ReportKind, at time.Time, applied int64) {
	h.t.Helper()
	must(h.t, h.store.Report(context.Background(), []store.Report{{
		Sidecar: id, Kind: kind, At: at, Applied: applied, Staleness: 10 * time.Second,
	}}))
}

func TestWaitAllTellsOfALaggingSidecar(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		h.report("elsewhere", store.ReportHeartbeat, time.Now(), h.revision())
		h.report("behind", store.ReportHeartbeat, time.Now(), 1)
		began := time.Now()
		got := h.ask("manager", "POST", "/api/role/editor?wait=all&timeout=300ms")
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("it waited %s, want 300ms at least", took)
		}
		wantWait(t, got, "timeout", "2")
		if roles := h.ask("manager", "GET", "/api/roles"); !strings.Contains(roles.body, "editor") {
			t.Errorf("the write does not stand: %s", roles.body)
		}
	})
}

func TestWaitAllReturnsOnceTheSidecarHasApplied(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		h.report("elsewhere", store.ReportHeartbeat, time.Now(), h.revision())
		answered := make(chan answer, 1)
		began := time.Now()
		next := h.revision() + 1
		go func() { answered <- h.ask("manager", "POST", "/api/role/editor?wait=all&timeout=20s") }()
		eventually(t, "the write is committed", func() bool { return h.revision() >= next })
		select {
		case got := <-answered:
			t.Fatalf("it did not wait for the sidecar: %+v", got)
		case <-time.After(200 * time.Millisecond):
		}
		h.report("elsewhere", store.ReportApplied, time.Now(), next-1)
		select {
		case got := <-answered:
			t.Fatalf("it took the revision before for its own: %+v", got)
		case <-time.After(200 * time.Millisecond):
		}
		h.report("elsewhere", store.ReportApplied, time.Now(), next)
		wantWait(t, <-answered, "applied", "")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s: the timeout passed", took)
		}
	})
}

// A sidecar that stopped, or was not heard of until it must have failed closed,
// allows nothing any more: it is not waited for.
func TestWaitAllForgetsTheDead(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		h.report("stopped", store.ReportHeartbeat, time.Now(), 1)
		h.report("stopped", store.ReportStopped, time.Now(), 1)
		h.report("cut off", store.ReportHeartbeat, time.Now().Add(-16*time.Second), 1)
		wantWait(t, h.ask("manager", "POST", "/api/role/editor?wait=all&timeout=10s"), "applied", "")

		// One second short of its bound it may still be answering.
		h.report("cut off", store.ReportHeartbeat, time.Now().Add(-10*time.Second), 1)
		wantWait(t, h.ask("manager", "POST", "/api/role/viewer?wait=all&timeout=100ms"), "timeout", "1")
	})
}

func TestWaitAllClaimsNothingThatItCannotSee(t *testing.T) {
	h := newHouse(t, options{wrap: func(s store.Store) store.Store { return &blindStore{Store: s} }})
	got := h.ask("manager", "POST", "/api/role/editor?wait=all&timeout=200ms")
	wantWait(t, got, "timeout", "")
}

// blindStore cannot read the sidecars' reports.
type blindStore struct{ store.Store }

func (*blindStore) Sidecars(context.Context) ([]store.Sidecar, error) {
	return nil, errors.New("the reports cannot be read")
}

func wantWait(t *testing.T, got answer, wait, lagging string) {
	t.Helper()
	if got.status != 200 || got.header.Get("X-Auth-Wait") != wait || got.header.Get("X-Auth-Wait-Lagging") != lagging {
		t.Errorf("%d, X-Auth-Wait %q, lagging %q: want 200, %q, %q (%s)", got.status,
			got.header.Get("X-Auth-Wait"), got.header.Get("X-Auth-Wait-Lagging"), wait, lagging, got.body)
	}
	if n, err := strconv.ParseInt(got.header.Get("X-Auth-Revision"), 10, 64); err != nil || n <= 0 {
		t.Errorf("X-Auth-Revision: %q", got.header.Get("X-Auth-Revision"))
	}
}

// Many writers at once: every write gets a revision of its own, is seen by the
// check that follows it on this process, and has one audit row.
func TestConcurrentWriters(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		const writers, rounds = 8, 12
		if got := h.ask("manager", "POST", "/api/role/editor"); got.status != 200 {
			t.Fatal(got)
		}
		if got := h.ask("manager", "POST", "/api/permission/editor/edit"); got.status != 200 {
			t.Fatal(got)
		}
		before := h.revision()
		var revisions sync.Map
		var writes atomic.Int64
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				user := fmt.Sprintf("user%d", w)
				for round := range rounds {
					method, want := "POST", "true"
					if round%2 == 1 {
						method, want = "DELETE", "false"
					}
					target := "/api/membership/" + user + "/editor"
					if w%2 == 0 {
						target += "?wait=all&timeout=20s"
					}
					got := h.ask("manager", method, target)
					if got.status != 200 {
						t.Errorf("%s %s: %d %s", method, target, got.status, got.body)
						return
					}
					if w%2 == 0 && got.header.Get("X-Auth-Wait") != "applied" {
						t.Errorf("X-Auth-Wait: %q", got.header.Get("X-Auth-Wait"))
					}
					writes.Add(1)
					if other, taken := revisions.LoadOrStore(got.header.Get("X-Auth-Revision"), user); taken {
						t.Errorf("revision %s belongs to %s and to %s", got.header.Get("X-Auth-Revision"), other, user)
					}
					got = h.ask("manager", "GET", "/api/has_permission/"+user+"/edit")
					if got.status != 200 || !strings.Contains(got.body, `"has_permission":`+want) {
						t.Errorf("after %s the check says %d %s", method, got.status, got.body)
					}
				}
			})
		}
		all.Wait()
		if made := h.revision() - before; made != writes.Load() {
			t.Errorf("%d writes made %d revisions", writes.Load(), made)
		}
		entries, total, err := h.store.Audit(context.Background(), store.AuditQuery{Tenant: h.tenants[store.DefaultTenant], Limit: 500})
		must(t, err)
		seen := map[int64]bool{}
		rows := int64(0)
		for _, e := range entries {
			if e.Revision > before {
				rows++
				if seen[e.Revision] {
					t.Errorf("revision %d has two audit rows", e.Revision)
				}
				seen[e.Revision] = true
			}
		}
		if rows != writes.Load() {
			t.Errorf("%d writes have %d audit rows (of %d in all)", writes.Load(), rows, total)
		}
	})
}
