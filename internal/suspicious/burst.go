package suspicious

import (
	"cmp"
	"math"
	"slices"
	"time"

	"portcullis/internal/store"
)

// who is what a burst is counted by.
type who struct {
	actor   string
	tenant  store.TenantID // the actor's, where it is another than the row's
	address string         // of failed authentications from one address
}

// slack is how far rows may be out of the order of time while old counts are let go.
// Failed authentications are written up to 15 minutes late.
const slack = 30 * time.Minute

// tally counts by who and when, and finds where a window of time holds enough.
type tally struct {
	threshold Threshold
	unit      time.Duration // of the counts: what happened within one is one count
	maxRows   int
	maxCounts int
	series    map[who]*series
	counts    int // in all series
	dropped   int64
}

// series is what one has done, by unit of time.
type series struct {
	counts map[int64]*tick
	total  int64
}

// tick is what one has done within a unit of time.
type tick struct {
	count       int64
	first, last time.Time
	rows        []int64 // the lowest ids, ascending
	rowCount    int64
}

// burst is a stretch of time that windows with enough in them cover.
type burst struct {
	tick
	peak int64 // the most in one window
}

type doneBurst struct {
	by who
	burst
}

// at is the unit of time that t lies in.
func (t *tally) at(at time.Time) int64 {
	return at.Unix() / int64(t.unit/time.Second)
}

// units is a duration in units.
func (t *tally) units(d time.Duration) int64 { return int64(d / t.unit) }

// add counts n things that happened from first to the row's time, and returns the
// bursts that it lets go of to stay in its bound.
func (t *tally) add(by who, e *store.AuditEntry, n int64, first time.Time) []doneBurst {
	s := t.series[by]
	if s == nil {
		s = &series{counts: make(map[int64]*tick)}
		t.series[by] = s
	}
	unit := t.at(e.Time)
	c := s.counts[unit]
	if c == nil {
		c = &tick{first: first, last: e.Time}
		s.counts[unit] = c
		t.counts++
	}
	s.total = plus(s.total, n)
	c.merge(&tick{count: n, first: first, last: e.Time, rows: []int64{e.ID}, rowCount: 1}, t.maxRows)
	if t.counts < t.maxCounts {
		return nil
	}
	return t.sweep(unit)
}

// sweep judges what no later row can add to, and lets go of it; then of those who did
// least, until half of the bound is free.
func (t *tally) sweep(now int64) []doneBurst {
	var done []doneBurst
	reach := t.units(slack + t.threshold.Within)
	far := func(unit int64) bool { return unit < now-reach || unit > now+reach }
	for by, s := range t.series {
		for _, b := range s.bursts(t) {
			if far(t.at(b.first)) || far(t.at(b.last)) {
				done = append(done, doneBurst{by, b})
			}
		}
		for unit := range s.counts {
			if far(unit) {
				delete(s.counts, unit)
				t.counts--
			}
		}
		if len(s.counts) == 0 {
			delete(t.series, by)
		}
	}
	if t.counts <= t.maxCounts/2 {
		return done
	}
	type weight struct {
		by    who
		total int64
	}
	var by []weight
	for w, s := range t.series {
		by = append(by, weight{w, s.total})
	}
	slices.SortFunc(by, func(a, b weight) int {
		return cmp.Or(cmp.Compare(a.total, b.total), cmp.Compare(a.by.address, b.by.address), cmp.Compare(a.by.actor, b.by.actor), cmp.Compare(a.by.tenant, b.by.tenant))
	})
	for _, w := range by {
		if t.counts <= t.maxCounts/2 {
			break
		}
		s := t.series[w.by]
		bursts := s.bursts(t)
		for _, b := range bursts {
			done = append(done, doneBurst{w.by, b})
		}
		if len(bursts) == 0 {
			for _, c := range s.counts {
				t.dropped += c.rowCount
			}
		}
		t.counts -= len(s.counts)
		delete(t.series, w.by)
	}
	return done
}

// bursts are the stretches of time in which windows hold enough. Windows that
// overlap are one.
func (s *series) bursts(t *tally) []burst {
	if s.total < t.threshold.Count {
		return nil
	}
	units := make([]int64, 0, len(s.counts))
	for unit := range s.counts {
		units = append(units, unit)
	}
	slices.Sort(units)
	width := t.units(t.threshold.Within)
	var out []burst
	start, sum, told := 0, int64(0), 0 // told: up to where counts are in out
	for end, unit := range units {
		sum = plus(sum, s.counts[unit].count)
		for unit-units[start] >= width {
			sum = max(sum-s.counts[units[start]].count, 0)
			start++
		}
		if sum < t.threshold.Count {
			continue
		}
		if len(out) == 0 || start >= told {
			out = append(out, burst{})
			told = start
		}
		b := &out[len(out)-1]
		b.peak = max(b.peak, sum)
		for ; told <= end; told++ {
			b.merge(s.counts[units[told]], t.maxRows)
		}
	}
	return out
}

// merge adds what another tick holds.
func (c *tick) merge(o *tick, maxRows int) {
	if c.rowCount == 0 || o.first.Before(c.first) {
		c.first = o.first
	}
	if c.rowCount == 0 || o.last.After(c.last) {
		c.last = o.last
	}
	c.count, c.rowCount = plus(c.count, o.count), c.rowCount+o.rowCount
	for _, id := range o.rows {
		at, _ := slices.BinarySearch(c.rows, id)
		if at >= maxRows {
			break
		}
		c.rows = slices.Insert(c.rows, at, id)
		c.rows = c.rows[:min(len(c.rows), maxRows)]
	}
}

// maxSum is where counts stop: a row may claim what it likes.
const maxSum = math.MaxInt64 / 4

func plus(a, b int64) int64 { return min(a+min(b, maxSum), maxSum) }
