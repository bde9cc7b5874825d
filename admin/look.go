package admin

import (
	"portcullis/cache"
	"portcullis/policy"
)

// fresh refuses to answer from a cache that has not heard from the store within
// its bound, as the gate does.
func (a *API) fresh(c *call) error {
	if reason := a.cfg.Cache.Fresh(c.began); reason != policy.ReasonOK {
		return unready(reason)
	}
	return nil
}

// mostRetakes only guards against a loop without end: the cache's own budget,
// which counts from the call's beginning, ends the retakes long before.
const mostRetakes = 1000

// look runs look-ups on the current snapshot, and again on the next one where
// the cache had to catch up with the store in between. While many writes commit,
// a value that is not in memory may be newer than the snapshot several times in a
// row, so it goes on for as long as the cache's budget for one check lasts. It
// returns nil where the look-ups ended in Found or Absent.
func (a *API) look(c *call, lookups func(*cache.Snapshot) cache.Lookup) error {
	end := cache.Retake
	for range mostRetakes {
		s := a.cfg.Cache.Snapshot()
		if s == nil {
			return unready(policy.ReasonNoSnapshot)
		}
		if end = lookups(s); end != cache.Retake {
			break
		}
	}
	switch end {
	case cache.Found, cache.Absent:
		return nil
	case cache.Overloaded:
		return errOverloaded
	case cache.Broken:
		return errBroken
	}
	return unready(policy.ReasonStoreUnavailable)
}
