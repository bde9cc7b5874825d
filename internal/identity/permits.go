package identity

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	if !p.take(deadline) {
		return false
	}
	// Who hands a permit on makes the next one run in its own time slice, so that
	// under a flood one signature would follow another for 10 ms while requests that
	// need none wait. This lets them go first.
	runtime.Gosched()
	return true
}

func (p *permits) take(deadline <-chan time.Time) bool {
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

// turns gives one verifier its share of the permits. The nil turns bound nothing.
type turns struct {
	permits *permits
	wait    time.Duration // how long one caller may wait
	shed    prometheus.Counter
}

// take waits for a turn, and is false where none could be had in time.
func (t *turns) take() bool {
	if t == nil {
		return true
	}
	deadline := time.NewTimer(t.wait)
	defer deadline.Stop()
	if t.permits.acquire(deadline.C) {
		return true
	}
	t.shed.Inc()
	return false
}

// done ends the turn that take gave.
func (t *turns) done() {
	if t != nil {
		t.permits.release()
	}
}
