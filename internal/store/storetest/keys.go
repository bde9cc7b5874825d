package storetest

import (
	"crypto/sha256"
	"reflect"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func digestOf(secret string) store.Digest { return sha256.Sum256([]byte(secret)) }

func keyOf(tenant store.TenantID, name, secret string) store.NewKey {
	return store.NewKey{
		Tenant: tenant,
		Name:   name,
		Digest: digestOf(secret),
		Prefix: (secret + "-prefix")[:8],
		Scopes: []store.Scope{store.ScopeManage, store.ScopeCheck},
	}
}

func testKeys(t *testing.T, h Harness) {
	t.Run("a key reads as it was made", func(t *testing.T) {
		k := newKit(t, h)
		from := time.Now()
		made := k.newKey(k.tenant, "ci", "one")
		if made.ID < 1 || made.Tenant != k.tenant || made.Name != "ci" || made.Digest != digestOf("one") || made.Prefix != "one-pref" ||
			!made.Expires.IsZero() || !made.Revoked.IsZero() || !made.LastUsed.IsZero() || !about(made.Created, from, time.Now()) {
			t.Errorf("made %+v", made)
		}
		// In the order of AllScopes, however they were given.
		if want := []store.Scope{store.ScopeCheck, store.ScopeManage}; !slices.Equal(made.Scopes, want) {
			t.Errorf("scopes %v, want %v", made.Scopes, want)
		}
		checkSameKey(k, k.key("one"), made)
		row := must[store.KeyRow](k)(k.Key(k.ctx, digestOf("one")))
		if row.Revision != k.head() {
			t.Errorf("key as at %v, head %v", row.Revision, k.head())
		}
		list := must[[]store.ClientKey](k)(k.KeyList(k.ctx, k.tenant))
		if len(list) != 1 {
			t.Fatalf("list %v", list)
		}
		checkSameKey(k, &list[0], made)
	})

	t.Run("scopes and expiry", func(t *testing.T) {
		k := newKit(t, h)
		for _, scopes := range [][]store.Scope{nil, {store.ScopeOperator}, store.AllScopes, store.DefaultScopes()} {
			key := keyOf(k.tenant, "ci", "scopes"+string(rune('a'+len(scopes))))
			key.Scopes, key.Expires = scopes, expiry
			made, _, err := k.CreateKey(k.ctx, k.by, key)
			must[store.ClientKey](k)(made, err)
			got := must[store.KeyRow](k)(k.Key(k.ctx, key.Digest)).Key
			if got == nil || !slices.Equal(got.Scopes, scopes) || !got.Expires.Equal(expiry) || !made.Expires.Equal(expiry) {
				t.Errorf("scopes %v until %v, got %+v", scopes, expiry, got)
			}
		}
	})

	t.Run("several live keys under one name; revoking the name revokes them all", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.newKey(k.tenant, "ci", "one")
		k.newKey(k.tenant, "ci", "two")
		k.newKey(k.tenant, "other", "three")
		k.newKey(acme, "ci", "four")
		old := keyOf(k.tenant, "ci", "old")
		old.Expires = time.Now().Add(-time.Hour)
		_, r, err := k.CreateKey(k.ctx, k.by, old)
		k.done(r, err)
		for _, tenant := range []store.TenantID{k.tenant, acme} {
			k.role(tenant, "deployer", "viewer")
			for _, role := range []string{"deployer", "viewer"} {
				k.done(k.AddMember(k.ctx, k.by, tenant, policy.KindClient, "ci", role, time.Time{}))
				k.done(k.AddMember(k.ctx, k.by, tenant, policy.KindUser, "ci", role, time.Time{}))
			}
		}
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindClient, "other", "viewer", time.Time{}))

		from := time.Now()
		n, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		k.done(r, err)
		if n < 2 || n > 3 { // the expired one may be counted or not
			t.Errorf("%d keys revoked, want the two live ones", n)
		}
		for _, secret := range []string{"one", "two"} {
			if key := k.key(secret); key == nil || !about(key.Revoked, from, time.Now()) {
				t.Errorf("%s after revocation: %+v", secret, key)
			}
		}
		if key := k.key("old"); key == nil || key.Revoked.IsZero() {
			t.Errorf("expired key after revocation: %+v: a clock that is set back must not open it", key)
		}
		for _, secret := range []string{"three", "four"} {
			if key := k.key(secret); key == nil || !key.Revoked.IsZero() {
				t.Errorf("%s was not meant: %+v", secret, key)
			}
		}
		if got := k.names(k.tenant, policy.KindClient, "ci"); len(got) != 0 {
			t.Errorf("the client still holds %v", got)
		}
		both := []string{"deployer", "viewer"}
		if got := k.names(k.tenant, policy.KindUser, "ci"); !slices.Equal(got, both) {
			t.Errorf("a user of the client's name holds %v, want %v", got, both)
		}
		if got := k.names(acme, policy.KindClient, "ci"); !slices.Equal(got, both) {
			t.Errorf("another tenant's client holds %v, want %v", got, both)
		}
		if got := k.names(k.tenant, policy.KindClient, "other"); len(got) != 1 {
			t.Errorf("another client holds %v", got)
		}

		// A new secret under the name begins with nothing.
		k.newKey(k.tenant, "ci", "five")
		if got := k.names(k.tenant, policy.KindClient, "ci"); len(got) != 0 {
			t.Errorf("a new key brought back %v", got)
		}
		n, r, err = k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		k.done(r, err)
		if n != 1 {
			t.Errorf("%d keys revoked, want the new one alone", n)
		}
		if first := k.key("one"); first.Revoked.After(k.key("five").Revoked) {
			t.Errorf("revoking again moved the first revocation to %v", first.Revoked)
		}
	})

	t.Run("a client without keys left keeps no membership", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "ci", "one")
		_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		k.done(r, err)
		k.role(k.tenant, "viewer")
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindClient, "ci", "viewer", time.Time{}))
		n, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		if k.done(r, err); n != 0 {
			t.Errorf("%d keys revoked, want 0", n)
		}
		if got := k.names(k.tenant, policy.KindClient, "ci"); len(got) != 0 {
			t.Errorf("the client still holds %v", got)
		}
	})

	t.Run("the list is by name, then by age, and of one tenant", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		for _, key := range []struct{ name, secret string }{{"b", "one"}, {"a", "two"}, {"B", "three"}, {"b", "four"}, {"a-", "five"}} {
			k.newKey(k.tenant, key.name, key.secret)
		}
		k.newKey(acme, "a", "six")
		var got []string
		for _, key := range must[[]store.ClientKey](k)(k.KeyList(k.ctx, k.tenant)) {
			got = append(got, key.Name+" "+key.Prefix)
		}
		want := []string{"B three-pr", "a two-pref", "a- five-pre", "b one-pref", "b four-pre"}
		if !slices.Equal(got, want) {
			t.Errorf("list %q, want %q", got, want)
		}
	})
}

func checkSameKey(k *kit, got *store.ClientKey, want store.ClientKey) {
	k.Helper()
	if got == nil {
		k.Fatalf("no key, want %+v", want)
	}
	same := *got
	if !sameTime(got.Created, want.Created) || !sameTime(got.Expires, want.Expires) || !sameTime(got.Revoked, want.Revoked) {
		k.Errorf("times of %+v, want %+v", got, want)
	}
	same.Created, same.Expires, same.Revoked = want.Created, want.Expires, want.Revoked
	if !reflect.DeepEqual(same, want) {
		k.Errorf("got %+v, want %+v", got, want)
	}
}

func testRegisterKey(t *testing.T, h Harness) {
	register := func(k *kit, secret string, overlap time.Duration) (store.Result, error) {
		return k.RegisterKey(k.ctx, k.by, keyOf(k.tenant, "env", secret), overlap)
	}

	t.Run("a known live key changes nothing", func(t *testing.T) {
		k := newKit(t, h)
		k.done(register(k, "one", time.Hour))
		before, rows := k.head(), k.allAudit(0)
		key := *k.key("one")
		r, err := register(k, "one", time.Hour)
		if err != nil || r.Outcome != store.OutcomeUnchanged || r.Revision != before {
			t.Errorf("registered again: %v, %v; want unchanged, as at %v", r, err, before)
		}
		if k.head() != before || k.allAudit(0) != rows {
			t.Errorf("head %v and audit %v, were %v and %v", k.head(), k.allAudit(0), before, rows)
		}
		if got := *k.key("one"); !reflect.DeepEqual(got, key) {
			t.Errorf("key %+v, was %+v", got, key)
		}
	})

	t.Run("a new key retires the former ones of its name after the overlap", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.newKey(k.tenant, "other", "other")
		k.newKey(acme, "env", "theirs")
		k.newKey(k.tenant, "env", "first")
		soon := keyOf(k.tenant, "env", "soon")
		soon.Expires = inMicroseconds(time.Now().Add(time.Minute))
		_, r, err := k.CreateKey(k.ctx, k.by, soon)
		k.done(r, err)
		late := keyOf(k.tenant, "env", "late")
		late.Expires = inMicroseconds(time.Now().Add(48 * time.Hour))
		_, r, err = k.CreateKey(k.ctx, k.by, late)
		k.done(r, err)

		before := k.head()
		from := time.Now()
		k.done(register(k, "second", time.Hour))
		to := time.Now()
		for _, secret := range []string{"first", "late"} {
			if key := k.key(secret); !about(key.Expires, from.Add(time.Hour), to.Add(time.Hour)) || !key.Revoked.IsZero() {
				t.Errorf("%s: %+v, want it to expire an hour from now", secret, key)
			}
		}
		if key := k.key("soon"); !sameTime(key.Expires, soon.Expires) {
			t.Errorf("a key that expires sooner was given until %v, had %v", key.Expires, soon.Expires)
		}
		for _, secret := range []string{"second", "other", "theirs"} {
			if key := k.key(secret); key == nil || !key.Expires.IsZero() || !key.Revoked.IsZero() {
				t.Errorf("%s: %+v, want it live for good", secret, key)
			}
		}
		var touched []store.Digest
		for _, c := range k.delta(before).Changes {
			if c.Kind != store.ChangeKey || c.Gone || c.Tenant != k.tenant {
				t.Errorf("change %v: all keys still open something", c)
			}
			touched = append(touched, c.Digest)
		}
		if want := []store.Digest{digestOf("second"), digestOf("first"), digestOf("late")}; !slices.Equal(touched, want) {
			t.Errorf("keys %v changed, want %v", touched, want)
		}
	})

	t.Run("the former key is itself known and live until it expires", func(t *testing.T) {
		k := newKit(t, h)
		k.done(register(k, "one", time.Hour))
		k.done(register(k, "two", time.Hour))
		before := k.head()
		if r, err := register(k, "one", time.Hour); err != nil || r.Outcome != store.OutcomeUnchanged || k.head() != before {
			t.Errorf("a replica that still holds the former key: %v, %v", r, err)
		}
		k.done(register(k, "three", 0))
		for _, secret := range []string{"one", "two"} {
			_, err := register(k, secret, time.Hour)
			k.wantErr(err, store.ErrRevoked)
		}
		if got := *k.key("three"); !got.Expires.IsZero() || !got.Revoked.IsZero() {
			t.Errorf("a refused registration touched the live key: %+v", got)
		}
	})

	t.Run("several that register at once make one key", func(t *testing.T) {
		k := newKit(t, h)
		others := []*kit{k, k.second(), k.second()}
		outcomes := make(chan store.Outcome, 4*len(others))
		for i := range cap(outcomes) {
			go func() {
				r, err := register(others[i%len(others)], "one", time.Hour)
				if err != nil {
					t.Errorf("register: %v", err)
				}
				outcomes <- r.Outcome
			}()
		}
		done := 0
		for range cap(outcomes) {
			if <-outcomes == store.OutcomeDone {
				done++
			}
		}
		if list := must[[]store.ClientKey](k)(k.KeyList(k.ctx, k.tenant)); done != 1 || len(list) != 1 {
			t.Errorf("%d registrations were done, keys %v", done, list)
		}
	})
}
