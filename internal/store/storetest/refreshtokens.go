package storetest

import (
	"errors"
	"testing"
	"time"

	"portcullis/internal/store"
)

func familyOf(tenant store.TenantID, n byte, expires time.Time) store.RefreshFamily {
	return store.RefreshFamily{Family: [16]byte{n}, Tenant: tenant, Client: "app", User: "alice", Scope: "read", Expires: expires}
}

func accessOf(jti string, expires time.Time) store.AccessToken {
	return store.AccessToken{Issuer: issuer, ID: jti, Expires: expires}
}

// accessMark is how the access token is denied.
func accessMark(tenant store.TenantID, a store.AccessToken) store.DenyMark {
	return store.DenyMark{Digest: store.DenyTokenDigest(tenant, a.Issuer, a.ID), Tenant: tenant, Expires: a.Expires.Add(store.TokenSkew).UnixNano()}
}

func (k *kit) startFamily(n byte, token string, access store.AccessToken) {
	k.Helper()
	k.done(k.StartFamily(k.ctx, k.by, familyOf(k.tenant, n, expiry), digestOf(token), access))
}

func (k *kit) useRefresh(token, next string, access store.AccessToken) (store.RefreshFamily, store.Result, error) {
	return k.UseRefresh(k.ctx, k.by, k.tenant, "app", digestOf(token), digestOf(next), access)
}

func (k *kit) refreshed(token, next string, access store.AccessToken) {
	k.Helper()
	_, r, err := k.useRefresh(token, next, access)
	k.done(r, err)
}

// refusedRefresh: the use is refused, and nothing is written.
func (k *kit) refusedRefresh(want error, tenant store.TenantID, client, token string) {
	k.Helper()
	before, rows := k.head(), k.allAudit(0)
	_, _, err := k.UseRefresh(k.ctx, k.by, tenant, client, digestOf(token), digestOf("next of "+token), accessOf("refused", expiry))
	k.wantErr(err, want)
	if k.head() != before || k.allAudit(0) != rows {
		k.Errorf("a use that was refused took the revision from %v to %v", before, k.head())
	}
}

func testRefreshTokens(t *testing.T, h Harness) {
	t.Run("a token is used once, and the next one lives", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		k.startFamily(1, "one", accessOf("a", expiry))
		f, r, err := k.useRefresh("one", "two", accessOf("b", expiry))
		k.done(r, err)
		if f.Family != ([16]byte{1}) || f.Tenant != k.tenant || f.Client != "app" || f.User != "alice" || f.Scope != "read" || !f.Expires.Equal(expiry) || !f.Revoked.IsZero() {
			t.Errorf("family %+v", f)
		}
		if changes := k.delta(before).Changes; len(changes) != 0 {
			t.Errorf("changes %v: the gate has nothing to hear of", changes)
		}
		for token, used := range map[string]bool{"one": true, "two": false} {
			got := must[store.RefreshToken](k)(k.Refresh(k.ctx, digestOf(token)))
			if got.Used.IsZero() == used || got.User != "alice" || got.Client != "app" || !got.Revoked.IsZero() {
				t.Errorf("token %q: %+v", token, got)
			}
		}
		k.wantDenied("in use")
	})

	t.Run("a second use kills the family and denies its live access tokens in one write", func(t *testing.T) {
		k := newKit(t, h)
		past := accessOf("past", inMicroseconds(time.Now().Add(-time.Hour)))
		b, c := accessOf("b", expiry), accessOf("c", expiry.Add(time.Hour))
		k.startFamily(1, "one", past)
		k.startFamily(2, "other", accessOf("other", expiry))
		k.refreshed("one", "two", b)
		k.refreshed("two", "three", c)
		before := k.head()
		_, r, err := k.useRefresh("one", "four", accessOf("d", expiry))
		k.wantErr(err, store.ErrReused)
		if k.head() != r.Revision || r.Revision.Number != before.Number+1 || r.Outcome != store.OutcomeDone {
			t.Errorf("result %+v, head %v after %v: the revocation is one write", r, k.head(), before)
		}
		changes := k.delta(before).Changes
		for _, m := range []store.DenyMark{accessMark(k.tenant, b), accessMark(k.tenant, c)} {
			want, found := denialChange(k.tenant, m), false
			want.Revision = r.Revision.Number
			for _, got := range changes {
				found = found || got == want
			}
			if !found {
				t.Errorf("changes %v lack %v", changes, want)
			}
		}
		if len(changes) != 2 {
			t.Errorf("changes %v, want two: what has expired needs no denial", changes)
		}
		entries, _ := k.audit(k.tenant)
		if e := entries[0]; e.Action != store.ActionRevokeToken || e.User != "alice" || e.Revision != r.Revision.Number {
			t.Errorf("audit row %+v", e)
		}
		// In every process, for each token of the family, and for no other family.
		for _, on := range []*kit{k, k.second()} {
			on.wantDenied("reused", accessMark(k.tenant, b), accessMark(k.tenant, c))
			for _, token := range []string{"one", "two", "three"} {
				on.refusedRefresh(store.ErrRevoked, k.tenant, "app", token)
			}
		}
		_, err = k.Refresh(k.ctx, digestOf("four"))
		k.wantErr(err, store.ErrNotFound)
		k.refreshed("other", "other two", accessOf("e", expiry))
	})

	t.Run("another's token is as good as none", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.startFamily(1, "one", accessOf("a", expiry))
		k.refusedRefresh(store.ErrNotFound, k.tenant, "other", "one")
		k.refusedRefresh(store.ErrNotFound, acme, "app", "one")
		k.refusedRefresh(store.ErrNotFound, k.tenant, "app", "never")
		k.refreshed("one", "two", accessOf("b", expiry))
		// Nor does another one's hand kill the family with a token that was used.
		k.refusedRefresh(store.ErrNotFound, k.tenant, "other", "one")
		for _, by := range []struct {
			tenant store.TenantID
			client string
		}{{k.tenant, "other"}, {acme, "app"}} {
			_, err := k.RevokeRefresh(k.ctx, k.by, by.tenant, by.client, digestOf("two"))
			k.wantErr(err, store.ErrNotFound)
		}
		k.refreshed("two", "three", accessOf("c", expiry))
	})

	t.Run("an expired family is refused, and pruned without a revision", func(t *testing.T) {
		k := newKit(t, h)
		k.done(k.StartFamily(k.ctx, k.by, familyOf(k.tenant, 1, inMicroseconds(time.Now().Add(-time.Minute))), digestOf("old"), accessOf("a", expiry)))
		k.startFamily(2, "one", accessOf("b", expiry))
		k.refusedRefresh(store.ErrExpired, k.tenant, "app", "old")
		head := k.head()
		if err := k.PruneRefresh(k.ctx); err != nil {
			t.Fatal(err)
		}
		if k.head() != head {
			t.Error("pruning took a revision")
		}
		_, err := k.Refresh(k.ctx, digestOf("old"))
		k.wantErr(err, store.ErrNotFound)
		if n := h.Count(t, k.Store, "SELECT count(*) FROM refresh_tokens"); n != 1 {
			t.Errorf("%d tokens after pruning, want 1", n)
		}
		k.refreshed("one", "two", accessOf("c", expiry))
	})

	t.Run("revoking denies, and twice changes nothing", func(t *testing.T) {
		k := newKit(t, h)
		a := accessOf("a", expiry)
		k.startFamily(1, "one", a)
		before := k.head()
		r := k.done(k.RevokeRefresh(k.ctx, k.by, k.tenant, "app", digestOf("one")))
		k.wantWritten(before, r, denialChange(k.tenant, accessMark(k.tenant, a)))
		before = k.head()
		r, err := k.RevokeRefresh(k.ctx, k.by, k.tenant, "app", digestOf("one"))
		if err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("again: outcome %q, error %v", r.Outcome, err)
		}
		k.wantWritten(before, r)
		if got := must[store.RefreshToken](k)(k.Refresh(k.ctx, digestOf("one"))); got.Revoked.IsZero() {
			t.Errorf("token %+v is not revoked", got)
		}
		k.refusedRefresh(store.ErrRevoked, k.tenant, "app", "one")
	})

	t.Run("two processes with one token: one wins, the other kills the family", func(t *testing.T) {
		for range 10 {
			k := newKit(t, h)
			second := k.second()
			k.startFamily(1, "one", accessOf("a", expiry))
			start, errs := make(chan struct{}), make(chan error, 2)
			for next, on := range map[string]*kit{"two": k, "three": second} {
				go func() {
					<-start
					_, _, err := on.useRefresh("one", next, accessOf("of "+next, expiry))
					errs <- err
				}()
			}
			close(start)
			one, other := <-errs, <-errs
			if one != nil {
				one, other = other, one
			}
			if one != nil || !errors.Is(other, store.ErrReused) {
				t.Fatalf("errors %v and %v: want one that wins, and store.ErrReused", one, other)
			}
			if got := must[store.RefreshToken](k)(k.Refresh(k.ctx, digestOf("one"))); got.Revoked.IsZero() {
				t.Error("the family lives on")
			}
			if n := len(k.base().Denied); n != 2 {
				t.Errorf("%d denied, want the first access token and the winner's", n)
			}
		}
	})
}
