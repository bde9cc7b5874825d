package storetest

import (
	"math"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// testTokenRefusals is testRefusals of what tokens need, and of imports.
func testTokenRefusals(t *testing.T, h Harness) {
	k := newKit(t, h)
	acme := k.newTenant("acme")
	const nobody = store.TenantID(987654)
	mark, _, _ := denialTimes()
	k.newKey(k.tenant, "ci", "one")
	k.newKey(k.tenant, "other", "theirs")
	k.newKey(k.tenant, "gone", "revoked")
	_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "gone")
	k.done(r, err)
	k.role(k.tenant, "editor")
	theirs := k.deny(denyToken(acme, "theirs", expiry))
	for _, id := range []string{"a", "b"} {
		k.done(k.PublishSigningKey(k.ctx, k.by, signerOf(id)))
	}
	k.done(k.SignWith(k.ctx, k.by, "a", time.Time{}))
	k.startFamily(1, "live", accessOf("live", expiry))
	k.startFamily(2, "dead", accessOf("dead", expiry))
	k.done(k.RevokeRefresh(k.ctx, k.by, k.tenant, "app", digestOf("dead")))
	k.importing(importOf(k.tenant), "at 1", false)

	deny := func(change func(d *store.NewDenial)) func() error {
		return func() error {
			d := denyUser(k.tenant, "alice", mark, expiry)
			change(&d)
			_, _, err := k.Deny(k.ctx, k.by, d)
			return err
		}
	}
	token := func(change func(d *store.NewDenial)) func() error {
		return deny(func(d *store.NewDenial) { *d = denyToken(k.tenant, "jti", expiry); change(d) })
	}
	allow := func(tenant store.TenantID, id int64) func() error {
		return func() error { return theError(k.Allow(k.ctx, k.by, tenant, id)) }
	}
	publish := func(change func(key *store.SigningKey)) func() error {
		return func() error {
			key := signerOf("new")
			change(&key)
			return theError(k.PublishSigningKey(k.ctx, k.by, key))
		}
	}
	sign := func(id string, others time.Time) func() error {
		return func() error { return theError(k.SignWith(k.ctx, k.by, id, others)) }
	}
	start := func(token string, change func(f *store.RefreshFamily, a *store.AccessToken)) func() error {
		return func() error {
			f, a := familyOf(k.tenant, 9, expiry), accessOf("new", expiry)
			change(&f, &a)
			return theError(k.StartFamily(k.ctx, k.by, f, digestOf(token), a))
		}
	}
	family := func(change func(f *store.RefreshFamily)) func() error {
		return start("new", func(f *store.RefreshFamily, _ *store.AccessToken) { change(f) })
	}
	use := func(token, next string, access store.AccessToken) func() error {
		return func() error {
			_, _, err := k.useRefresh(token, next, access)
			return err
		}
	}
	rotate := func(presented, next, try string, change func(r *store.KeyRotation)) func() error {
		return func() error {
			r := rotationOf(k.tenant, presented, next, try, time.Hour)
			change(&r)
			_, _, err := k.RotateKey(k.ctx, k.by, r)
			return err
		}
	}
	asItIs := func(*store.KeyRotation) {}
	open := func(name string, key store.NewKey) func() error {
		return func() error {
			_, _, err := k.OpenTenant(k.ctx, k.by, store.NewTenant{Name: name}, key)
			return err
		}
	}
	load := func(source string, change func(b *store.ImportBatch)) func() error {
		return func() error {
			// Beside what is refused, rows that are fine: none of them may stay.
			b := store.ImportBatch{Roles: []store.ImportRole{{Tenant: k.tenant, Name: "imported"}}}
			change(&b)
			_, _, err := k.Import(k.ctx, k.by, source, b, "at 2", true)
			return err
		}
	}
	userKey := func(change func(key *store.ImportUserKey)) func() error {
		return load("source", func(b *store.ImportBatch) {
			key := store.ImportUserKey{NewUserKey: userKeyOf(k.tenant, "alice", "another")}
			change(&key)
			b.UserKeys = []store.ImportUserKey{key}
		})
	}
	epoch, tooFar := time.Unix(0, 0), time.Unix(0, math.MaxInt64).Add(time.Hour)

	k.refuseAll(acme, []refusal{
		{"deny nothing", nil, deny(func(d *store.NewDenial) { d.Kind = 0 })},
		{"deny what is no kind", nil, deny(func(d *store.NewDenial) { d.Kind = 4 })},
		{"deny a user without an id", nil, deny(func(d *store.NewDenial) { d.Value = "" })},
		{"deny no kind of principal", nil, deny(func(d *store.NewDenial) { d.Principal = 0 })},
		{"deny an unknown kind of principal", nil, deny(func(d *store.NewDenial) { d.Principal = 4 })},
		{"deny a user without a moment", nil, deny(func(d *store.NewDenial) { d.Before = time.Time{} })},
		{"deny a user up to the epoch, which would read as never", nil, deny(func(d *store.NewDenial) { d.Before = epoch })},
		{"deny a user without an end", nil, deny(func(d *store.NewDenial) { d.Expires = time.Time{} })},
		{"deny a user until past what nanoseconds hold", nil, deny(func(d *store.NewDenial) { d.Expires = tooFar })},
		{"deny a client of an issuer", nil, deny(func(d *store.NewDenial) { d.Principal = policy.KindClient })},
		{"deny a user of an unknown tenant", store.ErrNotFound, deny(func(d *store.NewDenial) { d.Tenant = nobody })},
		{"deny a user of no tenant", store.ErrNotFound, deny(func(d *store.NewDenial) { d.Tenant = 0 })},
		{"deny a token of an unknown tenant", store.ErrNotFound, token(func(d *store.NewDenial) { d.Tenant = nobody })},
		{"deny a token of no tenant", store.ErrNotFound, token(func(d *store.NewDenial) { d.Tenant = 0 })},
		{"deny a token without a jti", nil, token(func(d *store.NewDenial) { d.Value = "" })},
		{"deny a token up to a moment", nil, token(func(d *store.NewDenial) { d.Before = mark })},
		{"deny a token until the epoch", nil, token(func(d *store.NewDenial) { d.Expires = epoch })},
		{"deny a signing key of a tenant", nil, token(func(d *store.NewDenial) { d.Kind = store.DenyKey })},
		{"allow what is not there", store.ErrNotFound, allow(k.tenant, theirs.ID+1000)},
		{"allow another tenant's", store.ErrNotFound, allow(k.tenant, theirs.ID)},
		{"allow a tenant's as nobody's", store.ErrNotFound, allow(0, theirs.ID)},

		{"publish a key without an id", nil, publish(func(key *store.SigningKey) { key.KeyID = "" })},
		{"publish a key without a key", nil, publish(func(key *store.SigningKey) { key.JWK = "" })},
		{"publish a key that is a secret", nil, publish(func(key *store.SigningKey) { key.Algorithm = "HS256" })},
		{"publish another key under an id", store.ErrExists, publish(func(key *store.SigningKey) { key.KeyID = "a" })},
		{"publish a key with another algorithm", store.ErrExists, publish(func(key *store.SigningKey) { *key = signerOf("a"); key.Algorithm = "ES256" })},
		{"sign with a key that is not there", store.ErrNotFound, sign("never", expiry)},
		{"sign with another key, and the former one for ever", nil, sign("b", time.Time{})},
		{"sign with another key, and the former one until the epoch", nil, sign("b", epoch)},
		{"withdraw a key that is not there", store.ErrNotFound, func() error { return theError(k.WithdrawSigningKey(k.ctx, k.by, "never")) }},

		{"start refresh tokens in an unknown tenant", store.ErrNotFound, family(func(f *store.RefreshFamily) { f.Tenant = nobody })},
		{"start refresh tokens in no tenant", store.ErrNotFound, family(func(f *store.RefreshFamily) { f.Tenant = 0 })},
		{"start refresh tokens of nobody", nil, family(func(f *store.RefreshFamily) { f.User = "" })},
		{"start refresh tokens of no client", nil, family(func(f *store.RefreshFamily) { f.Client = "" })},
		{"start refresh tokens without an end", nil, family(func(f *store.RefreshFamily) { f.Expires = time.Time{} })},
		{"start refresh tokens until the epoch", nil, family(func(f *store.RefreshFamily) { f.Expires = epoch })},
		{"start a family that is there", store.ErrExists, family(func(f *store.RefreshFamily) { f.Family = [16]byte{1} })},
		{"start a family with a token that is there", store.ErrExists, start("live", func(*store.RefreshFamily, *store.AccessToken) {})},
		{"start a family with an access token without a jti", nil, start("new", func(_ *store.RefreshFamily, a *store.AccessToken) { a.ID = "" })},
		{"start a family with an access token without an end", nil, start("new", func(_ *store.RefreshFamily, a *store.AccessToken) { a.Expires = time.Time{} })},
		{"use a token that is not there", store.ErrNotFound, use("never", "new", accessOf("new", expiry))},
		{"use a token of a revoked family", store.ErrRevoked, use("dead", "new", accessOf("new", expiry))},
		{"use a token for itself", store.ErrExists, use("live", "live", accessOf("new", expiry))},
		{"use a token for another's", store.ErrExists, use("live", "dead", accessOf("new", expiry))},
		{"use a token for an access token without a jti", nil, use("live", "new", accessOf("", expiry))},
		{"use a token for an access token without an end", nil, use("live", "new", accessOf("new", time.Time{}))},
		{"revoke a token that is not there", store.ErrNotFound, func() error {
			return theError(k.RevokeRefresh(k.ctx, k.by, k.tenant, "app", digestOf("never")))
		}},
		{"revoke another client's token", store.ErrNotFound, func() error {
			return theError(k.RevokeRefresh(k.ctx, k.by, k.tenant, "other", digestOf("live")))
		}},

		{"replace a key that is not there", store.ErrNotFound, rotate("never", "new", "try", asItIs)},
		{"replace a revoked key", store.ErrNotFound, rotate("revoked", "new", "try", func(r *store.KeyRotation) { r.Name, r.New.Name = "gone", "gone" })},
		{"replace another client's key", store.ErrNotFound, rotate("theirs", "new", "try", asItIs)},
		{"replace a key by one that is there", store.ErrExists, rotate("one", "theirs", "try", asItIs)},
		{"replace a key by itself", store.ErrExists, rotate("one", "one", "try", asItIs)},
		{"replace a key by another client's", nil, rotate("one", "new", "try", func(r *store.KeyRotation) { r.New.Name = "other" })},
		{"replace a key by another tenant's", nil, rotate("one", "new", "try", func(r *store.KeyRotation) { r.New.Tenant = acme })},
		{"replace a key with an overlap below nothing", nil, rotate("one", "new", "try", func(r *store.KeyRotation) { r.Overlap = -1 })},
		{"replace a key with a reply that is not kept", nil, rotate("one", "new", "try", func(r *store.KeyRotation) { r.ReplayUntil = time.Time{} })},
		{"replace a key with a scope that is none", nil, rotate("one", "new", "try", func(r *store.KeyRotation) { r.New.Scopes = []store.Scope{"root"} })},

		{"open a tenant without a name", nil, open("", keyOf(0, "ci", "new"))},
		{"open a tenant of a name that is there", store.ErrExists, open("acme", keyOf(0, "ci", "new"))},
		{"open a tenant with a revoked key", store.ErrRevoked, open("new", keyOf(0, "ci", "revoked"))},
		{"open a tenant with a key without a name", nil, open("new", keyOf(0, "", "new"))},
		{"open a tenant with a scope that is none", nil, open("new", func() store.NewKey {
			key := keyOf(0, "ci", "new")
			key.Scopes = []store.Scope{"root"}
			return key
		}())},

		{"import from nowhere", nil, load("", func(*store.ImportBatch) {})},
		{"import a tenant without a name", nil, load("source", func(b *store.ImportBatch) {
			b.Tenants = []store.ImportTenant{{Key: keyOf(0, "ci", "new")}}
		})},
		{"import a role without a name", nil, load("source", func(b *store.ImportBatch) { b.Roles = append(b.Roles, store.ImportRole{Tenant: k.tenant}) })},
		{"import a role of an unknown tenant", store.ErrNotFound, load("source", func(b *store.ImportBatch) {
			b.Roles = append(b.Roles, store.ImportRole{Tenant: nobody, Name: "a"})
		})},
		{"import a permission without a name", nil, load("source", func(b *store.ImportBatch) {
			b.Permissions = []store.ImportPermission{{Tenant: k.tenant, Role: "imported"}}
		})},
		{"import a permission of a missing role", store.ErrNotFound, load("source", func(b *store.ImportBatch) {
			b.Permissions = []store.ImportPermission{{Tenant: k.tenant, Role: "none", Name: "p"}}
		})},
		{"import a member without an id", nil, load("source", func(b *store.ImportBatch) {
			b.Members = []store.ImportMember{{Tenant: k.tenant, Role: "imported"}}
		})},
		{"import a member of a missing role", store.ErrNotFound, load("source", func(b *store.ImportBatch) {
			b.Members = []store.ImportMember{{Tenant: k.tenant, User: "bob", Role: "none"}}
		})},
		{"import an API key of nobody", nil, userKey(func(key *store.ImportUserKey) { key.User = "" })},
		{"import an API key of an unknown tenant", store.ErrNotFound, userKey(func(key *store.ImportUserKey) { key.Tenant = nobody })},
		{"import an API key under another's id", store.ErrExists, userKey(func(key *store.ImportUserKey) { key.ID = importOf(0).UserKeys[0].ID })},
		{"import an audit row without a time", nil, load("source", func(b *store.ImportBatch) {
			b.Audit = []store.AuditEntry{{Tenant: k.tenant, Actor: "a", Action: store.ActionAddPermission}}
		})},
		{"import an audit row of an unknown tenant", store.ErrNotFound, load("source", func(b *store.ImportBatch) {
			b.Audit = []store.AuditEntry{{Time: importedAt, Tenant: nobody, Actor: "a", Action: store.ActionAddPermission}}
		})},
	})

	// Nothing of it is there.
	k.wantCursor("at 1", false)
	if list := k.denials(k.tenant); len(list) != 2 {
		t.Errorf("denied %+v, want client gone and the dead family's access token", list)
	}
	if key := k.key("new"); key != nil {
		t.Errorf("key %+v is there", key)
	}
	_, err = k.Refresh(k.ctx, digestOf("new"))
	k.wantErr(err, store.ErrNotFound)
	_, _, err = k.Replay(k.ctx, digestOf("try"))
	k.wantErr(err, store.ErrNotFound)
	if got := k.signers(); len(got) != 2 || !got[0].Expires.IsZero() || !got[1].Signs.IsZero() {
		t.Errorf("signing keys %+v", got)
	}
	if list := must[[]store.Role](k)(k.RoleList(k.ctx, k.tenant)); len(list) != 2 {
		t.Errorf("roles %+v, want editor and viewer", list)
	}
	// And what was refused with good arguments beside it still goes.
	k.refreshed("live", "live two", accessOf("live two", expiry))
	k.rotateKey(rotationOf(k.tenant, "one", "two", "try", 0))
}
