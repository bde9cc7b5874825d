package storetest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"portcullis/internal/store"
)

func testBootstrap(t *testing.T, h Harness) {
	k := newKit(t, h)
	acme := k.newTenant("acme")
	_, r, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "waiting"})
	k.done(r, err)
	k.newKey(k.tenant, "ci", "one")
	k.newKey(k.tenant, "ci", "two")
	k.newKey(acme, "ci", "three")
	k.newKey(k.tenant, "gone", "revoked")
	_, r, err = k.RevokeKeys(k.ctx, k.by, k.tenant, "gone")
	k.done(r, err)
	for secret, expires := range map[string]time.Duration{"past": -time.Hour, "future": time.Hour} {
		key := keyOf(k.tenant, "timed", secret)
		key.Expires = time.Now().Add(expires)
		_, r, err = k.CreateKey(k.ctx, k.by, key)
		k.done(r, err)
	}

	k.newUserKey(k.tenant, "alice", "hers")
	k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", k.newUserKey(k.tenant, "alice", "her former").ID))
	over := userKeyOf(k.tenant, "alice", "her expired")
	over.Expires = time.Now().Add(-time.Hour)
	_, r, err = k.CreateUserKey(k.ctx, k.by, over)
	k.done(r, err)

	t.Run("every tenant, and the keys that open something", func(t *testing.T) {
		got := make(map[store.Digest]int)
		base := must[store.Base](k)(k.Bootstrap(k.ctx, func(d store.Digest) error {
			got[d]++
			return nil
		}))
		want := make(map[store.Digest]int)
		for _, secret := range []string{"one", "two", "three", "future", "hers"} {
			want[digestOf(secret)] = 1
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("keys %v, want %v", got, want)
		}
		if base.Head != k.head() {
			t.Errorf("as at %v, head %v", base.Head, k.head())
		}
		if tenants := must[[]store.Tenant](k)(k.Tenants(k.ctx)); !reflect.DeepEqual(base.Tenants, tenants) {
			t.Errorf("tenants %v, want %v", base.Tenants, tenants)
		}
	})

	t.Run("an error from yield ends it", func(t *testing.T) {
		stop := errors.New("enough")
		calls := 0
		_, err := k.Bootstrap(k.ctx, func(store.Digest) error {
			calls++
			return stop
		})
		if k.wantErr(err, stop); calls != 1 {
			t.Errorf("yield was called %d times", calls)
		}
		k.head() // the store goes on
	})

	t.Run("yield may use the store, and sees one snapshot whatever is written", func(t *testing.T) {
		before, seen := k.head(), 0
		base := must[store.Base](k)(k.Bootstrap(k.ctx, func(d store.Digest) error {
			if seen++; seen == 1 {
				k.newKey(k.tenant, "during", "during")
				k.newTenant("during")
			}
			if d == digestOf("during") {
				t.Error("a key that was made during the load is in it")
			}
			return nil
		}))
		if base.Head != before || seen != 5 {
			t.Errorf("as at %v with %d keys, want %v with 5", base.Head, seen, before)
		}
		for _, tenant := range base.Tenants {
			if tenant.Name == "during" {
				t.Error("a tenant that was made during the load is in it")
			}
		}
		if got := len(k.delta(base.Head).Changes); got != 2 {
			t.Errorf("%d changes since, want the key and the tenant", got)
		}
	})
}
