package cache

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// The list agrees with a plain map, whatever is added, changed and taken away, and
// knows which tenants have marks of subjects.
func TestDenialsAgreeWithAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	list, naive := newDenials(nil), map[store.Digest]denial{}
	for range 2000 {
		var changes []store.Change
		for range r.IntN(4) {
			ch := store.Change{Kind: store.ChangeDenial, Tenant: store.TenantID(r.IntN(4)), Digest: store.Digest{byte(r.IntN(20))},
				Before: int64(r.IntN(2)), Expires: 100, Gone: r.IntN(3) == 0}
			changes = append(changes, ch)
			if ch.Gone {
				delete(naive, ch.Digest)
			} else {
				naive[ch.Digest] = denial{ch.Tenant, ch.Before, ch.Expires}
			}
		}
		before := list
		held := before.marks.len()
		list = list.changed(changes)
		if before.marks.len() != held {
			t.Fatal("a list that was handed out has changed")
		}
		if list.marks.len() != len(naive) || list.empty() != (len(naive) == 0) {
			t.Fatalf("%d marks, want %d", list.marks.len(), len(naive))
		}
		subjects := map[store.TenantID]bool{}
		for digest, m := range naive {
			if got, ok := list.get(digest, 99); !ok || got != m {
				t.Fatalf("%v: %+v, %v, want %+v", digest, got, ok, m)
			}
			if _, ok := list.get(digest, 100); ok {
				t.Fatal("a mark that has expired is one")
			}
			subjects[m.tenant] = subjects[m.tenant] || m.before != 0
		}
		for tenant := store.TenantID(1); tenant < 5; tenant++ {
			if got := list.marksSubjects(tenant); got != (subjects[tenant] || subjects[0]) {
				t.Fatalf("tenant %d has marks of subjects: %v, of %v", tenant, got, subjects)
			}
		}
	}
}

// A sweep looks at so many marks at most, and sweeps in a row at all of them.
func TestSweepsAreBoundedAndFindEverything(t *testing.T) {
	const expired, alive = 50_000, 10_000
	marks := make([]store.DenyMark, expired+alive)
	for i := range marks {
		binary.BigEndian.PutUint64(marks[i].Digest[:], uint64(i))
		if marks[i].Expires = 10; i >= expired {
			marks[i].Expires = 20
		}
	}
	list, at, left := newDenials(marks), 0, expired
	for n := 0; left > 0; n++ {
		if n > 1000 {
			t.Fatalf("%d expired marks are left after %d sweeps", left, n)
		}
		var gone int
		if list, gone, at = list.sweep(15, at); gone > sweptAtOnce {
			t.Fatalf("%d marks at once", gone)
		}
		left -= gone
	}
	if list.marks.len() != alive || list.since != 15 {
		t.Errorf("%d marks, whole since %d; want %d, since 15", list.marks.len(), list.since, alive)
	}
	few, gone, _ := newDenials(marks[:100]).sweep(15, 7)
	if gone != 100 || !few.empty() {
		t.Errorf("of a short list %d marks went, want all 100", gone)
	}
	if same, gone, _ := list.sweep(15, 0); gone != 0 || same.marks.shards != list.marks.shards {
		t.Error("a sweep that finds nothing has copied the list")
	}
}

// denying is a running cache whose tokens are the model's, and ann's token.
func denying(t *testing.T) (*fixture, *keyring, token) {
	t.Helper()
	f, ring := &fixture{world: furnished()}, newKeyring()
	f.world.setSigning("k0", true)
	base := SystemClock()
	c, err := New(Config{Store: f.world, Feed: f.world, Verifier: ring, Keys: ring, Silent: true, Clock: func() Instant {
		i := base()
		return Instant{Wall: i.Wall + int64(f.wall), Mono: i.Mono - int64(f.asleep)}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	f.cache = c
	f.sync(t)
	now := c.Now().Wall
	return f, ring, token{tenant: 1, kind: policy.KindUser, id: "ann", jti: "j0", kid: "k0", issued: now, expires: now + int64(time.Hour)}
}

func (f *fixture) sync(t *testing.T) {
	t.Helper()
	if err := f.cache.hear(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) asks(t *testing.T, ring *keyring, k token, wanted policy.Reason) {
	t.Helper()
	k.mint(ring)
	reason, _ := ask(f.cache, question{tenant: k.tenant, jwt: &k, permission: "edit"}, nil)
	want(t, reason, wanted)
}

// Marks that a clock which was ahead let go are loaded again before anything is
// answered by the clock that was put right.
func TestAClockThatWasAheadLosesNoDenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ring, k := denying(t)
		f.world.deny(denialName{kind: store.DenyToken, tenant: 1, value: "j0"}, 0, k.expires+int64(time.Minute))
		f.sync(t)
		f.asks(t, ring, k, policy.ReasonRevoked)
		f.wall = 24 * time.Hour
		pass(time.Duration(sweepEvery))
		f.sync(t)
		if n := f.cache.Snapshot().denied.marks.len(); n != 0 {
			t.Fatalf("%d marks are left: the sweep did not come", n)
		}
		// A check that read the clock before it went ahead is not told that nothing is denied.
		tok, reason := f.cache.Token([]byte(k.mint(ring)), f.cache.Now())
		want(t, reason, policy.ReasonExpired)
		s, now := f.cache.Snapshot(), f.cache.Now()
		tenant, _ := s.TenantByID(1)
		now.Wall -= int64(24 * time.Hour)
		if reason, end := f.cache.Denied(s, tenant, tok, now); end != Retake {
			t.Errorf("%v, %v; want Retake", reason, end)
		}
		f.wall = 0
		f.asks(t, ring, k, policy.ReasonRevoked)
		pass(time.Minute)
		f.asks(t, ring, k, policy.ReasonRevoked)
	})
}

// A mark stays for a while after it has expired, and then goes.
func TestExpiredMarksGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, _ := denying(t)
		f.world.deny(denialName{kind: store.DenyToken, tenant: 1, value: "j0"}, 0, f.cache.Now().Wall+int64(time.Minute))
		f.world.deny(denialName{kind: store.DenyToken, tenant: 1, value: "j1"}, 0, f.cache.Now().Wall+int64(time.Hour))
		for _, step := range []struct {
			after time.Duration
			left  int
		}{{0, 2}, {2 * time.Minute, 2}, {10 * time.Minute, 1}, {2 * time.Hour, 0}} {
			pass(step.after)
			f.sync(t)
			if n := f.cache.Snapshot().denied.marks.len(); n != step.left {
				t.Errorf("%v later: %d marks, want %d", step.after, n, step.left)
			}
		}
	})
}

// The store computes an index for a denied principal's tenant alone, and once for a
// token and a key of the tenant.
func TestIndexesForTheDenyList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ring, k := denying(t)
		d := &damaged{world: f.world}
		f.cache.cfg.Store = d
		denied := func(k token) {
			t.Helper()
			tok, reason := f.cache.Token([]byte(k.mint(ring)), f.cache.Now())
			want(t, reason, policy.ReasonOK)
			s := f.cache.Snapshot()
			tenant, _ := s.TenantByID(k.tenant)
			reason, end := f.cache.Denied(s, tenant, tok, f.cache.Now())
			if end != Found || reason != policy.ReasonOK {
				t.Fatalf("%v, %v", reason, end)
			}

			pass(time.Second) // ristretto takes a moment
		}
		costs := func(what string, indexes int, k token) {
			t.Helper()
			before := d.asked
			denied(k)
			denied(k)
			if got := d.asked - before; got != indexes {
				t.Errorf("%s: %d indexes were computed, want %d", what, got, indexes)
			}
		}
		costs("nothing is denied", 0, k)
		expires := k.expires + int64(time.Minute)
		f.world.deny(denialName{kind: store.DenyToken, tenant: 1, value: "another"}, 0, expires)
		f.sync(t)
		costs("tokens are denied", 0, k)
		f.world.deny(denialName{kind: store.DenySubject, tenant: 2, value: "bob", principal: policy.KindUser}, f.cache.Now().Wall, expires)
		f.sync(t)
		costs("somebody of another tenant is denied", 0, k)
		f.world.deny(denialName{kind: store.DenySubject, tenant: 1, value: "bob", principal: policy.KindUser}, f.cache.Now().Wall, expires)
		f.sync(t)
		costs("somebody of the tenant is denied", 1, k)
		f.world.beginKey(1, false)
		f.sync(t)
		costs("the tenant has another key", 1, k)
	})
}

// slowRing is a keyring that stops in SetKeys.
type slowRing struct {
	*keyring
	stop, enter chan struct{}
}

func (r *slowRing) SetKeys(keys []identity.PublicKey) error {
	err := r.keyring.SetKeys(keys)
	if r.stop != nil {
		r.enter <- struct{}{}
		<-r.stop
	}
	return err
}

// A withdrawn key verifies nothing once the revision is published, and a token that
// was judged by other keys than its snapshot's is judged again.
func TestSigningKeysChangeBeforeTheRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ring, k := denying(t)
		slow := &slowRing{keyring: ring, stop: make(chan struct{}), enter: make(chan struct{})}
		f.cache.cfg.Keys = slow
		tok, reason := f.cache.Token([]byte(k.mint(ring)), f.cache.Now())
		want(t, reason, policy.ReasonOK)
		s := f.cache.Snapshot()
		tenant, _ := s.TenantByID(1)
		release := sync.OnceFunc(func() { close(slow.stop) })
		defer release()
		f.world.setSigning("k0", false)
		go f.cache.hear(context.Background())
		<-slow.enter
		if f.cache.Applied() != s.Revision.Number || f.cache.Snapshot() != s {
			t.Error("the revision is out before its keys")
		}
		ended := make(chan Lookup, 1)
		go func() {
			_, end := f.cache.Denied(s, tenant, tok, f.cache.Now())
			ended <- end
		}()
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatalf("a check went on by keys that are not its snapshot's: %v", <-ended)
		}
		release()
		if end := <-ended; end != Retake {
			t.Errorf("it ended with %v, want Retake", end)
		}
		if s := f.cache.Snapshot(); s.Revision.Number != f.world.head().revision.Number {
			t.Errorf("it is to take the snapshot again, and that is still at %d", s.Revision.Number)
		}
		slow.stop = nil
		f.asks(t, ring, k, policy.ReasonInvalidToken)
		// A change of something else hands out nothing.
		given := ring.given
		f.world.addRole(1, "other")
		f.sync(t)
		if ring.given != given {
			t.Error("the keys were handed out without a change of theirs")
		}
	})
}
