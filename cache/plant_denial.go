//go:build plant_denial

package cache

import (
	"time"

	"portcullis/internal/store"
)

const (
	plantStampEarly  = false
	plantJoinerBlind = false
	plantKeyBlind    = false
)

func plantedHistory(_, fresh *history) *history { return fresh }

// plantedDenials publishes a revision without its denials: they take effect when the
// revision is out, with a swap of their own that comes a moment later.
func plantedDenials(c *Cache, denied denials, changes []store.Change) denials {
	time.AfterFunc(time.Millisecond, func() {
		c.swap(func(s *Snapshot) *Snapshot {
			next := *s
			next.denied = s.denied.changed(changes)
			return &next
		})
	})
	return denied
}
