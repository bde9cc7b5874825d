package admin_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/internal/store"
)

// A reading of the reports that began before a write was committed says nothing
// about it: a sidecar may have come since that has loaded what was before.
func TestWaitAllReadsTheReportsAfterItsOwnCommit(t *testing.T) {
	slow := &slowReports{read: make(chan struct{}), release: make(chan struct{})}
	h := newHouse(t, options{wrap: func(s store.Store) store.Store { slow.Store = s; return slow }})
	first := make(chan answer, 1)
	go func() { first <- h.ask("manager", "POST", "/api/role/editor?wait=all&timeout=20s") }()
	<-slow.read
	h.report("late", store.ReportHeartbeat, time.Now(), h.revision())
	second := make(chan answer, 1)
	next := h.revision() + 1
	go func() { second <- h.ask("manager", "POST", "/api/role/viewer?wait=all&timeout=1s") }()
	eventually(t, "the second write is committed", func() bool { return h.revision() >= next })
	time.Sleep(100 * time.Millisecond) // for it to join the reading, if it does
	close(slow.release)
	wantWait(t, <-first, "applied", "")
	wantWait(t, <-second, "timeout", "1")
}

// slowReports keeps the first reading of the reports, which finds nobody, back until
// it is released.
type slowReports struct {
	store.Store
	calls         atomic.Int64
	read, release chan struct{}
}

func (s *slowReports) Sidecars(ctx context.Context) ([]store.Sidecar, error) {
	if s.calls.Add(1) == 1 {
		close(s.read)
		<-s.release
		return nil, nil
	}
	return s.Store.Sidecars(ctx)
}
