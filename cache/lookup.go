package cache

import (
	"context"
	"errors"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Lookup is how a look-up ended. Only with Found is its value to be used.
type Lookup uint8

// The ends of a look-up. The zero Lookup is a fault.
const (
	Unavailable Lookup = iota // the store did not answer in time: fault store_unavailable
	Found                     // the value is true at the snapshot's revision
	Absent                    // no such thing
	Retake                    // the cache caught up with the store: take the snapshot again and start the check over, once
	Overloaded                // shed: too many loads wait
	Broken                    // the load panicked, or a sealed value does not open: denial internal
)

// Reason is the verdict of a check that ends with this look-up. Absent has the
// reason that the caller gives, since what is absent differs.
func (l Lookup) Reason(absent policy.Reason) policy.Reason {
	switch l {
	case Found:
		return policy.ReasonOK
	case Absent:
		return absent
	case Overloaded:
		return policy.ReasonOverloaded
	case Unavailable, Retake:
		return policy.ReasonStoreUnavailable
	}
	return policy.ReasonInternal
}

// lookupOf is how a look-up ends whose load failed. What does not open is a denial
// and no fault: no setting of Envoy's may let it through.
func lookupOf(err error) Lookup {
	switch {
	case errors.Is(err, errOverloaded):
		return Overloaded
	case errors.Is(err, errPanicked), errors.Is(err, store.ErrUnreadable):
		return Broken
	}
	return Unavailable
}

// loaded is what every load returns: a value and the revision that was read with
// it.
type loaded[V any] struct {
	value    V
	revision store.Revision
}

// lookupLoads is how often a look-up loads anew when what it got may be outdated,
// before it hears from the store.
const lookupLoads = 3

// resolve gets k by a shared load until the value fits the snapshot. It runs on
// the cold path only.
func resolve[K comparable, V any](c *Cache, f *flights[K, loaded[V]], s *Snapshot, k K, now Instant, a, b slot) (V, *history, int64, Lookup) {
	var none V
	ctx, cancel := context.WithTimeout(context.Background(), c.remaining(now))
	defer cancel()
	var unfit *flight[loaded[V]]
	for range lookupLoads {
		fl, joined, err := f.get(ctx, k, unfit, c.currentHistory)
		if err != nil {
			return none, nil, 0, lookupOf(err)
		}
		v := fl.value
		if plantJoinerBlind && joined {
			return v.value, fl.history, v.revision.Number, Found
		}
		switch s.judgeLoaded(fl.history, v.revision, a, b) {
		case fits:
			return v.value, fl.history, v.revision.Number, Found
		case tooNew:
			return none, nil, 0, c.catchUpFor(ctx, v.revision.Number)
		case tooOld:
			// Its slot was raised while it loaded, or it shared a load that began too
			// early: the next load starts after this one ended.
			unfit = fl
			if s.hist != c.currentHistory() {
				return none, nil, 0, Retake
			}
		}
	}
	// The store keeps giving values of a past that the feed does not confirm. Hear
	// from it: the history may have been replaced under us.
	return none, nil, 0, c.catchUpFor(ctx, s.Revision.Number+1)
}

// catchUpFor hears from the store on behalf of a check.
func (c *Cache) catchUpFor(ctx context.Context, revision int64) Lookup {
	if err := c.CatchUp(ctx, revision); err != nil {
		return lookupOf(c.loadFailed("catch_up", err))
	}
	return Retake
}

// remaining is how much of a check's budget is left.
func (c *Cache) remaining(began Instant) time.Duration {
	return c.cfg.Budget - time.Duration(c.clock().Mono-began.Mono)
}
