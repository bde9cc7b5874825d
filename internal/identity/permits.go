package identity

import (
	"sync/atomic"
	"time"
)

// permits bounds how many asymmetric signatures are verified at once, and how many
// callers wait for their turn. One signature costs as much as a dozen checks, and
// anybody can send junk ones: without a bound a flood of them would take every
// processor from the requests that are answered from memory.
type permits struct {
	running chan struct{}
	waiting atomic.Int64
	most    int64
}

func newPermits(workers, queue int) *permits {
	return &permits{running: make(chan struct{}, workers), most: int64(queue)}
}

// acquire takes a permit, waiting for one until the deadline fires. It is false at
// once where too many wait already.
func (p *permits) acquire(deadline <-chan time.Time) bool {
	select {
	case p.running <- struct{}{}:
		return true
	default:
	}
	if p.waiting.Add(1) > p.most {
		p.waiting.Add(-1)
		return false
	}
	defer p.waiting.Add(-1)
	select {
	case p.running <- struct{}{}:
		return true
	case <-deadline:
		return false
	}
}

func (p *permits) release() { <-p.running }
