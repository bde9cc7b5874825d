package sealing

import (
	"sync"
	"time"
)

// tellAgain is how long one unreadable value is not told of again; tellMost is how
// many values are remembered.
const (
	tellAgain = time.Minute
	tellMost  = 1024
)

// Teller says which unreadable values are worth a line in the log: each once a
// minute, since every check that meets one would write it again. The zero Teller is
// ready, and safe for concurrent use.
type Teller struct {
	mu   sync.Mutex
	told map[place]time.Time
}

// place is a Place without what it is bound to.
type place struct {
	table, column string
	row           int64
}

// Tell reports whether to tell of the value at now. Of more than 1024 values in a
// minute the rest is not told of; they are counted all the same.
func (t *Teller) Tell(p Place, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := place{p.Table, p.Column, p.Row}
	if last, ok := t.told[at]; ok && now.Sub(last) < tellAgain {
		return false
	}
	if len(t.told) >= tellMost {
		for known, last := range t.told {
			if now.Sub(last) >= tellAgain {
				delete(t.told, known)
			}
		}
		if len(t.told) >= tellMost {
			return false
		}
	}
	if t.told == nil {
		t.told = make(map[place]time.Time)
	}
	t.told[at] = now
	return true
}
