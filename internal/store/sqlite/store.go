// Package sqlite is the store in one SQLite file, for one machine: the default
// of `portcullis serve`. Several processes may have the file open at once (the
// server and the command line do), each sees the others' writes within some
// 25 ms.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// errClosed is what calls get once Close has begun.
var errClosed = errors.New("the store is closed")

// Config says which file to open, and how.
type Config struct {
	// Path is the database file. It is made, mode 0600, where it is absent; its
	// directory must exist.
	Path string
	// Logger hears of migrations and of values that do not open. Nil discards.
	Logger *slog.Logger
	// Readers bounds the read connections, 2 to 64. Zero is two for each
	// processor, 4 at least.
	Readers int
	// PollInterval is how often Wait looks for commits of other processes,
	// 1 ms to 10 s. Zero is 25 ms.
	PollInterval time.Duration
	// LockTimeout is how long a call waits for another process's lock on the file
	// before it fails, where its context ends no sooner; 1 ms to 10 min. Zero is
	// 30 s.
	LockTimeout time.Duration
	// Masters are the master keys of AUTH_ENCRYPTION_KEY. Nil, or none that opens the
	// database, is an error where its fields are sealed. Where they are in clear, the
	// masters are what a rotation seals them under.
	Masters *sealing.Masters
	// AuditKeys are the keys of AUTH_AUDIT_KEY, of which the first wraps the secret of the
	// audit's chain, before Masters do. Where the audit is chained, and neither opens the
	// secret, the store does not open.
	AuditKeys *sealing.Masters
	// ReadOnly is for a sidecar, which writes nothing but reports: it needs no key of the
	// audit's chain.
	ReadOnly bool
	// Now is the clock of created, revoked and audit times. Nil is time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Readers == 0 {
		c.Readers = max(4, min(64, 2*runtime.GOMAXPROCS(0)))
	}
	if c.PollInterval == 0 {
		c.PollInterval = 25 * time.Millisecond
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = 30 * time.Second
	}
	switch {
	case c.Path == "":
		return c, errors.New("path: is empty: name the database file")
	case strings.ContainsRune(c.Path, 0):
		return c, errors.New("path: holds a zero byte")
	case c.Readers < 2 || c.Readers > 64:
		return c, fmt.Errorf("readers: %d is outside 2 to 64", c.Readers)
	case c.PollInterval < time.Millisecond || c.PollInterval > 10*time.Second:
		return c, fmt.Errorf("poll interval: %s is outside 1ms to 10s", c.PollInterval)
	case c.LockTimeout < time.Millisecond || c.LockTimeout > 10*time.Minute:
		return c, fmt.Errorf("lock timeout: %s is outside 1ms to 10m", c.LockTimeout)
	}
	abs, err := filepath.Abs(c.Path)
	if err != nil {
		return c, fmt.Errorf("path: %w", err)
	}
	c.Path = abs
	return c, nil
}

// Store is a store.Store in one SQLite file.
type Store struct {
	cfg Config

	writer *pool // one connection: writes of this process queue here, not in busy waits
	reader *pool // query-only
	watch  *watcher
	ring   *sealing.Ring

	busy       atomic.Int64 // attempts that found the file locked
	unreadable unreadableCounts
	teller     sealing.Teller
	chain      atomic.Pointer[openedChain] // as it was opened last; nil: not yet

	closing context.Context // done once Close has begun
	close   context.CancelFunc

	mu     sync.Mutex // guards closed, and calls against a late Add
	closed bool
	calls  sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open opens the file, makes it where it is absent, and migrates it. Errors
// that callers branch on: store.ErrSchema for a file that a newer program has
// migrated, store.ErrEncryption for one that the masters do not open, store.ErrChain for one whose
// audit is in a chain that no key opens. Close the store when done.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open SQLite store: %w", err)
	}
	s, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open SQLite store: %w", explain(cfg.Path, err))
	}
	return s, nil
}

func open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if err := prepareFile(ctx, cfg.Path); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, ring: sealing.NewRing(cfg.Masters)}
	s.closing, s.close = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// Query-only connections first: the writer's would turn another program's
	// database to WAL.
	if s.reader, err = openPool(cfg, reading); err != nil {
		return nil, err
	}
	if err := s.claim(ctx); err != nil {
		return nil, err
	}
	if s.watch, err = newWatcher(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// claim makes the database Portcullis's own, of this program's schema, unless it
// is somebody else's.
func (s *Store) claim(ctx context.Context) error {
	var fresh bool
	err := s.retryBusy(ctx, func() (err error) {
		fresh, err = refuseForeign(ctx, s.reader.db, s.cfg.Path)
		return err
	})
	if err != nil {
		return err
	}
	if s.writer, err = openPool(s.cfg, writing); err != nil {
		return err
	}
	if fresh {
		err := s.retryBusy(ctx, func() error {
			_, err := s.writer.db.ExecContext(ctx, sqlMark)
			return err
		})
		if err != nil {
			return fmt.Errorf("mark the database: %w", err)
		}
	}
	if err := migrate(ctx, s.writer.db, s.cfg); err != nil {
		return err
	}
	if err := checkFiles(s.cfg.Path); err != nil {
		return err
	}
	if err := s.checkMasters(ctx); err != nil {
		return err
	}
	if s.cfg.ReadOnly {
		return nil
	}
	return s.checkChain(ctx)
}

// MaxReads is how many reads run at once.
func (s *Store) MaxReads() int { return s.cfg.Readers }

// Close ends the calls in flight, waits for them, and closes the file. Calling
// it again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()

	s.close()
	s.calls.Wait()
	var errs []error
	if s.watch != nil {
		errs = append(errs, s.watch.close())
	}
	if s.reader != nil {
		errs = append(errs, s.reader.close())
	}
	if s.writer != nil { // last: its close checkpoints the WAL
		errs = append(errs, s.writer.close())
	}
	return errors.Join(errs...)
}

// calling runs a call on the store: fn gets a context that ends with ctx or
// with the store, and runs again where the file was locked.
func (s *Store) calling(ctx context.Context, fn func(ctx context.Context) error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	s.calls.Add(1)
	s.mu.Unlock()
	defer s.calls.Done()

	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()

	err := s.retryBusy(callCtx, func() error { return fn(callCtx) })
	if err != nil && ctx.Err() == nil && s.closing.Err() != nil {
		return errClosed
	}
	return explain(s.cfg.Path, err)
}
