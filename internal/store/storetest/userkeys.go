package storetest

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func userKeyOf(tenant store.TenantID, user, secret string) store.NewUserKey {
	return store.NewUserKey{Tenant: tenant, User: user, Digest: digestOf(secret), Prefix: (secret + "-prefix-prefix")[:12], Label: "of " + secret}
}

func (k *kit) newUserKey(tenant store.TenantID, user, secret string) store.UserKey {
	k.Helper()
	key, r, err := k.CreateUserKey(k.ctx, k.by, userKeyOf(tenant, user, secret))
	k.done(r, err)
	return key
}

func (k *kit) userKey(secret string) *store.UserKey {
	k.Helper()
	return must[store.UserKeyRow](k)(k.UserKey(k.ctx, digestOf(secret))).Key
}

// backed is until when keys back the user.
func (k *kit) backed(tenant store.TenantID, user string) int64 {
	k.Helper()
	return must[store.GrantRow](k)(k.Grant(k.ctx, tenant, policy.KindUser, user)).KeyBackedUntil
}

var isUUID4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func testUserKeys(t *testing.T, h Harness) {
	t.Run("a key reads as it was made", func(t *testing.T) {
		k := newKit(t, h)
		from := time.Now()
		given := userKeyOf(k.tenant, "alice", "one")
		given.Expires = expiry
		made, r, err := k.CreateUserKey(k.ctx, k.by, given)
		k.done(r, err)
		want := store.UserKey{ID: made.ID, Tenant: k.tenant, User: "alice", Digest: digestOf("one"), Prefix: "one-prefix-p", Label: "of one",
			Created: made.Created, Expires: expiry}
		if made != want || !isUUID4.MatchString(made.ID) || !about(made.Created, from, time.Now()) {
			t.Errorf("made %+v, want %+v", made, want)
		}
		row := must[store.UserKeyRow](k)(k.UserKey(k.ctx, digestOf("one")))
		if row.Revision != k.head() || row.Key == nil || *row.Key != made {
			t.Errorf("read %+v as at %v, want %+v as at %v", row.Key, row.Revision, made, k.head())
		}
		if list := must[[]store.UserKey](k)(k.UserKeyList(k.ctx, k.tenant, "alice")); !reflect.DeepEqual(list, []store.UserKey{made}) {
			t.Errorf("list %+v", list)
		}
	})

	t.Run("a user key is no client key, and the other way round", func(t *testing.T) {
		k := newKit(t, h)
		k.newUserKey(k.tenant, "alice", "one")
		k.newKey(k.tenant, "ci", "two")
		if k.key("one") != nil || k.userKey("two") != nil {
			t.Error("one kind of key was found as the other")
		}
		row := must[store.UserKeyRow](k)(k.UserKey(k.ctx, digestOf("nobody's")))
		if row.Key != nil || row.Revision != k.head() {
			t.Errorf("an unknown key is %+v as at %v", row.Key, row.Revision)
		}
	})

	t.Run("what a write leaves behind", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		_, rows := k.audit(k.tenant)
		from := time.Now()
		made, r, err := k.CreateUserKey(k.ctx, k.by, userKeyOf(k.tenant, "alice", "one"))
		k.done(r, err)
		const state = `{"prefix": "one-prefix-p", "label": "of one", "expires": null}`
		changes := func(gone bool) []store.Change {
			return append([]store.Change{{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("one"), Gone: gone}}, grantChange(policy.KindUser, "alice")(k)...)
		}
		checkDeltaOf(k, before, r.Revision, changes(false))
		row := entry(store.ActionCreateUserKey, "api_key/"+made.ID, true)
		row.User = "alice"
		checkAuditOf(k, aWrite{outcome: store.OutcomeDone, audit: row, after: state}, rows, r, from, time.Now())

		row.Action = store.ActionRevokeUserKey
		before = k.head()
		r = k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", made.ID))
		checkDeltaOf(k, before, r.Revision, changes(true))
		checkAuditOf(k, aWrite{outcome: store.OutcomeDone, audit: row, before: state}, rows+1, r, from, time.Now())

		before, first := k.head(), *k.userKey("one")
		r, err = k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", made.ID)
		if err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("revoked again: %v, %v; want unchanged", r.Outcome, err)
		}
		checkDeltaOf(k, before, r.Revision, nil)
		checkAuditOf(k, aWrite{outcome: store.OutcomeUnchanged, audit: row}, rows+2, r, from, time.Now())
		if again := *k.userKey("one"); again != first || first.Revoked.IsZero() {
			t.Errorf("revoking again made %+v of %+v", again, first)
		}
	})

	t.Run("each key of a user is revoked by itself", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		one, two := k.newUserKey(k.tenant, "alice", "one"), k.newUserKey(k.tenant, "alice", "two")
		k.newUserKey(k.tenant, "bob", "three")
		k.newUserKey(acme, "alice", "four")
		for name, wrong := range map[string]func() error{
			"another user's":   func() error { _, err := k.RevokeUserKey(k.ctx, k.by, k.tenant, "bob", one.ID); return err },
			"another tenant's": func() error { _, err := k.RevokeUserKey(k.ctx, k.by, acme, "alice", one.ID); return err },
			"nobody's": func() error {
				_, err := k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", "00000000-0000-4000-8000-000000000000")
				return err
			},
			"a user without keys": func() error { _, err := k.RevokeUserKey(k.ctx, k.by, k.tenant, "carol", one.ID); return err },
		} {
			before := k.head()
			k.wantErr(wrong(), store.ErrNotFound)
			if k.head() != before {
				t.Errorf("%s: the refusal took a revision", name)
			}
		}
		k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", one.ID))
		for secret, revoked := range map[string]bool{"one": true, "two": false, "three": false, "four": false} {
			if key := k.userKey(secret); key.Revoked.IsZero() == revoked {
				t.Errorf("%s is %+v", secret, key)
			}
		}
		var ids []string
		for _, key := range must[[]store.UserKey](k)(k.UserKeyList(k.ctx, k.tenant, "alice")) {
			ids = append(ids, key.ID)
		}
		if want := []string{one.ID, two.ID}; !slices.Equal(ids, want) {
			t.Errorf("list %v, want %v: the oldest first, former ones too, of this user and tenant alone", ids, want)
		}
	})

	t.Run("at most 25 active keys a user", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		var last store.UserKey
		for i := range store.MaxUserKeys {
			last = k.newUserKey(k.tenant, "alice", fmt.Sprintf("key %d", i))
		}
		before := k.head()
		_, _, err := k.CreateUserKey(k.ctx, k.by, userKeyOf(k.tenant, "alice", "one too many"))
		k.wantErr(err, store.ErrKeyCap)
		if k.head() != before || k.userKey("one too many") != nil {
			t.Error("the refusal left something behind")
		}
		k.newUserKey(k.tenant, "bob", "another user's")
		k.newUserKey(acme, "alice", "another tenant's")
		k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", last.ID))
		over := userKeyOf(k.tenant, "alice", "expired")
		over.Expires = time.Now().Add(-time.Second)
		_, r, err := k.CreateUserKey(k.ctx, k.by, over)
		k.done(r, err)
		k.newUserKey(k.tenant, "alice", "in the revoked one's place")
		_, _, err = k.CreateUserKey(k.ctx, k.by, userKeyOf(k.tenant, "alice", "one too many"))
		k.wantErr(err, store.ErrKeyCap)
	})

	t.Run("refusals", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		k.newUserKey(k.tenant, "alice", "one")
		epoch, nobody, known := userKeyOf(k.tenant, "alice", "two"), userKeyOf(k.tenant, "", "two"), userKeyOf(acme, "bob", "one")
		epoch.Expires = time.Unix(0, 0)
		before, rows := k.head(), k.allAudit(acme)
		for _, c := range []struct {
			name string
			key  store.NewUserKey
			want error
		}{
			{"an unknown tenant", userKeyOf(acme+1000, "alice", "two"), store.ErrNotFound},
			{"no user", nobody, nil},
			{"until the epoch", epoch, nil},
			{"a digest that is known", known, store.ErrExists},
		} {
			_, _, err := k.CreateUserKey(k.ctx, k.by, c.key)
			if err == nil {
				t.Errorf("%s: it was accepted", c.name)
			}
			if c.want != nil {
				k.wantErr(err, c.want)
			}
		}
		_, err := k.SetStrictUsers(k.ctx, k.by, acme+1000, true)
		k.wantErr(err, store.ErrNotFound)
		if k.head() != before || k.allAudit(acme) != rows {
			t.Error("a refusal left something behind")
		}
	})

	t.Run("last used", func(t *testing.T) {
		k := newKit(t, h)
		k.newUserKey(k.tenant, "alice", "one")
		k.newKey(k.tenant, "ci", "two")
		at := inMicroseconds(time.Now())
		report := func(at time.Time) {
			t.Helper()
			err := k.Report(k.ctx, []store.Report{{Sidecar: "s", Kind: store.ReportUses, At: at, Uses: []store.KeyUse{{Digest: digestOf("one"), At: at}, {Digest: digestOf("two"), At: at}}}})
			if err == nil {
				err = k.FoldReports(k.ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		report(at)
		report(at.Add(-time.Minute)) // a late word changes nothing
		if got := k.userKey("one").LastUsed; !got.Equal(at) {
			t.Errorf("the user's key was last used %v, want %v", got, at)
		}
		if got := k.key("two").LastUsed; !got.Equal(at) {
			t.Errorf("the client's key was last used %v, want %v", got, at)
		}
	})
}

func testStrictUsers(t *testing.T, h Harness) {
	t.Run("until when keys back a user", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		want := func(what string, until int64) {
			t.Helper()
			if got := k.backed(k.tenant, "alice"); got != until {
				t.Errorf("%s: backed until %d, want %d", what, got, until)
			}
		}
		timed := func(secret string, at time.Time) store.UserKey {
			t.Helper()
			key := userKeyOf(k.tenant, "alice", secret)
			key.Expires = at
			made, r, err := k.CreateUserKey(k.ctx, k.by, key)
			k.done(r, err)
			return made
		}
		want("no key", 0)
		k.newUserKey(k.tenant, "bob", "bob's")
		k.newUserKey(acme, "alice", "of another tenant")
		k.newKey(k.tenant, "alice", "a client of her name")
		want("others' keys", 0)
		past := inMicroseconds(time.Now().Add(-time.Hour))
		timed("past", past)
		want("an expired key", past.UnixNano())
		late := timed("late", expiry.Add(time.Hour))
		timed("soon", expiry)
		want("two keys", expiry.Add(time.Hour).UnixNano())
		ever := k.newUserKey(k.tenant, "alice", "ever")
		want("a key for ever", store.BackedForever)
		// Roles beside it, and each of them with the same answer.
		k.role(k.tenant, "editor", "viewer")
		for _, role := range []string{"editor", "viewer"} {
			k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", role, time.Time{}))
		}
		if got := k.names(k.tenant, policy.KindUser, "alice"); len(got) != 2 {
			t.Errorf("alice holds %v", got)
		}
		want("with roles", store.BackedForever)
		k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", ever.ID))
		want("the key for ever revoked", expiry.Add(time.Hour).UnixNano())
		k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", late.ID))
		want("the later one revoked too", expiry.UnixNano())
		row := must[store.GrantRow](k)(k.Grant(k.ctx, k.tenant, policy.KindClient, "alice"))
		if row.KeyBackedUntil != 0 {
			t.Errorf("a client of her name is backed until %d", row.KeyBackedUntil)
		}
	})

	t.Run("a tenant is strict as it was made, and as it was set", func(t *testing.T) {
		k := newKit(t, h)
		strict := func() bool {
			t.Helper()
			return must[store.Tenant](k)(k.TenantByName(k.ctx, "acme")).StrictUsers
		}
		before := k.head()
		made, r, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "acme", Admitted: true, StrictUsers: true})
		k.done(r, err)
		if !made.StrictUsers || !strict() || must[store.Tenant](k)(k.TenantByName(k.ctx, store.DefaultTenant)).StrictUsers {
			t.Error("a tenant is not as it was made")
		}
		entries, _ := k.audit(made.ID)
		checkJSON(k, "after", entries[0].After, `{"admitted": true, "strict_users": true}`)
		if d := k.delta(before); len(d.Tenants) != 1 || !d.Tenants[0].StrictUsers {
			t.Errorf("the delta carries %+v", d.Tenants)
		}
		before = k.head()
		k.done(k.SetStrictUsers(k.ctx, k.by, made.ID, false))
		if d := k.delta(before); strict() || len(d.Tenants) != 1 || d.Tenants[0].StrictUsers {
			t.Errorf("strict %v, and the delta carries %+v", strict(), d.Tenants)
		}
		k.done(k.SetStrictUsers(k.ctx, k.by, made.ID, true))
		base := must[store.Base](k)(k.Bootstrap(k.ctx, func(store.Digest) error { return nil }))
		for _, tenant := range base.Tenants {
			if tenant.StrictUsers != (tenant.Name == "acme") {
				t.Errorf("the base has %+v", tenant)
			}
		}
	})

	t.Run("a strict tenant takes no user without an active key", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor")
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "before", "editor", time.Time{}))
		k.done(k.SetStrictUsers(k.ctx, k.by, k.tenant, true))
		add := func(kind policy.Kind, id, role string) error {
			_, err := k.AddMember(k.ctx, k.by, k.tenant, kind, id, role, time.Time{})
			return err
		}
		past := userKeyOf(k.tenant, "late", "past")
		past.Expires = time.Now().Add(-time.Hour)
		_, r, err := k.CreateUserKey(k.ctx, k.by, past)
		k.done(r, err)
		key := k.newUserKey(k.tenant, "alice", "hers")
		former := k.newUserKey(k.tenant, "former", "revoked")
		k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "former", former.ID))
		before := k.head()
		for _, user := range []string{"nobody", "late", "former", "before"} {
			k.wantErr(add(policy.KindUser, user, "editor"), store.ErrNotKeyBacked)
		}
		k.wantErr(add(policy.KindUser, "nobody", "missing"), store.ErrNotKeyBacked)
		if k.head() != before {
			t.Error("a refusal took a revision")
		}
		for _, ok := range []error{add(policy.KindUser, "alice", "editor"), add(policy.KindUser, "alice", "missing"), add(policy.KindClient, "ci", "editor"), add(policy.KindWorkload, "w", "editor")} {
			if ok != nil {
				t.Error(ok)
			}
		}
		k.done(k.RevokeUserKey(k.ctx, k.by, k.tenant, "alice", key.ID))
		// Taking away is never gated.
		for _, user := range []string{"alice", "before"} {
			k.done(k.RemoveMember(k.ctx, k.by, k.tenant, policy.KindUser, user, "editor"))
		}
	})
}
