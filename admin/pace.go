package admin

import (
	"sync"
	"time"
)

// pace bounds how often something is done a minute. It is safe for concurrent use.
type pace struct {
	most int // a minute

	mu    sync.Mutex
	began int64 // of the minute that counts, monotonic nanoseconds
	used  int
}

// take reports whether it may be done once more at now, in monotonic nanoseconds.
func (p *pace) take(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == 0 || now-p.began >= int64(time.Minute) {
		p.began, p.used = now, 0
	}
	if p.used >= p.most {
		return false
	}
	p.used++
	return true
}
