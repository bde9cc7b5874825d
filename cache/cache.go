package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Feed carries the changes of the store to a sidecar. A store is one; a fleet too
// large for one LISTEN connection each can have another.
type Feed interface {
	// Wait blocks until something may have been committed, or ctx ends.
	Wait(ctx context.Context) error
	// Delta returns what came after a revision, as store.Reader's Delta does.
	Delta(ctx context.Context, after store.Revision, held []store.TenantID) (store.Delta, error)
}

// Source is what the cache loads from and reports to. Its methods are those of
// store.Reader.
type Source interface {
	Bootstrap(ctx context.Context, yield func(store.Digest) error) (store.Base, error)
	Roles(ctx context.Context, tenant store.TenantID) (store.TenantRoles, error)
	PrincipalIndex(ctx context.Context, tenant store.TenantID, key store.KeyID, kind policy.Kind, id string) (store.Index, error)
	Grant(ctx context.Context, tenant store.TenantID, kind policy.Kind, id string) (store.GrantRow, error)
	Key(ctx context.Context, digest store.Digest) (store.KeyRow, error)
	UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error)
	Report(ctx context.Context, reports []store.Report) error
}

// Config is what a Cache is made of. Store, Feed and Verifier are required; the
// other fields have the defaults that they name.
type Config struct {
	Store    Source
	Feed     Feed
	Verifier Verifier
	Keys     SigningKeys    // gets the public signing keys of the store; nil: nobody does
	Policy   *policy.Policy // nil: no rules, every request is denied

	Tenants      []string      // the tenants served; empty: all
	MaxStaleness time.Duration // how long to go without word from the store; default 120 s
	Memory       int64         // bytes, for all caches together; default 64 MiB, least 1 MiB
	Budget       time.Duration // how long one check may wait for the store; default 150 ms
	MaxLoads     int           // how many loads run at once; default 64
	Poll         time.Duration // between polls beneath Feed.Wait, jittered by a quarter; default 1 s
	Heartbeat    time.Duration // between heartbeats; default 5 s
	Silent       bool          // report nothing to the store: not a sidecar
	Masters      []string      // ids of the master keys that the store holds, for the reports

	Clock      Clock                 // default SystemClock
	Registerer prometheus.Registerer // default: metrics are kept but not exported
	Logger     *slog.Logger          // default: discards
}

// Cache holds a sidecar's snapshot and caches. All methods are safe for
// concurrent use. Run must run for it to stay fresh.
type Cache struct {
	cfg     Config
	clock   Clock
	sidecar string // this process, at random
	metrics *metrics
	log     *slog.Logger

	snapshot atomic.Pointer[Snapshot]
	word     atomic.Pointer[Instant] // when the store last confirmed that nothing was missed
	swapMu   sync.Mutex              // guards the read-modify-write of snapshot; never held over I/O
	policy   *policy.Policy          // under swapMu: the rules for the next snapshot

	syncing  chan struct{} // one token: the right to run a sync
	started  atomic.Int64  // syncs begun
	finished atomic.Int64  // the number of the newest sync that succeeded
	heard    atomic.Int64  // the newest revision that the store told of
	applied  atomic.Int64  // the revision whose effects every new check sees
	signing  atomic.Int64  // the version of the signing keys that verify now
	sweeper  sweeper       // with the syncing token

	tokens   kv[[]byte, *Token]
	keys     kv[uint64, *Key]
	userKeys kv[uint64, *UserKey]
	grants   kv[uint64, *grant]

	keyLoads     flights[store.Digest, loaded[*store.ClientKey]]
	userKeyLoads flights[store.Digest, loaded[*store.UserKey]]
	grantLoads   flights[grantID, loaded[Holdings]]
	roleLoads    flights[store.TenantID, loaded[*policy.RoleTable]]

	uses  chan store.KeyUse
	acks  chan struct{} // a writer waits for the applied revision
	close []func()
}

// New makes a Cache. It reads nothing yet: Snapshot is nil until Run has loaded.
func New(cfg Config) (*Cache, error) {
	if cfg.Store == nil || cfg.Feed == nil || cfg.Verifier == nil {
		return nil, errors.New("cache: Store, Feed and Verifier are required")
	}
	setDefault(&cfg.MaxStaleness, 120*time.Second)
	setDefault(&cfg.Memory, 64<<20)
	setDefault(&cfg.Budget, 150*time.Millisecond)
	setDefault(&cfg.MaxLoads, 64)
	setDefault(&cfg.Poll, time.Second)
	setDefault(&cfg.Heartbeat, 5*time.Second)
	if cfg.Memory < 1<<20 {
		return nil, fmt.Errorf("cache: Memory is %d bytes: at least 1 MiB is needed", cfg.Memory)
	}
	if cfg.Policy == nil {
		cfg.Policy = policy.Empty()
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// Half for tokens, the largest and the dearest to make again.
	tokens, err := newRistretto[[]byte, *Token](cfg.Memory/2, 1200, tokenHash())
	if err != nil {
		return nil, fmt.Errorf("cache: tokens: %w", err)
	}
	keys, err := newRistretto[uint64, *Key](cfg.Memory/16, keyBytes, nil)
	if err != nil {
		return nil, fmt.Errorf("cache: keys: %w", err)
	}
	userKeys, err := newRistretto[uint64, *UserKey](cfg.Memory/8, keyBytes, nil)
	if err != nil {
		return nil, fmt.Errorf("cache: user keys: %w", err)
	}
	grants, err := newRistretto[uint64, *grant](cfg.Memory*5/16, grantBytes, nil)
	if err != nil {
		return nil, fmt.Errorf("cache: grants: %w", err)
	}
	c := newCache(cfg, tokens, keys, userKeys, grants)
	c.metrics.size("token", tokens.Metrics)
	c.metrics.size("key", keys.Metrics)
	c.metrics.size("user_key", userKeys.Metrics)
	c.metrics.size("grant", grants.Metrics)
	c.close = []func(){tokens.Close, keys.Close, userKeys.Close, grants.Close}
	return c, nil
}

// newCache wires a Cache over any four caches.
func newCache(cfg Config, tokens kv[[]byte, *Token], keys kv[uint64, *Key], userKeys kv[uint64, *UserKey], grants kv[uint64, *grant]) *Cache {
	id := make([]byte, 16)
	rand.Read(id)
	c := &Cache{
		cfg: cfg, clock: cfg.Clock, sidecar: hex.EncodeToString(id), log: cfg.Logger,
		policy:  cfg.Policy,
		syncing: make(chan struct{}, 1),
		tokens:  tokens, keys: keys, userKeys: userKeys, grants: grants,
		uses: make(chan store.KeyUse, 1024),
		acks: make(chan struct{}, 1),
	}
	gate := make(chan struct{}, cfg.MaxLoads)
	c.keyLoads = newFlights(c.loadKey, gate, cfg.Budget, c.loadPanicked)
	c.userKeyLoads = newFlights(c.loadUserKey, gate, cfg.Budget, c.loadPanicked)
	c.grantLoads = newFlights(c.loadGrant, gate, cfg.Budget, c.loadPanicked)
	c.roleLoads = newFlights(c.loadRoles, gate, max(cfg.Budget, roleLoadTime), c.loadPanicked)
	c.roleLoads.landed = c.landRoles
	c.metrics = newMetrics(cfg.Registerer, c)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Now reads the clock that the cache goes by. A check reads it once.
func (c *Cache) Now() Instant { return c.clock() }

// Snapshot returns the current snapshot by one atomic load: nil before the first
// load has succeeded.
func (c *Cache) Snapshot() *Snapshot { return c.snapshot.Load() }

// Applied is the newest revision whose effects every check that starts from now
// on sees. 0 before the first load.
func (c *Cache) Applied() int64 { return c.applied.Load() }

// Sidecar is the id under which this process reports to the store.
func (c *Cache) Sidecar() string { return c.sidecar }

// SetPolicy swaps the compiled rules; checks under way keep the rules that they
// began with.
func (c *Cache) SetPolicy(p *policy.Policy) {
	c.swapMu.Lock()
	defer c.swapMu.Unlock()
	c.policy = p
	if s := c.snapshot.Load(); s != nil {
		next := *s
		next.setPolicy(p)
		c.snapshot.Store(&next)
	}
}

// swap replaces the snapshot by what change makes of it. change must be quick and
// do no I/O; it is not called before the first load.
func (c *Cache) swap(change func(*Snapshot) *Snapshot) {
	c.swapMu.Lock()
	defer c.swapMu.Unlock()
	if s := c.snapshot.Load(); s != nil {
		c.snapshot.Store(change(s))
	}
}

func (c *Cache) currentHistory() *history {
	if s := c.snapshot.Load(); s != nil {
		return s.hist
	}
	return nil
}

// Fresh says whether the cache may answer at now: ReasonOK, ReasonNoSnapshot, or
// ReasonStale once the store was last heard from longer ago than MaxStaleness.
// Where the wall clock and the monotonic one parted by 5 s since then (a suspended
// machine, a clock that was set), it hears from the store first.
func (c *Cache) Fresh(now Instant) policy.Reason {
	word := c.word.Load()
	if word == nil {
		return policy.ReasonNoSnapshot
	}
	if drifted(*word, now) {
		ctx, cancel := context.WithTimeout(context.Background(), c.remaining(now))
		defer cancel()
		if c.hear(ctx) != nil {
			return policy.ReasonStale
		}
		// The word is newer than now, but the clocks may have parted since it too.
		if word = c.word.Load(); drifted(*word, c.clock()) {
			return policy.ReasonStale
		}
		return policy.ReasonOK
	}
	if now.Mono-word.Mono > int64(c.cfg.MaxStaleness) {
		return policy.ReasonStale
	}
	return policy.ReasonOK
}

// Run keeps the cache fresh until ctx ends, then reports what is left and that
// this sidecar stopped. It returns nil after that. Run it once.
func (c *Cache) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.follow(ctx) })
	if !c.cfg.Silent {
		g.Go(func() error { return c.report(ctx) })
	}
	return g.Wait()
}

// Close frees the caches' own goroutines. No check may run after it.
func (c *Cache) Close() {
	for _, f := range c.close {
		f()
	}
}

// loadPanicked counts and logs a load that panicked.
func (c *Cache) loadPanicked(value any) {
	c.metrics.loadErrors.WithLabelValues("panic").Inc()
	c.log.Error("panic in a load", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
}

// loadFailed counts and logs a failed load and returns its error.
func (c *Cache) loadFailed(kind string, err error) error {
	c.metrics.loadErrors.WithLabelValues(kind).Inc()
	if errors.Is(err, store.ErrUnreadable) {
		return err // the store has told of it, and does not tell of each check that meets it
	}
	c.log.Warn("load failed", "kind", kind, "error", err)
	return err
}
