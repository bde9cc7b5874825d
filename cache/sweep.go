package cache

import "time"

const (
	sweepEvery = int64(10 * time.Second)
	// sweepSlack is how long a mark outlives its expiry in memory, so that a clock
	// which is put right by less costs no full load.
	sweepSlack = int64(10 * time.Minute)
)

// sweeper drops marks of the deny-list that have expired. Only who holds the syncing
// token uses it.
type sweeper struct {
	last int64 // Mono of the last sweep
	at   int   // the shard to go on from
}

// sweep drops some expired marks from the snapshot, now and then.
func (c *Cache) sweep() {
	now, w := c.clock(), &c.sweeper
	if now.Mono-w.last < sweepEvery {
		return
	}
	w.last = now.Mono
	c.swap(func(s *Snapshot) *Snapshot {
		denied, gone, at := s.denied.sweep(now.Wall-sweepSlack, w.at)
		w.at = at
		if gone == 0 {
			return s
		}
		c.metrics.swept.Add(float64(gone))
		next := *s
		next.denied = denied
		return &next
	})
}
