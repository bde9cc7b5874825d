package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// fixture is a running cache over the model's store, in a synctest bubble, with a
// wall clock that can be set and a monotonic one that can sleep.
type fixture struct {
	world        *world
	cache        *Cache
	wall, asleep time.Duration
}

func newFixture(t *testing.T, run bool) *fixture {
	t.Helper()
	f := &fixture{world: newWorld()}
	base := SystemClock()
	c, err := New(Config{
		Store: f.world, Feed: f.world, Verifier: noTokens{}, MaxStaleness: 30 * time.Second,
		Clock: func() Instant {
			i := base()
			return Instant{Wall: i.Wall + int64(f.wall), Mono: i.Mono - int64(f.asleep)}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.cache = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	if run {
		go func() { done <- c.Run(ctx) }()
	} else {
		done <- nil
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		c.Close()
	})
	synctest.Wait()
	return f
}

func (f *fixture) fresh() policy.Reason { return f.cache.Fresh(f.cache.Now()) }

// pass lets time pass, and waits for what it set off.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fixture) away(away bool) {
	f.world.mu.Lock()
	f.world.broken = away
	f.world.mu.Unlock()
}

func want(t *testing.T, got, want policy.Reason) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStaleness(t *testing.T) {
	t.Run("nothing is fresh before the first load", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, false)
			want(t, f.fresh(), policy.ReasonNoSnapshot)
		})
	})
	t.Run("a store that is away makes it stale past the bound, and its return mends that", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, true)
			want(t, f.fresh(), policy.ReasonOK)
			f.away(true)
			pass(25 * time.Second)
			want(t, f.fresh(), policy.ReasonOK)
			pass(10 * time.Second)
			want(t, f.fresh(), policy.ReasonStale)
			f.away(false)
			pass(5 * time.Second)
			want(t, f.fresh(), policy.ReasonOK)
		})
	})
	t.Run("a machine that slept hears from the store before it answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, true)
			f.world.addRole(1, "editor")
			pass(10 * time.Second)
			f.asleep += 10 * time.Second
			f.world.addRole(1, "viewer") // while it slept
			want(t, f.fresh(), policy.ReasonOK)
			if got := f.cache.Applied(); got != 3 {
				t.Errorf("answered at revision %d, the store is at 3", got)
			}
			f.wall += time.Hour
			f.away(true)
			want(t, f.fresh(), policy.ReasonStale)
		})
	})
}

func TestJunkKeysCostTheStoreNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true)
		f.world.newKey(1, "ci", store.Digest{1})
		pass(2 * time.Second)
		before := f.world.loads
		for i := range 1000 {
			junk := store.Digest{2, byte(i), byte(i >> 8)}
			if _, reason, end := f.cache.Key(f.cache.Snapshot(), junk, f.cache.Now()); end != Absent || reason != policy.ReasonBadKey {
				t.Fatalf("junk key: %v, %v", reason, end)
			}
		}
		if got := f.world.loads - before; got != 0 {
			t.Errorf("1000 junk keys cost %d loads", got)
		}
		if _, reason, end := f.cache.Key(f.cache.Snapshot(), store.Digest{1}, f.cache.Now()); end != Found || reason != policy.ReasonOK {
			t.Errorf("the live key: %v, %v", reason, end)
		}
	})
}

func TestOneLoadServesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true)
		f.world.addRole(1, "editor")
		f.world.setMember(1, policy.KindUser, "ann", "editor", true, 0, false)
		pass(2 * time.Second)
		f.world.mu.Lock()
		f.world.holdLoads, f.world.loads = 1, 0
		f.world.mu.Unlock()
		s := f.cache.Snapshot()
		tenant, _ := s.Tenant("default")
		for range 100 {
			go func() {
				if g, end := f.cache.Grant(s, tenant, policy.KindUser, "ann", nil, f.cache.Now()); end != Found || len(g.Roles) != 1 {
					t.Errorf("grant: %v, %v", g, end)
				}
			}()
		}
		synctest.Wait()
		f.world.release(0)
		synctest.Wait()
		if f.world.loads != 1 {
			t.Errorf("100 waiters cost %d loads", f.world.loads)
		}
	})
}

func TestLoadsAreBoundedAndShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true)
		f.world.mu.Lock()
		f.world.holdLoads = 64
		f.world.mu.Unlock()
		s := f.cache.Snapshot()
		tenant, _ := s.Tenant("default")
		ends := make(chan Lookup, 65)
		for i := range 65 {
			go func() {
				began := f.cache.Now()
				began.Mono -= int64(time.Millisecond) // a check does a little before it asks
				_, end := f.cache.Grant(s, tenant, policy.KindUser, string(rune('a'+i)), nil, began)
				ends <- end
			}()
			synctest.Wait()
		}
		pass(time.Second)
		counts := map[Lookup]int{}
		for range 65 {
			counts[<-ends]++
		}
		// The one whose load never began was shed: callers can bring that about, so it
		// must be a denial. The others asked a store that did not answer, a fault.
		if counts[Unavailable] != 64 || counts[Overloaded] != 1 {
			t.Errorf("ends: %v, want 64 of the store and 1 shed", counts)
		}
		for range 64 {
			f.world.release(0)
		}
		synctest.Wait()
	})
}

func TestTenantsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c, err := New(Config{Store: w, Feed: w, Verifier: noTokens{}, Tenants: []string{"acme"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.hear(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Snapshot().Tenant("acme"); !ok {
			t.Error("acme is not served")
		}
		if _, ok := c.Snapshot().Tenant("default"); ok {
			t.Error("default is served")
		}
	})
}

// panicStore panics where a grant is asked for.
type panicStore struct{ *world }

func (panicStore) Grant(context.Context, store.TenantID, policy.Kind, string) (store.GrantRow, error) {
	panic("planted")
}

func TestPanicInALoadIsADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c, err := New(Config{Store: panicStore{w}, Feed: w, Verifier: noTokens{}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.hear(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := c.Snapshot()
		tenant, _ := s.Tenant("default")
		for range 3 {
			_, end := c.Grant(s, tenant, policy.KindUser, "ann", nil, c.Now())
			want(t, end.Reason(policy.ReasonMissingPermission), policy.ReasonInternal)
		}
	})
}
