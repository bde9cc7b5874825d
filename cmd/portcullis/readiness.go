package main

import (
	"sync/atomic"

	"portcullis/cache"
	"portcullis/policy"
)

// readiness says whether the process should be sent requests. It is safe for
// concurrent use.
type readiness struct {
	cache    *cache.Cache
	draining atomic.Bool
}

// drain makes the process unready for good.
func (r *readiness) drain() { r.draining.Store(true) }

// readinessJSON is the body of /readyz.
type readinessJSON struct {
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason"`   // ok, draining, no_snapshot or stale
	Revision int64  `json:"revision"` // applied; 0 before the first load
	Policy   string `json:"policy"`   // digest; "" before the first load
}

func (r *readiness) state() readinessJSON {
	s := readinessJSON{Reason: "draining", Revision: r.cache.Applied()}
	if snapshot := r.cache.Snapshot(); snapshot != nil {
		s.Policy = snapshot.Policy.Digest()
	}
	if !r.draining.Load() {
		reason := r.cache.Fresh(r.cache.Now())
		s.Ready, s.Reason = reason == policy.ReasonOK, reason.String()
	}
	return s
}
