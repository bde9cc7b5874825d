package storetest

import (
	"fmt"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
)

// testKeyIDs: no key is given an id that another one has or had, however many are made
// at one moment and wherever the clock stands. Ids are made of the moment.
func testKeyIDs(t *testing.T, h Harness) {
	if h.OpenAt == nil {
		return
	}
	for _, c := range []struct {
		name string
		then time.Duration // what the clock does after the first keys were made
	}{{"a clock that stands", 0}, {"a clock that is set back by an hour", -time.Hour}, {"a clock that is set back by years", -10 * 365 * 24 * time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			masters, now := newMasters(t), time.Now()
			k := kitOn(t, h, h.OpenAt(t, masters, func() time.Time { return now }), sealing.ChainKeys{Encryption: masters})
			k.rotate(store.RotateEnable, 100, k.alone)
			highest := int64(0)
			// fresh ends the test unless so many keys are there that were not, each above
			// all that were.
			fresh := func(when string, want int64) {
				t.Helper()
				if made := h.Count(t, k.Store, fmt.Sprintf("SELECT count(*) FROM encryption_keys WHERE id > %d", highest)); made != want {
					t.Fatalf("%s: %d new keys above %d, want %d", when, made, highest, want)
				}
				highest = h.Count(t, k.Store, "SELECT max(id) FROM encryption_keys")
			}
			fresh("enabled", 2)
			now = now.Add(c.then)
			k.newTenant("acme")
			fresh("a tenant", 1)
			k.importing(store.ImportBatch{Tenants: []store.ImportTenant{
				{Tenant: store.NewTenant{Name: "one"}, Key: keyOf(0, "ci", "one")},
				{Tenant: store.NewTenant{Name: "two"}, Key: keyOf(0, "ci", "two")},
			}}, "at 1", true)
			fresh("two tenants in one write", 2)
			k.furnish(k.tenant)
			look := k.look(k.tenant)
			second := k.second()
			second.wantLook("for another process", k.tenant, look)
			for range 2 {
				k.rotate(store.RotateDeep, 100, k.alone)
				fresh("a deep rotation", 5)
				k.wantAllUnder(k.tenant, k.keyOf(k.tenant))
				second.wantLook("for a process that knows the former keys", k.tenant, look)
			}
		})
	}
}
