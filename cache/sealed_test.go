package cache

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// damaged is a store in which some values do not open.
type damaged struct {
	*world
	grants, keys, userKeys, roles, indexes bool
	asked                                  int
}

func (d *damaged) open(broken bool) error {
	d.asked++
	if broken {
		return fmt.Errorf("memberships.principal_id of row 7 does not open: %w", store.ErrUnreadable)
	}
	return nil
}

func (d *damaged) Grant(ctx context.Context, t store.TenantID, kind policy.Kind, id string) (store.GrantRow, error) {
	if err := d.open(d.grants); err != nil {
		return store.GrantRow{}, err
	}
	return d.world.Grant(ctx, t, kind, id)
}

func (d *damaged) Key(ctx context.Context, digest store.Digest) (store.KeyRow, error) {
	if err := d.open(d.keys); err != nil {
		return store.KeyRow{}, err
	}
	return d.world.Key(ctx, digest)
}

func (d *damaged) UserKey(ctx context.Context, digest store.Digest) (store.UserKeyRow, error) {
	if err := d.open(d.userKeys); err != nil {
		return store.UserKeyRow{}, err
	}
	return d.world.UserKey(ctx, digest)
}

func (d *damaged) Roles(ctx context.Context, t store.TenantID) (store.TenantRoles, error) {
	if err := d.open(d.roles); err != nil {
		return store.TenantRoles{}, err
	}
	return d.world.Roles(ctx, t)
}

func (d *damaged) PrincipalIndex(ctx context.Context, t store.TenantID, key store.KeyID, kind policy.Kind, id string) (store.Index, error) {
	if err := d.open(d.indexes); err != nil {
		return store.Index{}, err
	}
	return d.world.PrincipalIndex(ctx, t, key, kind, id)
}

// furnished is a world in which user ann, by name or by API key, and client ci may
// edit.
func furnished() *world {
	w := newWorld()
	w.addRole(1, "editor")
	w.setPermission(1, "editor", "edit", true)
	w.setMember(1, policy.KindUser, "ann", "editor", true, 0, false)
	w.setMember(1, policy.KindClient, "ci", "editor", true, 0, false)
	w.newKey(1, "ci", store.Digest{1})
	w.newUserKey(1, "ann", store.Digest{2}, time.Time{})
	return w
}

// loadedFrom is a cache over the store, at the store's revision. Nothing keeps it
// fresh.
func loadedFrom(t *testing.T, s Source, f Feed) *Cache {
	t.Helper()
	c, err := New(Config{Store: s, Feed: f, Verifier: noTokens{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.hear(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// What does not open is a denial, and no fault, which a setting of Envoy's may let
// through. It is not kept: the row is read anew for each check.
func TestWhatDoesNotOpenIsDenied(t *testing.T) {
	byKey, byUserKey := store.Digest{1}, store.Digest{2}
	for name, try := range map[string]struct {
		damage func(*damaged, bool)
		q      question
	}{
		"a grant":            {func(d *damaged, on bool) { d.grants = on }, question{tenant: 1, user: "ann", permission: "edit"}},
		"a client's grant":   {func(d *damaged, on bool) { d.grants = on }, question{key: &byKey, permission: "edit"}},
		"a client key":       {func(d *damaged, on bool) { d.keys = on }, question{key: &byKey, permission: "edit"}},
		"a user's API key":   {func(d *damaged, on bool) { d.userKeys = on }, question{userKey: &byUserKey, permission: "edit"}},
		"a role table":       {func(d *damaged, on bool) { d.roles = on }, question{tenant: 1, user: "ann", permission: "edit"}},
		"the encryption key": {func(d *damaged, on bool) { d.indexes = on }, question{tenant: 1, user: "ann", permission: "edit"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &damaged{world: furnished()}
				c := loadedFrom(t, d, d)
				try.damage(d, true)
				for range 3 {
					before := d.asked
					reason, _ := ask(c, try.q, nil)
					want(t, reason, policy.ReasonInternal)
					if reason.Effect() != policy.Deny {
						t.Errorf("the effect is %v, want a denial", reason.Effect())
					}
					if d.asked == before {
						t.Error("it was answered from memory")
					}
					pass(time.Second)
				}
				try.damage(d, false)
				reason, _ := ask(c, try.q, nil)
				want(t, reason, policy.ReasonOK)
			})
		})
	}
}

// Damage done later is not seen by what is in memory, and is no harm to it.
func TestDamageDoesNotReachWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &damaged{world: furnished()}
		c := loadedFrom(t, d, d)
		q, holder := question{tenant: 1, user: "ann", permission: "edit"}, &Holder{}
		for range 3 { // ristretto takes a moment
			reason, _ := ask(c, q, holder)
			want(t, reason, policy.ReasonOK)
			pass(time.Second)
		}
		d.grants, d.roles, d.indexes = true, true, true
		reason, _ := ask(c, q, holder)
		want(t, reason, policy.ReasonOK)
		// A change of hers is a reason to read.
		d.setMember(1, policy.KindUser, "ann", "editor", true, 0, false)
		if err := c.hear(t.Context()); err != nil {
			t.Fatal(err)
		}
		reason, _ = ask(c, q, holder)
		want(t, reason, policy.ReasonInternal)
	})
}

// A snapshot that names a key which is out of use is behind the store: the check
// catches up and starts over, and is answered.
func TestAKeyThatIsGoneIsCaughtUpWith(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("an index is held: %v", held), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := furnished()
				w.beginKey(1, false)
				w.finishKey(1)
				c := loadedFrom(t, w, w)
				s, h := c.Snapshot(), &Holder{}
				tenant, _ := s.TenantByID(1)
				if held {
					if _, end := c.Grant(s, tenant, policy.KindUser, "ann", h, c.Now()); end != Found {
						t.Fatal(end)
					}
				}
				w.beginKey(1, false)
				w.finishKey(1)
				// Her other membership is logged under the new key alone.
				w.addRole(1, "viewer")
				w.setMember(1, policy.KindUser, "ann", "viewer", true, 0, false)
				if _, end := c.Grant(s, tenant, policy.KindUser, "bob", &Holder{}, c.Now()); end != Retake {
					t.Errorf("under the key that is gone: %v, want Retake", end)
				}
				if got := c.Applied(); got != w.head().revision.Number {
					t.Errorf("applied %d, the store is at %d", got, w.head().revision.Number)
				}
				s = c.Snapshot()
				tenant, _ = s.TenantByID(1)
				if tenant.Key != w.head().sealed[1].current {
					t.Errorf("the snapshot names key %d", tenant.Key)
				}
				got, end := c.Grant(s, tenant, policy.KindUser, "ann", h, c.Now())
				if end != Found || len(got.Roles) != 2 {
					t.Errorf("ann: %v, %v; want both her roles", got.Roles, end)
				}
				if index := h.held.Load(); index == nil || index.key != tenant.Key || index.index != w.head().index(1, policy.KindUser, "ann") {
					t.Errorf("held: %+v, want the index under key %d", index, tenant.Key)
				}
			})
		})
	}
	t.Run("as the gate asks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := furnished()
			w.beginKey(1, false)
			w.finishKey(1)
			c := loadedFrom(t, w, w)
			w.beginKey(1, false)
			w.finishKey(1)
			reason, _ := ask(c, question{tenant: 1, user: "ann", permission: "edit"}, &Holder{})
			want(t, reason, policy.ReasonOK)
			if w.gone != 1 {
				t.Errorf("%d indexes were asked for under the key that is gone, want 1", w.gone)
			}
		})
	})
	t.Run("where the feed is away, that is a fault of the store's", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := furnished()
			w.beginKey(1, false)
			c := loadedFrom(t, w, mute{w})
			w.finishKey(1)
			w.beginKey(1, false)
			w.finishKey(1)
			reason, _ := ask(c, question{tenant: 1, user: "ann", permission: "edit"}, &Holder{})
			want(t, reason, policy.ReasonStoreUnavailable)
		})
	})
}

// mute is a feed that tells nothing.
type mute struct{ Feed }

func (mute) Delta(context.Context, store.Revision, []store.TenantID) (store.Delta, error) {
	return store.Delta{}, errBroken
}

// colliding gives every principal one index.
type colliding struct{ *world }

func (colliding) PrincipalIndex(context.Context, store.TenantID, store.KeyID, policy.Kind, string) (store.Index, error) {
	return store.Index{1}, nil
}

// An index says where to look, and never who it is: principals whose indexes are
// equal have each their own grant, in memory and of loads that are shared.
func TestEqualIndexesShareNoGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i, holds := range []struct {
			kind policy.Kind
			id   string
		}{{policy.KindUser, "ann"}, {policy.KindUser, "bob"}, {policy.KindClient, "ann"}} {
			for n := range i + 1 {
				role := fmt.Sprintf("role %d", n)
				w.addRole(1, role)
				w.setMember(1, holds.kind, holds.id, role, true, 0, false)
			}
		}
		c := loadedFrom(t, colliding{w}, w)
		s := c.Snapshot()
		tenant, _ := s.TenantByID(1)
		roles := func(kind policy.Kind, id string, many int) {
			if got, end := c.Grant(s, tenant, kind, id, nil, c.Now()); end != Found || len(got.Roles) != many {
				t.Errorf("%v %s: %v, %v; want %d roles", kind, id, got.Roles, end, many)
			}
		}
		everybody := func() {
			go roles(policy.KindUser, "ann", 1)
			go roles(policy.KindUser, "bob", 2)
			go roles(policy.KindClient, "ann", 3)
			go roles(policy.KindWorkload, "ann", 0)
			synctest.Wait()
		}
		w.mu.Lock()
		w.holdLoads = 4
		w.mu.Unlock()
		everybody()
		for range 4 {
			w.release(0)
			synctest.Wait()
		}
		for range 3 {
			pass(time.Second)
			everybody()
		}
	})
}
