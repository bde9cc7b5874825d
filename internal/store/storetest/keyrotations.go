package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
)

func rotationOf(tenant store.TenantID, presented, next, try string, overlap time.Duration) store.KeyRotation {
	return store.KeyRotation{
		Tenant: tenant, Name: "ci", Presented: digestOf(presented), New: keyOf(tenant, "ci", next), Overlap: overlap,
		ReplayID: digestOf(try), Reply: "sealed " + next, ReplayUntil: inMicroseconds(time.Now().Add(10 * time.Minute)),
	}
}

func (k *kit) rotateKey(r store.KeyRotation) store.Result {
	k.Helper()
	_, result, err := k.RotateKey(k.ctx, k.by, r)
	return k.done(result, err)
}

func testKeyRotations(t *testing.T, h Harness) {
	keyChange := func(k *kit, secret string, gone bool) store.Change {
		return store.Change{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf(secret), Gone: gone}
	}
	t.Run("without an overlap the former secrets end at once", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "ci", "one")
		k.newKey(k.tenant, "other", "theirs")
		before := k.head()
		rotation := rotationOf(k.tenant, "one", "two", "try", 0)
		rotation.New.Scopes = []store.Scope{store.ScopeTokens}
		made, r, err := k.RotateKey(k.ctx, k.by, rotation)
		k.done(r, err)
		if made.Digest != digestOf("two") || made.Name != "ci" || !slices.Equal(made.Scopes, rotation.New.Scopes) {
			t.Errorf("made %+v", made)
		}
		k.wantWritten(before, r, keyChange(k, "two", false), keyChange(k, "one", true))
		if k.key("one").Revoked.IsZero() || !k.key("two").Revoked.IsZero() || !k.key("theirs").Revoked.IsZero() {
			t.Errorf("former %+v, next %+v, another's %+v", k.key("one"), k.key("two"), k.key("theirs"))
		}
		entries, _ := k.audit(k.tenant)
		if e := entries[0]; e.Action != store.ActionRotateKey || e.Resource != "client_key/ci" || e.Before == "" || e.After == "" || e.Revision != r.Revision.Number {
			t.Errorf("audit row %+v", e)
		}
		tenant, sealed, err := k.second().Replay(k.ctx, digestOf("try"))
		if err != nil || tenant != k.tenant || sealed != "sealed two" {
			t.Errorf("replay %q of tenant %d, error %v", sealed, tenant, err)
		}
	})

	t.Run("with an overlap they go on, never for longer than they would have", func(t *testing.T) {
		k := newKit(t, h)
		soon := keyOf(k.tenant, "ci", "soon")
		soon.Expires = inMicroseconds(time.Now().Add(10 * time.Minute))
		_, r, err := k.CreateKey(k.ctx, k.by, soon)
		k.done(r, err)
		k.newKey(k.tenant, "ci", "one")
		from := time.Now()
		k.rotateKey(rotationOf(k.tenant, "one", "two", "try", time.Hour))
		if got := k.key("one"); !got.Revoked.IsZero() || !about(got.Expires, from.Add(time.Hour), time.Now().Add(time.Hour)) {
			t.Errorf("former %+v, want it to expire in an hour", got)
		}
		if got := k.key("soon"); !got.Revoked.IsZero() || !got.Expires.Equal(soon.Expires) {
			t.Errorf("former %+v, want it to expire at %v as before", got, soon.Expires)
		}
		_, r, err = k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		k.done(r, err)
		for _, secret := range []string{"soon", "one", "two"} {
			if k.key(secret).Revoked.IsZero() {
				t.Errorf("%q goes on after all were revoked", secret)
			}
		}
	})

	t.Run("only a live secret of the client asks", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.newKey(k.tenant, "ci", "one")
		k.newKey(k.tenant, "other", "theirs")
		k.newKey(acme, "ci", "acme's")
		expired := keyOf(k.tenant, "ci", "expired")
		expired.Expires = inMicroseconds(time.Now().Add(-time.Hour))
		_, r, err := k.CreateKey(k.ctx, k.by, expired)
		k.done(r, err)
		k.rotateKey(rotationOf(k.tenant, "one", "two", "first", 0))
		before, rows := k.head(), k.allAudit(acme)
		for _, c := range []struct {
			presented, next, try string
			want                 error
		}{
			{"never", "new", "try", store.ErrNotFound}, {"theirs", "new", "try", store.ErrNotFound}, {"acme's", "new", "try", store.ErrNotFound},
			{"expired", "new", "try", store.ErrNotFound}, {"one", "new", "try", store.ErrNotFound},
			{"two", "new", "first", store.ErrExists}, {"one", "two", "first", store.ErrExists}, {"two", "theirs", "try", store.ErrExists},
		} {
			_, _, err := k.RotateKey(k.ctx, k.by, rotationOf(k.tenant, c.presented, c.next, c.try, time.Hour))
			k.wantErr(err, c.want)
		}
		_, _, err = k.Replay(k.ctx, digestOf("try"))
		k.wantErr(err, store.ErrNotFound)
		if k.head() != before || k.allAudit(acme) != rows || k.key("new") != nil || !k.key("two").Expires.IsZero() {
			t.Errorf("refusals left something behind: head %v after %v, %+v", k.head(), before, k.key("two"))
		}
	})

	t.Run("a reply past its time is told, until it is pruned", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "ci", "one")
		for i, past := range []time.Duration{time.Hour, 25 * time.Hour} {
			r := rotationOf(k.tenant, []string{"one", "two"}[i], []string{"two", "three"}[i], []string{"lately", "long ago"}[i], time.Hour)
			r.ReplayUntil = inMicroseconds(time.Now().Add(-past))
			k.rotateKey(r)
		}
		head := k.head()
		for _, want := range []error{store.ErrExpired, store.ErrNotFound} {
			_, _, err := k.Replay(k.ctx, digestOf("lately"))
			k.wantErr(err, store.ErrExpired)
			_, _, err = k.Replay(k.ctx, digestOf("long ago"))
			k.wantErr(err, want)
			if err := k.PruneReplays(k.ctx); err != nil {
				t.Fatal(err)
			}
		}
		if k.head() != head {
			t.Error("pruning took a revision")
		}
	})

	t.Run("two processes with one secret: one rotates", func(t *testing.T) {
		k := newKit(t, h)
		second := k.second()
		k.newKey(k.tenant, "ci", "one")
		errs := make(chan error, 2)
		for next, on := range map[string]*kit{"two": k, "three": second} {
			go func() {
				_, _, err := on.RotateKey(on.ctx, on.by, rotationOf(on.tenant, "one", next, "one try", 0))
				errs <- err
			}()
		}
		one, other := <-errs, <-errs
		if one != nil {
			one, other = other, one
		}
		if one != nil || !errors.Is(other, store.ErrExists) {
			t.Fatalf("errors %v and %v: want one that rotates, and store.ErrExists", one, other)
		}
		if a, b := k.key("two"), k.key("three"); (a == nil) == (b == nil) {
			t.Errorf("keys %+v and %+v: want one", a, b)
		}
	})
}
