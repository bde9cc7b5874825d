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

// look runs look-ups on the current snapshot, and once more on the next one
// where the cache had to catch up with the store in between. It returns nil
// where they ended in Found or Absent.
func (a *API) look(c *call, lookups func(*cache.Snapshot) cache.Lookup) error {
	end := cache.Retake
	for range 2 {
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
	}
	return unready(policy.ReasonStoreUnavailable)
}
