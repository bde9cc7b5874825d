package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/admin"
	"portcullis/internal/store"
)

// failedRow is a row of failed authentications as the audit has it.
type failedRow struct {
	Address   string
	Reason    string `json:"reason"`
	Count     int    `json:"count"`
	First     string `json:"first"`
	Last      string `json:"last"`
	Addresses string `json:"addresses"`
}

// failedRows reads them all, the oldest first.
func (h *house) failedRows(t testing.TB) []failedRow {
	t.Helper()
	var out []failedRow
	for before := int64(0); ; {
		page, _, err := h.store.Audit(context.Background(), store.AuditQuery{Actions: []store.Action{store.ActionAuthFailed}, Before: before, Limit: 1000, NoTotal: true})
		must(t, err)
		for _, e := range page {
			r := failedRow{Address: e.Address}
			must(t, json.Unmarshal([]byte(e.Details), &r))
			out = append(out, r)
			if e.Actor != "unauthenticated" || e.Success || e.Outcome != "denied" || e.Tenant != 0 || e.Resource != "authentication" || e.Time.UTC().Format(time.RFC3339) != r.Last {
				t.Errorf("row %+v", e)
			}
		}
		if len(page) < 1000 {
			slices.Reverse(out)
			return out
		}
		before = page[len(page)-1].ID
	}
}

func TestFailuresAreOneRowAnAddressReasonAndMinute(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			clock := newStillClock()
			began := time.Unix(0, clock.read().Wall).UTC()
			at := func(d time.Duration) string { return began.Add(d).Format(time.RFC3339) }
			h := newHouse(t, options{open: b.open, proxies: ours(t), clock: clock.read, limits: admin.Limits{Failures: perMinute(5)}})
			fail := func(times int, caller, addr string) {
				for range times {
					h.ask(caller, "GET", "/api/roles", from(addr))
				}
			}
			fail(8, "unknown", "192.0.2.1") // three of them blocked
			clock.pass(10 * time.Second)
			fail(1, "unknown", "192.0.2.1")
			fail(2, "nobody", "192.0.2.1")
			fail(1, "unknown", "2001:db8:1:2::1")
			fail(2, "unknown", "2001:db8:1:2::2")
			h.ask("manager", "GET", "/api/roles", from("192.0.2.9"))
			if got := h.failedRows(t); len(got) != 0 {
				t.Fatalf("rows before the minute is over: %+v", got)
			}
			clock.pass(time.Minute)
			fail(1, "unknown", "192.0.2.1")
			h.api.WriteFailures(t.Context())
			want := []failedRow{
				{"192.0.2.1", "bad_key", 9, at(0), at(10 * time.Second), ""},
				{"192.0.2.1", "missing_credential", 2, at(10 * time.Second), at(10 * time.Second), ""},
				{"2001:db8:1:2::/64", "bad_key", 3, at(10 * time.Second), at(10 * time.Second), ""},
				{"192.0.2.1", "bad_key", 1, at(70 * time.Second), at(70 * time.Second), ""},
			}
			if got := h.failedRows(t); !slices.Equal(got, want) {
				t.Errorf("got\n%+v, want\n%+v", got, want)
			}
			if n := h.counter(t, "portcullis_audit_events_total", string(store.ActionAuthFailed)); n != 4 {
				t.Errorf("%v rows were counted", n)
			}
			h.api.WriteFailures(t.Context())
			if got := h.failedRows(t); len(got) != len(want) {
				t.Errorf("%d rows after nothing happened", len(got))
			}
		})
	}
}

// What finds no room in its minute is in one row, and counted.
func TestManyAddressesShareARow(t *testing.T) {
	h := newHouse(t, options{clock: newStillClock().read})
	for i := range 5000 {
		h.api.NoteFailure(fmt.Sprintf("192.%d.%d.7", i/256, i%256), "bad_key")
	}
	h.api.NoteFailure("192.0.0.7", "bad_key") // has a row
	h.api.NoteFailure("203.0.113.1", "expired")
	h.api.WriteFailures(t.Context())
	got := h.failedRows(t)
	sum, others := 0, map[string]int{}
	for _, r := range got {
		sum += r.Count
		if r.Addresses == "others" && r.Address == "" {
			others[r.Reason] = r.Count
		}
	}
	if len(got) != 4096+2 || sum != 5002 || others["bad_key"] != 904 || others["expired"] != 1 {
		t.Errorf("%d rows of %d, others %v", len(got), sum, others)
	}
}

// The store may be away: nothing is lost for a while, then the oldest, which is said.
func TestRowsOfFailuresWaitForTheStore(t *testing.T) {
	clock := newStillClock()
	var tripped *trippedStore
	h := newHouse(t, options{clock: clock.read, wrap: func(s store.Store) store.Store { tripped = newTrippedStore(s); return tripped }})
	tripped.trip("RecordAudit", func(context.Context) error { return errors.New("the disk is full") })
	for i := range 3 {
		h.api.NoteFailure("192.0.2.1", "bad_key")
		h.api.NoteFailure("192.0.2.1", "bad_key")
		clock.pass(time.Minute)
		h.api.WriteFailures(t.Context())
		if log := h.log.String(); strings.Count(log, "will be tried again") != i+1 || !strings.Contains(log, "the disk is full") {
			t.Fatalf("log: %s", log)
		}
	}
	tripped.trip("RecordAudit", nil)
	h.api.WriteFailures(t.Context())
	if got := h.failedRows(t); len(got) != 3 || got[0].Count != 2 || got[2].Count != 2 {
		t.Fatalf("rows %+v", got)
	}

	tripped.trip("RecordAudit", func(context.Context) error { return errors.New("the disk is full") })
	for range 20 {
		for range 7 {
			h.api.NoteFailure("192.0.2.1", "bad_key")
		}
		clock.pass(time.Minute)
		h.api.WriteFailures(t.Context())
	}
	tripped.trip("RecordAudit", nil)
	h.api.WriteFailures(t.Context())
	sum := 0
	for _, r := range h.failedRows(t)[3:] {
		sum += r.Count
	}
	lost := h.lost(t)
	if sum+lost != 20*7 || lost == 0 || sum < 15*7 || !strings.Contains(h.log.String(), "missing in the audit") {
		t.Errorf("%d are there and %d are lost of 140", sum, lost)
	}
}

func (h *house) lost(t *testing.T) int {
	t.Helper()
	families, err := h.metrics.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == "portcullis_admin_auth_failures_lost_total" {
			return int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatal("no such metric")
	return 0
}

// A process that ends writes the minute that is not over, too.
func TestTheLastFailuresAreWritten(t *testing.T) {
	h := newHouse(t, options{clock: newStillClock().read})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.api.Run(ctx) }()
	h.ask("unknown", "GET", "/api/roles")
	h.ask("unknown", "GET", "/api/roles")
	stop()
	must(t, <-ended)
	if got := h.failedRows(t); len(got) != 1 || got[0].Count != 2 || got[0].Address != "127.0.0.1" {
		t.Errorf("rows %+v", got)
	}
}

// While it runs, rows come by themselves once their minute is over.
func TestFailuresAreWrittenAsMinutesEnd(t *testing.T) {
	clock := newStillClock()
	h := newHouse(t, options{clock: clock.read, records: true})
	h.ask("unknown", "GET", "/api/roles")
	clock.pass(time.Minute)
	eventually(t, "the row is there", func() bool { return len(h.failedRows(t)) == 1 })
	if n := testutil.CollectAndCount(h.metrics, "portcullis_admin_auth_failures_lost_total"); n != 1 {
		t.Errorf("%d", n)
	}
}
