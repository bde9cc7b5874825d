// Package decisionlog writes decisions as JSON lines, to standard output or to a
// file. It never makes a decision wait: what its bounded queue cannot hold is
// dropped and counted.
package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/policy"
)

// Config configures a Log.
type Config struct {
	// Mode says which decisions Wants asks for; Rate is the share of the allowed ones
	// in mode Sample, 0 to 1.
	Mode Mode
	Rate float64
	// Path is the file to append to, made with mode 0600; "" writes to Writer.
	Path string
	// Writer is used where Path is ""; os.Stdout where it is nil.
	Writer io.Writer
	// Queue is how many lines may wait to be written; 4096 where it is 0. Most lines
	// are below 1 KiB, and a request can make one of 10 KiB at most: a full queue
	// holds 4 MiB, or 40 MiB under attack.
	Queue int
	// DrainTimeout is how long Run goes on writing once its context has ended; 5 s
	// where it is 0.
	DrainTimeout time.Duration
	// Registerer receives the counters; none are registered where it is nil.
	Registerer prometheus.Registerer
	// Logger hears of write errors, at most once in ten seconds; slog.Default where
	// it is nil.
	Logger *slog.Logger
}

// The defaults of Config.
const (
	DefaultQueue        = 4096
	DefaultDrainTimeout = 5 * time.Second
)

// Log takes decisions from any number of goroutines; Run writes them.
type Log struct {
	mode  Mode
	rate  float64
	drain time.Duration
	queue chan *line
	lines sync.Pool // of *line
	out   *output

	dropped prometheus.Counter
	written prometheus.Counter
	errors  prometheus.Counter
}

// line is a pooled buffer with one JSON line.
type line struct{ buf []byte }

// New returns a Log. A file that cannot be opened for appending is an error.
// Without a Run beside it, the queue fills and every further record is dropped.
func New(cfg Config) (*Log, error) {
	if cfg.Rate < 0 || cfg.Rate > 1 || cfg.Rate != cfg.Rate {
		return nil, fmt.Errorf("decision log rate %v: want 0 to 1", cfg.Rate)
	}
	if cfg.Queue < 0 {
		return nil, fmt.Errorf("decision log queue %d: want 1 or more", cfg.Queue)
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Writer == nil {
		cfg.Writer = os.Stdout
	}
	l := &Log{
		mode:    cfg.Mode,
		rate:    cfg.Rate,
		drain:   cfg.DrainTimeout,
		queue:   make(chan *line, cfg.Queue),
		lines:   sync.Pool{New: func() any { return &line{buf: make([]byte, 0, 1024)} }},
		dropped: counter("dropped", "Decisions that were not logged because the queue was full."),
		written: counter("written", "Decisions that were written to the decision log."),
		errors:  counter("errors", "Decisions that were lost because the decision log could not be written."),
	}
	l.out = &output{writer: cfg.Writer, written: l.written, errors: l.errors, logger: cfg.Logger}
	if cfg.Mode != Off && cfg.Path != "" {
		l.out.path = cfg.Path
		if err := l.out.open(); err != nil {
			return nil, fmt.Errorf("decision log: %w", err)
		}
	}
	if cfg.Registerer != nil {
		for _, c := range []prometheus.Collector{l.dropped, l.written, l.errors} {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, errors.Join(fmt.Errorf("decision log metrics: %w", err), l.out.close())
			}
		}
	}
	return l, nil
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "portcullis", Subsystem: "decision_log", Name: name + "_total", Help: help,
	})
}

// Wants reports whether a decision with this effect is to be logged, so that a
// caller can skip making the Record. In mode Sample it draws afresh for every
// allowed decision: ask once for each. A nil *Log wants nothing.
func (l *Log) Wants(effect policy.Effect) bool {
	if l == nil {
		return false
	}
	switch l.mode {
	case Denied:
		return effect != policy.Allow
	case All:
		return true
	case Sample:
		return effect != policy.Allow || rand.Float64() < l.rate
	}
	return false
}

// Log queues the record, whatever Wants says of it, and returns at once: a full
// queue drops it. It allocates nothing once warm. Only mode Off ignores it.
func (l *Log) Log(rec *Record) {
	if l == nil || l.mode == Off {
		return
	}
	ln := l.lines.Get().(*line)
	ln.buf = l.appendRecord(ln.buf[:0], rec)
	select {
	case l.queue <- ln:
	default:
		l.lines.Put(ln)
		l.dropped.Inc()
	}
}

// Run writes what is logged until ctx ends, then what is still queued, and closes
// the file. Stop what calls Log first: what comes later stays in the queue. It
// returns nil, or an error if the writer was still stuck after the drain timeout;
// only then does it leave a goroutine behind, in that one write.
func (l *Log) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- l.write(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timeout := time.NewTimer(l.drain)
	defer timeout.Stop()
	select {
	case err := <-done:
		return err
	case <-timeout.C:
		return fmt.Errorf("decision log: the writer did not take the last lines within %v; %d queued", l.drain, len(l.queue))
	}
}
