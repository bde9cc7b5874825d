package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/cache"
	"portcullis/internal/store"
)

// Bounds of what is kept of failed authentications, so that no flood of them fills
// the memory, the database or its queue.
const (
	maxFailedPairs   = 4096             // addresses and reasons a minute that have a row of their own
	maxFailedMinutes = 15               // that wait for the store
	failedRows       = 200              // in one write
	failedTimeout    = 10 * time.Second // of one write
	failedFinish     = 3 * time.Second  // of the last ones, when the process ends
	failedRetry      = 10 * time.Second // after a write that failed
)

// The audit's words for who failed to say who it is.
const (
	failedActor    = "unauthenticated"
	failedResource = "authentication"
)

// failedAuths counts failed authentications by address (IPv6: /64), reason and
// minute, and writes one audit row for each once its minute is over. It never holds
// up a request. note is safe for concurrent use; one goroutine may be in run or flush.
type failedAuths struct {
	store   store.Store
	cache   *cache.Cache
	log     *slog.Logger
	audited func(store.Action, int)
	lost    prometheus.Counter

	mu      sync.Mutex // guards what follows
	minute  int64      // since 1970, of open
	open    failedMinute
	waiting []failedMinute // the oldest first

	// Of the one goroutine that writes.
	rows  []failedRow // the rest of the minute that is being written
	after time.Time   // not before then
}

// failedMinute is what one minute had.
type failedMinute struct {
	pairs  map[failedPair]*failedCount
	others map[string]*failedCount // by reason: what found no room in pairs
}

type failedPair struct {
	network netip.Prefix // not valid: the connection had no address
	reason  string
}

type failedCount struct {
	n           int64
	first, last int64 // Unix nanoseconds
}

// failedRow is an audit row, and how many failures it tells of.
type failedRow struct {
	store.AuditEntry
	n int64
}

// failedDetails is the column details of such a row.
type failedDetails struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
	First  string `json:"first"`
	Last   string `json:"last"`
	// Addresses is "others" in the row of those beyond maxFailedPairs, which has no
	// address.
	Addresses string `json:"addresses,omitempty"`
}

// note counts one failure.
func (f *failedAuths) note(network netip.Prefix, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.cache.Now().Wall
	f.turn(now / int64(time.Minute))
	pair := failedPair{network, reason}
	count := f.open.pairs[pair]
	if count == nil && len(f.open.pairs) < maxFailedPairs {
		count = &failedCount{first: now}
		f.open.pairs[pair] = count
	}
	if count == nil {
		if count = f.open.others[reason]; count == nil {
			count = &failedCount{first: now}
			f.open.others[reason] = count
		}
	}
	count.n++
	count.last = max(count.last, now)
}

// turn ends the open minute if it is another one; f.mu is held. A clock that was set
// back ends it too.
func (f *failedAuths) turn(minute int64) {
	if minute == f.minute && f.open.pairs != nil {
		return
	}
	if len(f.open.pairs) > 0 {
		f.waiting = append(f.waiting, f.open)
	}
	f.minute = minute
	f.open = failedMinute{pairs: map[failedPair]*failedCount{}, others: map[string]*failedCount{}}
	if len(f.waiting) > maxFailedMinutes {
		f.lose(f.waiting[0].count())
		f.waiting = slices.Delete(f.waiting, 0, 1)
	}
}

func (f *failedAuths) lose(n int64) {
	f.lost.Add(float64(n))
	f.log.Warn("failed authentications are missing in the audit", "count", n)
}

// run writes the rows of each minute that is over, until ctx ends, and then of the one
// that is not.
func (f *failedAuths) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), failedFinish)
			defer cancel()
			f.finish(last)
			return nil
		case <-tick.C:
			f.endMinute(false)
			f.flush(ctx)
		}
	}
}

// finish writes all that there is; what does not get written is lost, and said.
func (f *failedAuths) finish(ctx context.Context) {
	f.endMinute(true)
	f.after = time.Time{}
	f.flush(ctx)
	lost := int64(0)
	for _, r := range f.rows {
		lost += r.n
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.waiting {
		lost += m.count()
	}
	f.rows, f.waiting = nil, nil
	if lost > 0 {
		f.lose(lost)
	}
}

// endMinute ends the open minute if it is over, or in any case.
func (f *failedAuths) endMinute(anyway bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	minute := f.cache.Now().Wall / int64(time.Minute)
	if anyway {
		f.minute = minute - 1
	}
	f.turn(minute)
}

// flush writes the minutes that wait, until one write fails: that is done again
// later. A write whose end was not heard of may so be there twice.
func (f *failedAuths) flush(ctx context.Context) {
	if time.Now().Before(f.after) {
		return
	}
	for f.next() {
		part := f.rows[:min(failedRows, len(f.rows))]
		entries := make([]store.AuditEntry, len(part))
		for i := range part {
			entries[i] = part[i].AuditEntry
			entries[i].Revision = f.cache.Applied()
		}
		bounded, cancel := context.WithTimeout(ctx, failedTimeout)
		err := f.store.RecordAudit(bounded, entries)
		cancel()
		if err != nil {
			f.after = time.Now().Add(failedRetry)
			f.log.Warn("failed authentications could not be written to the audit, and will be tried again", "rows", len(part), "error", err)
			return
		}
		f.audited(store.ActionAuthFailed, len(part))
		f.rows = f.rows[len(part):]
	}
}

// next makes the oldest minute's rows the ones to write, where none are left.
func (f *failedAuths) next() bool {
	if len(f.rows) > 0 {
		return true
	}
	f.mu.Lock()
	if len(f.waiting) == 0 {
		f.mu.Unlock()
		return false
	}
	minute := f.waiting[0]
	f.waiting = slices.Delete(f.waiting, 0, 1)
	f.mu.Unlock()
	f.rows = minute.rows()
	return true
}

// count is how many failures the minute had.
func (m failedMinute) count() (n int64) {
	for _, c := range m.pairs {
		n += c.n
	}
	for _, c := range m.others {
		n += c.n
	}
	return n
}

// rows are the audit rows of a minute, by when each began.
func (m failedMinute) rows() []failedRow {
	out := make([]failedRow, 0, len(m.pairs)+len(m.others))
	for pair, count := range m.pairs {
		out = append(out, count.row(showNetwork(pair.network), failedDetails{Reason: pair.reason}))
	}
	for reason, count := range m.others {
		out = append(out, count.row("", failedDetails{Reason: reason, Addresses: "others"}))
	}
	slices.SortFunc(out, func(a, b failedRow) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Details, b.Details))
	})
	return out
}

func (n *failedCount) row(address string, d failedDetails) failedRow {
	last := time.Unix(0, n.last)
	d.Count, d.First, d.Last = n.n, time.Unix(0, n.first).UTC().Format(time.RFC3339), last.UTC().Format(time.RFC3339)
	details, err := json.Marshal(d)
	if err != nil { // strings and a number: it cannot
		details = []byte("{}")
	}
	return failedRow{n: n.n, AuditEntry: store.AuditEntry{
		Time: last, Actor: failedActor, Action: store.ActionAuthFailed, Resource: failedResource,
		Details: string(details), Outcome: "denied", Address: address,
	}}
}

// showNetwork is an IPv4 address alone, an IPv6 network with its length.
func showNetwork(network netip.Prefix) string {
	switch {
	case !network.IsValid():
		return ""
	case network.IsSingleIP():
		return network.Addr().String()
	}
	return network.String()
}
