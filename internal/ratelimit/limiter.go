// Package ratelimit counts what each of many keys does against one rate, in bounded
// memory. It reads no clock: the caller says when it is, in nanoseconds of a clock
// that does not go back.
//
// A key has a bucket of Rate.Count that fills evenly over Rate.Period: so many may
// come at once, and one more whenever the bucket has filled by one.
package ratelimit

import (
	"container/heap"
	"hash/maphash"
	"sync"
	"time"
)

const (
	// DefaultMaxKeys is how many keys have a bucket of their own.
	DefaultMaxKeys = 65_536
	// shared is how many buckets there are for the keys beyond those.
	shared = 4096
)

// Limiter holds the buckets. It is safe for concurrent use.
//
// A bucket that has filled up again says nothing and makes way. Where MaxKeys buckets
// have not, the keys beyond share 4096 buckets, each key always the same one: then
// some wait for others, and none gets more than the rate, whatever is thrown at the
// table. A key that gets a bucket of its own later begins with what is left in the
// shared one.
type Limiter[K comparable] struct {
	rate Rate
	step int64 // nanoseconds for one
	full int64 // nanoseconds from empty to full
	most int
	seed maphash.Seed

	mu      sync.Mutex // guards what follows
	byKey   map[K]*bucket[K]
	buckets queue[K] // the first one to be full stands first
	beyond  []int64  // of the shared ones, as bucket.until; nil until needed
}

// bucket is full at until, and holds one less for every step before that.
type bucket[K comparable] struct {
	key   K
	until int64
	place int // in the queue
}

// New makes a limiter. The zero rate limits nothing. maxKeys 0 is DefaultMaxKeys.
func New[K comparable](rate Rate, maxKeys int) *Limiter[K] {
	if maxKeys <= 0 {
		maxKeys = DefaultMaxKeys
	}
	l := &Limiter[K]{rate: rate, most: maxKeys, seed: maphash.MakeSeed(), byKey: map[K]*bucket[K]{}}
	if rate.Limits() {
		l.step = rate.step()
		l.full = l.step * int64(rate.Count)
	}
	return l
}

// Rate is what the limiter was made with.
func (l *Limiter[K]) Rate() Rate { return l.rate }

// State is a bucket after it was asked.
type State struct {
	OK        bool          // one was taken
	Remaining int           // how many may come at once now
	Reset     time.Duration // until the bucket is full
	Wait      time.Duration // until there is one; 0 where OK
}

// Take takes one from the key's bucket, if there is one. A refusal costs nothing, so
// that who waits as long as State.Wait says is let in.
func (l *Limiter[K]) Take(key K, now int64) State {
	if !l.rate.Limits() {
		return State{OK: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.byKey[key]
	if b == nil {
		b = l.enter(key, now)
	}
	if b == nil {
		return l.take(&l.beyond[l.slot(key)], now)
	}
	s := l.take(&b.until, now)
	heap.Fix(&l.buckets, b.place)
	return s
}

// GiveBack undoes a Take that was OK.
func (l *Limiter[K]) GiveBack(key K) {
	if !l.rate.Limits() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.byKey[key]; b != nil {
		b.until -= l.step
		heap.Fix(&l.buckets, b.place)
	} else if l.beyond != nil {
		l.beyond[l.slot(key)] -= l.step
	}
	// Else the bucket made way, since it was full without this.
}

// Len is how many keys have a bucket of their own.
func (l *Limiter[K]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byKey)
}

// take is Take on one bucket.
func (l *Limiter[K]) take(until *int64, now int64) State {
	at := max(*until, now)
	if wait := at + l.step - l.full - now; wait > 0 {
		return State{Reset: time.Duration(at - now), Wait: time.Duration(wait)}
	}
	*until = at + l.step
	gone := *until - now
	return State{OK: true, Remaining: int((l.full - gone) / l.step), Reset: time.Duration(gone)}
}

// enter gives the key a bucket, and takes up to two away that are full: so a table
// that a flood has filled empties again. It returns nil where there is no room.
func (l *Limiter[K]) enter(key K, now int64) *bucket[K] {
	for range 2 {
		if len(l.buckets) == 0 || l.buckets[0].until > now {
			break
		}
		gone := heap.Pop(&l.buckets).(*bucket[K])
		delete(l.byKey, gone.key)
	}
	if len(l.buckets) >= l.most {
		if l.beyond == nil {
			l.beyond = make([]int64, shared)
			for i := range l.beyond {
				l.beyond[i] = now
			}
		}
		return nil
	}
	b := &bucket[K]{key: key, until: now}
	if l.beyond != nil {
		b.until = max(now, l.beyond[l.slot(key)])
	}
	l.byKey[key] = b
	heap.Push(&l.buckets, b)
	return b
}

// slot is the key's shared bucket. Nobody outside can tell which.
func (l *Limiter[K]) slot(key K) int { return int(maphash.Comparable(l.seed, key) % shared) }

// queue is a heap of buckets by when they are full.
type queue[K comparable] []*bucket[K]

func (q queue[K]) Len() int           { return len(q) }
func (q queue[K]) Less(i, j int) bool { return q[i].until < q[j].until }
func (q queue[K]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push and Pop serve container/heap.
func (q *queue[K]) Push(x any) {
	b := x.(*bucket[K])
	b.place = len(*q)
	*q = append(*q, b)
}

func (q *queue[K]) Pop() any {
	old := *q
	b := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return b
}
