// Package tuning owns how a serving process trades memory for garbage
// collection. docs/design/gc.md says why, with figures.
package tuning

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// Percent is GOGC where the user set none: the heap may grow to five times
	// what is alive before it is collected.
	Percent = 400
	// floorFactor times the cache's bound is the lowest soft limit. A full cache
	// alone must not press against the limit.
	floorFactor = 4
	// headroom times what is alive is what the limit is lifted to, so that a
	// process with more in hand than was foreseen collects about as often as
	// Go's own default would, rather than without end.
	headroom = 2
	interval = time.Second
)

// Config is what the choice depends on.
type Config struct {
	// Lookup reads the environment: GOGC and GOMEMLIMIT. A variable that the
	// user set is left to the Go runtime, which has read it already. Required.
	Lookup func(name string) (string, bool)
	// CacheMemory is the bound of all caches together, in bytes.
	CacheMemory int64
	// Ceiling is the memory that the process may use at most, in bytes, as the
	// container's limit says; 0 is none.
	Ceiling int64
	// Logger is told what was set. Required.
	Logger *slog.Logger
}

// Tuner holds the soft memory limit above what the process needs.
type Tuner struct {
	floor, ceiling int64
	limit          int64
	ownLimit       bool // the user set GOMEMLIMIT: hands off
	set            func(int64) int64
	alive          func() int64
	logger         *slog.Logger
}

// Apply sets the collector's percentage and the soft memory limit, as far as
// the user set none, for the whole process.
func Apply(cfg Config) *Tuner {
	t := &Tuner{
		floor:  floorFactor * cfg.CacheMemory,
		set:    debug.SetMemoryLimit,
		alive:  alive,
		logger: cfg.Logger,
	}
	if cfg.Ceiling > 0 {
		// A tenth is left for what the runtime does not count.
		t.ceiling = cfg.Ceiling / 10 * 9
	}
	_, t.ownLimit = cfg.Lookup("GOMEMLIMIT")
	if _, own := cfg.Lookup("GOGC"); !own {
		debug.SetGCPercent(Percent)
	}
	if !t.ownLimit {
		t.adjust()
	}
	return t
}

// Limit is the soft limit in bytes that the tuner set; 0 if the user set one.
// It is not safe for use beside Run.
func (t *Tuner) Limit() int64 { return t.limit }

// Run keeps the limit above what is alive until ctx ends, and returns nil then.
func (t *Tuner) Run(ctx context.Context) error {
	if t.ownLimit {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.adjust()
		}
	}
}

func (t *Tuner) adjust() {
	want := limitFor(t.alive(), t.floor, t.ceiling)
	// Setting it stops the world for a moment: not for a sliver.
	if diff := math.Abs(float64(want - t.limit)); diff <= float64(t.limit)/10 {
		return
	}
	t.limit = want
	t.set(want)
	t.logger.Debug("memory limit set", "bytes", want)
}

func limitFor(alive, floor, ceiling int64) int64 {
	limit := max(floor, headroom*alive)
	if ceiling > 0 {
		limit = min(limit, ceiling)
	}
	return limit
}

// alive is what a collection cannot free, in bytes: the heap that the last one
// found alive, stacks, and the runtime's own structures.
func alive() int64 {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/os-stacks:bytes"},
		{Name: "/memory/classes/metadata/mspan/inuse:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"},
	}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return int64(min(sum, math.MaxInt64/headroom))
}
