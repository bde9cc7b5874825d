package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// aFamily is a family of refresh tokens whose first token and whose access token go by
// its number.
func (k *kit) aFamily(tenant store.TenantID, n byte, client, user string, begun time.Time) {
	k.Helper()
	f := familyOf(tenant, n, expiry)
	f.Client, f.User, f.Created = client, user, begun
	k.done(k.StartFamily(k.ctx, k.by, f, digestOf(fmt.Sprint("token ", n)), accessOf(fmt.Sprint("access ", n), expiry)))
}

// wantFamilies ends the test unless, of the families of aFamily, these and no others are
// revoked, in every process, and the access tokens of the same ones are denied.
func (k *kit) wantFamilies(when string, all int, revoked ...int) {
	k.Helper()
	denied := make(map[store.Digest]bool)
	for _, m := range k.base().Denied {
		denied[m.Digest] = true
	}
	for _, on := range []*kit{k, k.second()} {
		for n := 1; n <= all; n++ {
			token := must[store.RefreshToken](k)(on.Refresh(k.ctx, digestOf(fmt.Sprint("token ", n))))
			want := slices.Contains(revoked, n)
			if got := !token.Revoked.IsZero(); got != want {
				k.Errorf("%s: family %d is revoked: %v, want %v", when, n, got, want)
			}
			access := accessOf(fmt.Sprint("access ", n), expiry)
			if got := denied[store.DenyTokenDigest(token.Tenant, access.Issuer, access.ID)]; got != want {
				k.Errorf("%s: the access token of family %d is denied: %v, want %v", when, n, got, want)
			}
		}
	}
}

// deniedAccess are the changes that deny the access tokens of families.
func (k *kit) deniedAccess(families ...int) []store.Change {
	var changes []store.Change
	for _, n := range families {
		changes = append(changes, denialChange(k.tenant, accessMark(k.tenant, accessOf(fmt.Sprint("access ", n), expiry))))
	}
	return changes
}

// inTrail ends the test unless the newest row of the tenant is of the action, and its
// Before or Details say so much.
func (k *kit) inTrail(action store.Action, want string) {
	k.Helper()
	entries, _ := k.audit(k.tenant)
	if e := entries[0]; e.Action != action || !strings.Contains(e.Before+e.Details, want) {
		k.Errorf("the trail says %s: before %s, details %s; want %s in it", e.Action, e.Before, e.Details, want)
	}
}

// testFamiliesRevoked: refresh tokens end with the client that holds them, and with
// their user.
func testFamiliesRevoked(t *testing.T, h Harness) {
	now := inMicroseconds(time.Now())
	t.Run("with the client's secrets", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.newKey(k.tenant, "app", "one")
		k.aFamily(k.tenant, 1, "app", "alice", now)
		k.aFamily(k.tenant, 2, "other", "alice", now)
		k.aFamily(acme, 3, "app", "alice", now)
		k.aFamily(k.tenant, 4, "app", "bob", now)
		k.aFamily(k.tenant, 5, "APP", "bob", now)
		before := k.head()
		n, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "app")
		if k.done(r, err); n != 1 {
			t.Errorf("%d secrets revoked, want 1", n)
		}
		changes := append([]store.Change{{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("one"), Gone: true}}, k.deniedAccess(1, 4)...)
		k.wantWritten(before, r, append(changes, k.clientDenial(k.tenant, "app"))...)
		k.inTrail(store.ActionRevokeClientKey, `"refresh_families":2,"denied":2`)
		k.wantFamilies("its secrets are revoked", 5, 1, 4)
		// A new secret under the name brings none of them back.
		k.newKey(k.tenant, "app", "two")
		for _, token := range []string{"token 1", "token 4"} {
			k.refusedRefresh(store.ErrRevoked, k.tenant, "app", token)
		}
	})

	t.Run("of a client without secrets left", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "app", "one")
		_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "app")
		k.done(r, err)
		k.aFamily(k.tenant, 1, "app", "alice", now)
		for _, want := range []store.Outcome{store.OutcomeDone, store.OutcomeUnchanged} {
			n, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "app")
			if err != nil || n != 0 || r.Outcome != want {
				t.Errorf("%d secrets, outcome %q, error %v; want 0, %q", n, r.Outcome, err, want)
			}
			k.wantFamilies("revoked", 1, 1)
		}
	})

	t.Run("what has expired is revoked and denies nothing", func(t *testing.T) {
		// A clock that is set back must not bring it to life.
		k := newKit(t, h)
		k.newKey(k.tenant, "app", "one")
		past := inMicroseconds(time.Now().Add(-time.Hour))
		k.done(k.StartFamily(k.ctx, k.by, familyOf(k.tenant, 1, past), digestOf("old"), accessOf("old", past)))
		before := k.head()
		_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "app")
		k.done(r, err)
		k.wantWritten(before, r, store.Change{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("one"), Gone: true}, k.clientDenial(k.tenant, "app"))
		k.inTrail(store.ActionRevokeClientKey, `"refresh_families":1}`)
		k.refusedRefresh(store.ErrRevoked, k.tenant, "app", "old")
	})

	t.Run("not where a secret is replaced", func(t *testing.T) {
		for _, overlap := range []time.Duration{0, time.Hour} {
			k := newKit(t, h)
			k.newKey(k.tenant, "ci", "one")
			k.aFamily(k.tenant, 1, "ci", "alice", now)
			k.rotateKey(rotationOf(k.tenant, "one", "two", "try", overlap))
			k.done(k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "ci", "three"), overlap))
			k.wantFamilies("replaced", 1)
			_, r, err := k.UseRefresh(k.ctx, k.by, k.tenant, "ci", digestOf("token 1"), digestOf("next"), accessOf("next", expiry))
			k.done(r, err)
		}
	})

	t.Run("with their user", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		second := now.Truncate(time.Second)
		k.aFamily(k.tenant, 1, "app", "alice", now.Add(-time.Hour))
		k.aFamily(k.tenant, 2, "other", "alice", second.Add(999*time.Millisecond)) // its `iat` is the mark's second
		k.aFamily(k.tenant, 3, "app", "alice", second.Add(time.Second))
		k.aFamily(k.tenant, 4, "app", "bob", now.Add(-time.Hour))
		k.aFamily(acme, 5, "app", "alice", now.Add(-time.Hour))
		mark := denyUser(k.tenant, "alice", second, expiry)
		mark.Issuer = "https://another.example" // whoever vouched for her
		before := k.head()
		_, r, err := k.Deny(k.ctx, k.by, mark)
		k.done(r, err)
		k.wantWritten(before, r, append([]store.Change{denialChange(k.tenant, k.markOf(mark))}, k.deniedAccess(1, 2)...)...)
		k.inTrail(store.ActionDeny, `"refresh_families":2`)
		k.inTrail(store.ActionDeny, `"denied":2`)
		k.wantFamilies("she is denied", 5, 1, 2)
		k.refusedRefresh(store.ErrRevoked, k.tenant, "app", "token 1")

		// The entry is there: what is left to revoke is revoked all the same, up to the
		// time that it holds.
		k.aFamily(k.tenant, 6, "app", "alice", now.Add(-time.Minute))
		again := mark
		again.Before = mark.Before.Add(-time.Hour)
		before = k.head()
		_, r, err = k.Deny(k.ctx, k.by, again)
		k.done(r, err)
		k.wantWritten(before, r, k.deniedAccess(6)...)
		k.wantFamilies("denied again", 6, 1, 2, 6)
		before = k.head()
		_, r, err = k.Deny(k.ctx, k.by, again)
		if err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("once more: outcome %q, error %v", r.Outcome, err)
		}
		k.wantWritten(before, r)
		if entries, _ := k.audit(k.tenant); strings.Contains(entries[0].Details, "refresh_families") {
			t.Errorf("details %s, and none was left to revoke", entries[0].Details)
		}
	})

	t.Run("with no other entry of the deny-list", func(t *testing.T) {
		k := newKit(t, h)
		k.aFamily(k.tenant, 1, "alice", "alice", now.Add(-time.Hour))
		for _, kind := range []policy.Kind{policy.KindClient, policy.KindWorkload} {
			k.deny(store.NewDenial{Kind: store.DenySubject, Tenant: k.tenant, Value: "alice", Principal: kind, Before: now, Expires: expiry})
		}
		k.deny(denyToken(k.tenant, "alice", expiry))
		k.deny(denySigner("alice", expiry))
		k.wantFamilies("others are denied", 1)
	})

	t.Run("up to the last moment that a mark can name", func(t *testing.T) {
		k := newKit(t, h)
		k.aFamily(k.tenant, 1, "app", "alice", now)
		end := time.Unix(0, 1<<63-1)
		k.deny(denyUser(k.tenant, "alice", end, end))
		k.wantFamilies("denied for good", 1, 1)
	})

	t.Run("access tokens of one id are denied once", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "app", "one")
		k.startFamily(1, "a", accessOf("same", expiry.Add(-time.Hour)))
		k.startFamily(2, "b", accessOf("same", expiry))
		before := k.head()
		_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "app")
		k.done(r, err)
		k.wantWritten(before, r, store.Change{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("one"), Gone: true},
			denialChange(k.tenant, accessMark(k.tenant, accessOf("same", expiry))), k.clientDenial(k.tenant, "app"))
		k.inTrail(store.ActionRevokeClientKey, `"refresh_families":2,"denied":1`)
	})
}

// testFamiliesRotated: families end with their client or user in the middle of every
// kind of rotation, whichever key their rows are under.
func testFamiliesRotated(t *testing.T, h Harness) {
	begun := inMicroseconds(time.Now().Add(-time.Minute))
	ends := map[string]func(k *kit) (store.Result, error){
		"client": func(k *kit) (store.Result, error) {
			_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "app")
			return r, err
		},
		"user": func(k *kit) (store.Result, error) {
			_, r, err := k.Deny(k.ctx, k.by, denyUser(k.tenant, "alice", begun, expiry))
			return r, err
		},
	}
	for _, kind := range rotationKinds {
		for _, phase := range rotationPhases {
			for _, with := range slices.Sorted(maps.Keys(ends)) {
				t.Run(fmt.Sprintf("%s/%s/%s", kind, phase.name, with), func(t *testing.T) {
					t.Parallel()
					k := newKitFor(t, h, kind)
					k.newKey(k.tenant, "app", "one")
					for n := range byte(3) {
						k.aFamily(k.tenant, n+1, "app", "alice", begun)
					}
					k.aFamily(k.tenant, 4, "other", "bob", begun)
					second := k.second()
					second.look(k.tenant) // it knows the former keys alone
					k.done(k.BeginRotation(k.ctx, k.by, kind))
					k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
					phase.get(k)
					k.done(ends[with](second))
					k.wantFamilies("in the middle", 4, 1, 2, 3)
					k.resealAll(k.tenant, 100, k.alone)
					k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
					k.wantFamilies("at the end", 4, 1, 2, 3)
				})
			}
		}
	}
}
