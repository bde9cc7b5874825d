// Package rotation drives the encryption keys of a database through a change while
// checks and writes go on: other masters, new keys for every tenant, encryption
// turned on or off. Each step is one short transaction of the store; a run that
// was cut off, however hard, is taken up where it stood by another one.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"portcullis/internal/store"
)

// Store is what a rotation works on: these methods of store.Store.
type Store interface {
	store.Rotator
	Sidecars(ctx context.Context) ([]store.Sidecar, error)
}

// Config says what to do. Store is required, and Masters where anything is to be
// sealed; the other fields have the defaults that they name.
type Config struct {
	Store Store
	// Masters are the ids of the master keys that this process holds. Every live
	// sidecar must hold the first.
	Masters []string
	// Kind is what to do. 0 wraps the tenants' keys under the first master, and no
	// more.
	Kind store.RotationKind
	// By is who does it, for the audit. Default: the command line.
	By store.Actor
	// Batch is how many rows one transaction writes at the most; default 500. It writes
	// fewer where the database takes long: no other write gets in during a batch.
	Batch int
	// Pause is how long to leave the database to others between two batches: at
	// least this, and at least what the batch took. Default 30 ms, which is more
	// than SQLite's waiting writers take to look again.
	Pause time.Duration
	// Leave hears of each row that does not open; it is left as it is. Where Leave is
	// nil, such a row ends the run with an error.
	Leave func(error)
	// Progress hears how far the run has come, once before the first batch and after
	// each. It is called on the goroutine of Run.
	Progress func(Progress)
	Now      func() time.Time // default time.Now
	Logger   *slog.Logger     // hears of the steps; default: discards
}

// Progress is how far a run has come.
type Progress struct {
	Tenant  store.TenantID  // whose rows are being written; 0: those of no tenant
	Table   store.SealTable // that is being written; NumSealTables: the tenant is done
	Rows    int64           // written by this run
	Total   int64           // that were to be written when it began, and at least Rows
	Elapsed time.Duration   // since before the first batch
}

// Rate is the rows written in a second, 0 before the first batch.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Rows) / p.Elapsed.Seconds()
}

// Outcome is what a run did.
type Outcome struct {
	// Unchanged: what was asked for was so already.
	Unchanged bool
	Resumed   bool  // a rotation that had been cut off was taken up
	Rewrapped int64 // keys that were under another master
	Tenants   int   // that were finished, 0 for what belongs to no tenant included
	Rows      int64 // written
	Left      int64 // rows that do not open and were left as they are
	Took      time.Duration
	State     store.Encryption // afterwards
}

// ErrSidecar: a live sidecar does not hold the master key that rows are about to
// be sealed under. The text names it.
var ErrSidecar = errors.New("a live sidecar does not hold the new master key")

// grace is how long the step under way may take to finish once ctx has ended.
const grace = 10 * time.Second

// Run does what cfg says, and returns when it is done. Where ctx ends it stops
// after the batch under way, and the error, which is ctx's, says how it is
// resumed. The Outcome is what was done until then.
func Run(ctx context.Context, cfg Config) (Outcome, error) {
	r, err := newRun(cfg)
	if err != nil {
		return Outcome{}, err
	}
	steps, cancel := outlive(ctx, grace)
	defer cancel()
	r.ctx, r.steps = ctx, steps
	err = r.run()
	r.out.Took = r.cfg.Now().Sub(r.began)
	if state, stateErr := r.cfg.Store.Encryption(steps); err == nil {
		r.out.State, err = state, stateErr
	}
	return r.out, err
}

// outlive is a context that ends so long after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(out, func() { timer.Stop() })
	})
	return out, func() { stop(); cancel() }
}

// run is one Run.
type run struct {
	cfg   Config
	pace  pace
	ctx   context.Context // asked between steps whether to go on
	steps context.Context // what a step runs under
	began time.Time
	out   Outcome

	total    int64
	sealing  time.Time // before the first batch
	finished map[store.TenantID]bool
}

func newRun(cfg Config) (*run, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("rotation: Config.Store is nil")
	case cfg.Batch < 0 || cfg.Pause < 0:
		return nil, errors.New("rotation: Config.Batch or Config.Pause is negative")
	case cfg.Kind > store.RotateDisable:
		return nil, fmt.Errorf("rotation: Config.Kind %d is none", cfg.Kind)
	}
	if cfg.By.Name == "" {
		cfg.By.Name = "cli"
	}
	if cfg.Batch == 0 {
		cfg.Batch = 500
	}
	if cfg.Pause == 0 {
		cfg.Pause = 30 * time.Millisecond
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &run{cfg: cfg, pace: pace{batch: cfg.Batch, most: cfg.Batch}, began: cfg.Now(), finished: make(map[store.TenantID]bool)}, nil
}

func (r *run) run() error {
	state, err := r.cfg.Store.Encryption(r.steps)
	if err != nil {
		return fmt.Errorf("read the state of the encryption: %w", err)
	}
	if err := fits(r.cfg.Kind, state); err != nil {
		return err
	}
	if done(r.cfg.Kind, state) {
		r.out.Unchanged = true
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.cfg.Kind == 0 || r.cfg.Kind == store.RotateDeep {
		if err := r.rewrap(); err != nil {
			return err
		}
	}
	if r.cfg.Kind == 0 {
		r.out.Unchanged = r.out.Rewrapped == 0
		return nil
	}
	return r.rotate()
}

// fits says whether a run of the kind makes sense in the database's state.
func fits(kind store.RotationKind, state store.Encryption) error {
	switch {
	case !state.Enabled && (kind == 0 || kind == store.RotateDeep):
		return fmt.Errorf("%w: the database is in clear: `portcullis rotate encryption --enable` seals it", store.ErrEncryption)
	case kind != 0 && state.Rotation != 0 && state.Rotation != kind:
		return fmt.Errorf("%w: a rotation is under way that was not finished: run `portcullis rotate encryption --%s` first, which resumes it",
			store.ErrEncryption, state.Rotation)
	}
	return nil
}

// done says whether the database is so already.
func done(kind store.RotationKind, state store.Encryption) bool {
	return kind == store.RotateEnable && state.Enabled && state.Rotation == 0 ||
		kind == store.RotateDisable && !state.Enabled
}

func (r *run) rewrap() error {
	if err := r.checkSidecars(); err != nil {
		return err
	}
	n, _, err := r.cfg.Store.Rewrap(r.steps, r.cfg.By)
	if err != nil {
		return fmt.Errorf("wrap the keys anew: %w", err)
	}
	r.out.Rewrapped = n
	r.cfg.Logger.Info("encryption keys wrapped under the first master", "keys", n)
	return nil
}

// rotate takes every tenant through the rotation.
func (r *run) rotate() error {
	if err := r.checkSidecars(); err != nil {
		return err
	}
	result, err := r.cfg.Store.BeginRotation(r.steps, r.cfg.By, r.cfg.Kind)
	if err != nil {
		return fmt.Errorf("begin the rotation: %w", err)
	}
	r.out.Resumed = result.Outcome == store.OutcomeUnchanged
	r.cfg.Logger.Info("rotation of the encryption keys", "kind", r.cfg.Kind.String(), "resumed", r.out.Resumed)
	counts, err := r.cfg.Store.SealCounts(r.steps, r.cfg.Kind)
	if err != nil {
		return r.resumable("count the rows", err)
	}
	r.total, r.sealing = sum(counts), r.cfg.Now()
	for {
		tenants, err := r.cfg.Store.RotationTenants(r.steps, 100)
		if err != nil {
			return r.resumable("list the tenants", err)
		}
		if len(tenants) == 0 {
			break
		}
		for _, tenant := range tenants {
			if r.finished[tenant] {
				return r.resumable("", fmt.Errorf("tenant %d was finished and is not: is another rotation under way?", tenant))
			}
			if err := r.tenant(tenant); err != nil {
				return err
			}
		}
	}
	if _, err := r.cfg.Store.FinishRotation(r.steps, r.cfg.By); err != nil {
		return r.resumable("finish the rotation", err)
	}
	r.cfg.Logger.Info("rotation of the encryption keys finished", "kind", r.cfg.Kind.String(), "tenants", r.out.Tenants, "rows", r.out.Rows)
	return nil
}

// mostPasses bounds how often a tenant's rows are gone through: what is written
// meanwhile is under the new key, so that one pass is enough.
const mostPasses = 3

// tenant gives one tenant its new key and seals its rows under it.
func (r *run) tenant(tenant store.TenantID) error {
	if err := r.stopped(); err != nil {
		return err
	}
	if err := r.checkSidecars(); err != nil {
		return r.resumable("", err)
	}
	if _, err := r.cfg.Store.BeginTenant(r.steps, r.cfg.By, tenant); err != nil {
		return r.resumable(fmt.Sprintf("begin tenant %d", tenant), err)
	}
	for pass := 1; ; pass++ {
		if err := r.reseal(tenant); err != nil {
			return err
		}
		_, err := r.cfg.Store.FinishTenant(r.steps, r.cfg.By, tenant)
		if errors.Is(err, store.ErrEncryption) && pass < mostPasses {
			continue
		}
		if err != nil {
			return r.resumable(fmt.Sprintf("finish tenant %d", tenant), err)
		}
		break
	}
	r.out.Tenants++
	r.finished[tenant] = true
	r.progress(tenant, store.NumSealTables)
	r.cfg.Logger.Info("rotation of the encryption keys: tenant finished", "tenant_id", int64(tenant))
	return nil
}

// reseal goes through a tenant's rows in batches.
func (r *run) reseal(tenant store.TenantID) error {
	var leave func(error)
	var left int64
	if r.cfg.Leave != nil {
		leave = func(err error) {
			left++
			r.cfg.Leave(err)
		}
	}
	var cursor store.ResealCursor
	for {
		r.progress(tenant, cursor.Table)
		if err := r.stopped(); err != nil {
			return err
		}
		began := time.Now()
		left = 0
		next, rows, done, err := r.cfg.Store.Reseal(r.steps, tenant, cursor, r.pace.batch, leave)
		if err != nil {
			return r.resumable(fmt.Sprintf("seal the rows of tenant %d anew", tenant), err)
		}
		cursor = next
		r.out.Rows += rows
		r.out.Left += left
		if done {
			return nil
		}
		if rows > 0 {
			took := time.Since(began)
			r.pace.heed(took)
			r.pause(max(r.cfg.Pause, took))
		}
	}
}

func (r *run) progress(tenant store.TenantID, table store.SealTable) {
	r.cfg.Progress(Progress{
		Tenant: tenant, Table: table, Rows: r.out.Rows, Total: max(r.total, r.out.Rows), Elapsed: r.cfg.Now().Sub(r.sealing),
	})
}

// pause leaves the database to others, until ctx ends.
func (r *run) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

// stopped is an error where the run was asked to end.
func (r *run) stopped() error {
	if err := r.ctx.Err(); err != nil {
		return r.resumable("", err)
	}
	return nil
}

// resumable says of an error that the work done so far is not lost.
func (r *run) resumable(what string, err error) error {
	if what != "" {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if errors.Is(err, store.ErrUnreadable) {
		err = fmt.Errorf("%w; restore the row from a backup or take it away, or pass --leave-unreadable", err)
	}
	return fmt.Errorf("stopped after %d rows, and checks and writes go on: run `portcullis rotate encryption --%s` again, it goes on from there: %w",
		r.out.Rows, r.cfg.Kind, err)
}

func sum(counts [store.NumSealTables]int64) int64 {
	var total int64
	for _, n := range counts {
		total += n
	}
	return total
}
