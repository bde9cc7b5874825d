// Package policyfile owns the policy file that a serving process runs with: it
// loads it at start, watches it, and hands on every good version. A version
// that does not compile changes nothing: the last good one stays in force, the
// log says why, and a metric is raised.
package policyfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"

	"portcullis/policy"
)

// Defaults of Config.
const (
	DefaultPoll   = 5 * time.Second
	DefaultSettle = 50 * time.Millisecond
)

// Config says which file to follow and whom to tell.
type Config struct {
	// Path of the policy file. It may be a symbolic link, as in a Kubernetes
	// ConfigMap volume. Required.
	Path string
	// Apply is called with each good version, the first one included, never
	// twice at once. Required.
	Apply func(*policy.Policy)
	// Check, where set, says what stands against a version that compiles. One that it
	// refuses is treated like one that does not compile.
	Check func(*policy.Policy) error
	// Poll is how often the file is read when no event says that it changed, as
	// on network file systems; DefaultPoll if 0.
	Poll time.Duration
	// Settle is how long the bytes must stay the same before they are taken, so
	// that a half-written file is not; DefaultSettle if 0.
	Settle time.Duration
	// Logger is told of every reload. Required.
	Logger *slog.Logger
	// Registerer takes the metrics. Required.
	Registerer prometheus.Registerer
}

// File follows one policy file.
type File struct {
	cfg     Config
	metrics metrics
	current atomic.Pointer[policy.Policy]

	// seen is the version that was last judged, good or bad, so that each is
	// judged, logged and counted once. Only Run touches it after Open.
	seen version
}

// version is what one read of the file gave: its bytes, or why there were none.
type version struct {
	digest  [sha256.Size]byte
	failure string
}

// Open loads the file and applies it. An unreadable or invalid file is an
// error: a process must not start on a policy that was not meant.
func Open(cfg Config) (*File, error) {
	switch {
	case cfg.Path == "":
		return nil, errors.New("policyfile: Path is empty")
	case cfg.Apply == nil:
		return nil, errors.New("policyfile: Apply is nil")
	case cfg.Logger == nil:
		return nil, errors.New("policyfile: Logger is nil")
	case cfg.Registerer == nil:
		return nil, errors.New("policyfile: Registerer is nil")
	}
	if cfg.Poll <= 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Settle <= 0 {
		cfg.Settle = DefaultSettle
	}
	src, err := os.ReadFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	p, err := cfg.compile(src)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", cfg.Path, err)
	}
	f := &File{cfg: cfg, seen: version{digest: sha256.Sum256(src)}}
	if f.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	f.accept(p)
	return f, nil
}

func (cfg *Config) compile(src []byte) (*policy.Policy, error) {
	p, err := policy.Compile(src)
	if err == nil && cfg.Check != nil {
		err = cfg.Check(p)
	}
	return p, err
}

// Policy is the version in force. Safe for concurrent use.
func (f *File) Policy() *policy.Policy { return f.current.Load() }

// Run follows the file until ctx ends, and returns nil then. It lacks nothing
// when the system gives no file events: the poll beneath them finds the change.
func (f *File) Run(ctx context.Context) error {
	// The directory is watched, not the file: editors and ConfigMap volumes put
	// a new file under the old name, and a watch would stay on the old one.
	dir := filepath.Dir(f.cfg.Path)
	var events chan fsnotify.Event
	var failures chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		events, failures = watcher.Events, watcher.Errors
		err = watcher.Add(dir)
	}
	if err != nil {
		f.cfg.Logger.Warn("policy file is polled only", "path", f.cfg.Path, "every", f.cfg.Poll.String(), "error", err)
	}

	f.reload(ctx, events) // what changed between Open and the watch

	poll := time.NewTicker(f.cfg.Poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-failures: // a queue that overflowed: whatever was lost, the read below finds
		case <-poll.C:
			if watcher != nil {
				_ = watcher.Add(dir) // the directory may be a new one under the old name; a repeat is harmless
			}
		}
		f.reload(ctx, events)
	}
}

// reload takes the file's bytes if they are new and have settled.
func (f *File) reload(ctx context.Context, events <-chan fsnotify.Event) {
	_, now := f.read()
	for now != f.seen {
		settled := time.NewTimer(f.cfg.Settle)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				settled.Stop()
				return
			case <-events: // belongs to the change that is being waited for
			case <-settled.C:
				waiting = false
			}
		}
		before := now
		var src []byte
		if src, now = f.read(); now == before {
			f.judge(src, now)
			return
		}
	}
}

func (f *File) read() ([]byte, version) {
	src, err := os.ReadFile(f.cfg.Path)
	if err != nil {
		return nil, version{failure: err.Error()}
	}
	return src, version{digest: sha256.Sum256(src)}
}

func (f *File) judge(src []byte, v version) {
	f.seen = v
	var err error
	var p *policy.Policy
	if v.failure != "" {
		err = errors.New(v.failure)
	} else {
		p, err = f.cfg.compile(src)
	}
	if err != nil {
		f.metrics.refuse()
		f.cfg.Logger.Error("policy reload failed, the last good policy stays in force",
			"path", f.cfg.Path, "policy", f.Policy().Digest(), "error", err)
		return
	}
	former := f.Policy().Digest()
	f.accept(p)
	f.metrics.reloads.WithLabelValues("ok").Inc()
	f.cfg.Logger.Info("policy reloaded", "path", f.cfg.Path, "policy", p.Digest(), "former", former, "rules", p.Len())
}

func (f *File) accept(p *policy.Policy) {
	f.current.Store(p)
	f.cfg.Apply(p)
	f.metrics.ok.Set(1)
	f.metrics.rules.Set(float64(p.Len()))
}
