package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// syncTimeout bounds one read of the feed; a full load may take longer.
const (
	syncTimeout = 10 * time.Second
	loadTimeout = 2 * time.Minute
)

// follow applies what the feed brings until ctx ends.
func (c *Cache) follow(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		if err := c.hear(ctx); err != nil && ctx.Err() == nil {
			failures++
			c.metrics.feedErrors.Inc()
			if failures == 1 {
				c.log.Error("no word from the store", "error", err)
			}
			sleep(ctx, backoff(failures))
			continue
		}
		if failures > 0 {
			c.log.Info("the store answers again", "after_failures", failures)
			failures = 0
		}
		wait, cancel := context.WithTimeout(ctx, jitter(c.cfg.Poll))
		if err := c.cfg.Feed.Wait(wait); err != nil && wait.Err() == nil {
			// Without a wake-up there is still the poll.
			c.log.Warn("feed: wait", "error", err)
			<-wait.Done()
		}
		cancel()
	}
	return nil
}

// backoff is 50 ms doubled for each failure in a row, at most 2 s, jittered.
func backoff(failures int) time.Duration {
	return jitter(min(2*time.Second, 50*time.Millisecond<<min(failures-1, 10)))
}

// jitter spreads d by a quarter to either side.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// CatchUp returns when the snapshot is at the revision or past it, or when a sync
// that began after this call has found the store to be behind it (a restored
// backup). Concurrent callers share one sync.
func (c *Cache) CatchUp(ctx context.Context, revision int64) error {
	if c.applied.Load() >= revision {
		return nil
	}
	return c.hear(ctx)
}

// hear returns when a sync that began after this call has succeeded.
func (c *Cache) hear(ctx context.Context) error {
	want := c.started.Load() + 1
	select {
	case c.syncing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.syncing }()
	if c.finished.Load() >= want {
		return nil
	}
	number := c.started.Add(1)
	if err := c.sync(ctx); err != nil {
		return err
	}
	c.finished.Store(number)
	return nil
}

// sync brings the snapshot to the store's newest revision. Only one runs at a
// time: the caller holds the syncing token.
func (c *Cache) sync(ctx context.Context) error {
	asked := c.clock()
	s := c.snapshot.Load()
	if s == nil {
		return c.loadAll(ctx, asked)
	}
	if asked.Wall < s.denied.since {
		c.log.Warn("the clock was put back, and entries of the deny-list had been dropped by it: loading in full")
		c.metrics.reloads.Inc()
		return c.loadAll(ctx, asked)
	}
	read, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	delta, err := c.cfg.Feed.Delta(read, s.Revision, s.held)
	if errors.Is(err, store.ErrRevisionUnknown) {
		c.log.Warn("the store's history is not the one this sidecar followed: loading in full",
			"revision", s.Revision.Number, "tag", s.Revision.Tag.String())
		c.metrics.reloads.Inc()
		return c.loadAll(ctx, asked)
	}
	if err != nil {
		return fmt.Errorf("read the change feed: %w", err)
	}
	c.heard.Store(delta.Head.Number)
	if delta.Head != s.Revision {
		c.apply(s.hist, s.keys, delta)
	}
	c.word.Store(&asked)
	c.sweep()
	return nil
}

// apply takes a delta into effect, in the order of DESIGN, "One write", 3: raise
// slots, swap the snapshot, publish the applied revision.
func (c *Cache) apply(h *history, keys *identity.Fingerprints, delta store.Delta) {
	var stale []store.TenantID // role tables that changed
	signing := c.signing.Load()
	for _, ch := range delta.Changes {
		switch ch.Kind {
		case store.ChangeGrant:
			h.raise(principalSlot(ch.Tenant, ch.Index), ch.Revision)
		case store.ChangeTenantGrants:
			h.raise(tenantSlot(ch.Tenant), ch.Revision)
		case store.ChangeRoles:
			h.raise(rolesSlot(ch.Tenant), ch.Revision)
			stale = append(stale, ch.Tenant)
		case store.ChangeKey:
			h.raise(keySlot(ch.Digest), ch.Revision)
			if ch.Gone {
				keys.Remove(ch.Digest)
			} else {
				keys.Add(ch.Digest)
			}
		case store.ChangeTenant:
			// The delta carries the tenant itself.
		case store.ChangeDenial:
			// The list is in the snapshot itself.
		}
	}
	for _, r := range delta.Passed {
		h.learn(r)
	}
	h.learn(delta.Head)
	tables := make(map[store.TenantID]*policy.RoleTable, len(delta.Roles))
	for _, t := range delta.Roles {
		tables[t.Tenant] = policy.NewRoleTable(t.Roles)
	}
	if slices.ContainsFunc(delta.Changes, func(ch store.Change) bool { return ch.Kind == store.ChangeSigning }) {
		signing = c.setSigning(delta.Signing)
	}
	c.swap(func(s *Snapshot) *Snapshot {
		// A table that was loaded on first use since the delta was asked for is not
		// in it, and goes if it changed.
		next := *s.withTenants(delta.Tenants, c.serves).withRoles(tables, stale)
		next.Revision, next.signing = delta.Head, signing
		next.denied = plantedDenials(c, s.denied, delta.Changes)
		return &next
	})
	c.publish(delta.Head.Number, delta.Ack)
}

// loadAll loads in full and starts a new history.
func (c *Cache) loadAll(ctx context.Context, asked Instant) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	if err := c.register(ctx); err != nil {
		return err
	}
	keys := identity.NewFingerprints()
	base, err := c.cfg.Store.Bootstrap(ctx, func(d store.Digest) error {
		keys.Add(d)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load from the store: %w", err)
	}
	c.heard.Store(base.Head.Number)
	c.sweeper = sweeper{last: asked.Mono}
	fresh := &Snapshot{
		Revision: base.Head,
		denied:   newDenials(base.Denied),
		hist:     plantedHistory(c.currentHistory(), newHistory(base.Head)),
		keys:     keys,
		byName:   newShardMap[string, *Tenant](nil),
		byID:     newShardMap[store.TenantID, *Tenant](nil),
		roles:    newShardMap[store.TenantID, *policy.RoleTable](nil),
	}
	fresh = fresh.withTenants(base.Tenants, c.serves)
	fresh.signing = c.setSigning(base.Signing)
	c.swapMu.Lock()
	fresh.setPolicy(c.policy)
	c.snapshot.Store(fresh)
	c.swapMu.Unlock()
	c.word.Store(&asked)
	c.publish(base.Head.Number, true)
	c.log.Info("loaded from the store", "revision", base.Head.Number, "tenants", fresh.Tenants(), "keys", keys.Len(), "denied", fresh.denied.marks.len())
	return nil
}

// publish says that every check from now on sees the revision.
func (c *Cache) publish(revision int64, ack bool) {
	c.applied.Store(revision)
	if ack {
		select {
		case c.acks <- struct{}{}:
		default:
		}
	}
}

// serves reports whether this sidecar serves the tenant.
func (c *Cache) serves(tenant string) bool {
	if len(c.cfg.Tenants) == 0 {
		return true
	}
	for _, t := range c.cfg.Tenants {
		if t == tenant {
			return true
		}
	}
	return false
}
