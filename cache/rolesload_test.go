package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"portcullis/internal/store"
)

// slowRoles takes longer to read a role table than one check may wait.
type slowRoles struct {
	*world
	takes time.Duration
}

func (s slowRoles) Roles(ctx context.Context, t store.TenantID) (store.TenantRoles, error) {
	select {
	case <-time.After(s.takes):
		return s.world.Roles(ctx, t)
	case <-ctx.Done():
		return store.TenantRoles{}, ctx.Err()
	}
}

// A table that takes longer than one check may wait is read all the same, for the
// checks after it: else a tenant with many roles would only ever have faults.
func TestLargeRoleTableIsLoadedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := slowRoles{newWorld(), 700 * time.Millisecond}
		c, err := New(Config{Store: w, Feed: w.world, Verifier: noTokens{}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.hear(context.Background()); err != nil {
			t.Fatal(err)
		}
		ask := func() Lookup {
			s := c.Snapshot()
			tenant, _ := s.Tenant("default")
			_, end := c.Roles(s, tenant, c.Now())
			return end
		}
		if end := ask(); end != Unavailable {
			t.Errorf("the first check ended with %v, want Unavailable", end)
		}
		time.Sleep(2 * time.Second) // and nobody asks meanwhile
		if end := ask(); end != Found {
			t.Errorf("the table was not loaded: %v", end)
		}
	})
}
