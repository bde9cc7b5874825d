package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errPanicked: a load panicked, which is a bug here or in a driver.
var errPanicked = errors.New("the load panicked")

// errOverloaded: so many different loads wait for the store that this one is shed.
var errOverloaded = errors.New("too many loads wait for the store")

// flights shares one store load among all who want the same value at once or
// shortly after, and bounds how many loads run. What a joiner gets was read for
// somebody else, and maybe before a change that the joiner's snapshot holds: every
// joiner judges the value for itself, and asks for a new load if it does not fit.
type flights[K comparable, V any] struct {
	load func(context.Context, K) (V, error)
	gate chan struct{} // one token a running load; shared with the other kinds
	time time.Duration // how long one load may take

	panicked func(any) // hears of a load that panicked

	// landed, which may be nil, is told of each good load before those who wait are.
	landed func(K, *flight[V])

	mu sync.Mutex // guards m
	m  map[K]*flight[V]
}

// keepLanded is how long a value can still be joined after its load has ended. A
// check that had to catch up with the store finds here what it loaded before,
// where the cache has not taken it in yet; without it, checks could starve under
// a stream of writes, each load being newer than the snapshot once more.
const keepLanded = 250 * time.Millisecond

type flight[V any] struct {
	queued  atomic.Bool   // the load waits for its turn: the store is not asked yet
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
	history *history // the line that was current before the load began
}

// get joins the load of k that is under way or has just landed, unless it is
// unfit, or starts one. It returns when the value is there or ctx ends. A load
// goes on for the others when its starter gives up. joined says that the load
// began before this call.
func (f *flights[K, V]) get(ctx context.Context, k K, unfit *flight[V], current func() *history) (fl *flight[V], joined bool, err error) {
	f.mu.Lock()
	fl, joined = f.m[k]
	if !joined || fl == unfit {
		fl, joined = &flight[V]{done: make(chan struct{}), history: current()}, false
		f.m[k] = fl
		f.mu.Unlock()
		go f.run(k, fl)
	} else {
		f.mu.Unlock()
	}
	select {
	case <-fl.done:
		return fl, joined, fl.err
	case <-ctx.Done():
		if fl.queued.Load() {
			// Whoever starts a load gives up a moment before the load itself does. Its
			// turn never came, which says nothing about the store.
			return nil, joined, errOverloaded
		}
		return nil, joined, ctx.Err()
	}
}

// forget lets nobody join fl any more.
func (f *flights[K, V]) forget(k K, fl *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m[k] == fl {
		delete(f.m, k)
	}
}

func (f *flights[K, V]) run(k K, fl *flight[V]) {
	ctx, cancel := context.WithTimeout(context.Background(), f.time)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			// A denial for those who wait, and not the end of the process.
			fl.err = errPanicked
			f.panicked(p)
		}
		if fl.err != nil {
			f.forget(k, fl)
		} else {
			time.AfterFunc(keepLanded, func() { f.forget(k, fl) })
		}
		close(fl.done)
	}()
	select {
	case f.gate <- struct{}{}:
	default:
		fl.queued.Store(true)
		select {
		case f.gate <- struct{}{}:
			fl.queued.Store(false)
		case <-ctx.Done():
			fl.err = errOverloaded
			return
		}
	}
	defer func() { <-f.gate }()
	if fl.value, fl.err = f.load(ctx, k); fl.err == nil && f.landed != nil {
		f.landed(k, fl)
	}
}

func newFlights[K comparable, V any](load func(context.Context, K) (V, error), gate chan struct{}, limit time.Duration, panicked func(any)) flights[K, V] {
	return flights[K, V]{load: load, gate: gate, time: limit, panicked: panicked, m: make(map[K]*flight[V])}
}
