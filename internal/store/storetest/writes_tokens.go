package storetest

import (
	"errors"
	"fmt"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const expiryText = "2031-05-06T07:08:09.123456Z"

// denialWrites are the writes to the deny-list.
func denialWrites() []aWrite {
	deny := func(of func(k *kit) store.NewDenial) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) {
			_, r, err := k.Deny(k.ctx, k.by, of(k))
			return r, err
		}
	}
	allow := func(tenant func(k *kit) store.TenantID) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) {
			return k.Allow(k.ctx, k.by, tenant(k), k.denials(tenant(k))[0].ID)
		}
	}
	told := func(of func(k *kit) store.NewDenial) func(k *kit) []store.Change {
		return func(k *kit) []store.Change {
			d := of(k)
			return []store.Change{denialChange(d.Tenant, k.markOf(d))}
		}
	}
	gone := func(of func(k *kit) store.NewDenial) func(k *kit) []store.Change {
		return func(k *kit) []store.Change {
			d := of(k)
			return []store.Change{denialGone(d.Tenant, k.markOf(d))}
		}
	}
	given := func(of func(k *kit) store.NewDenial) func(k *kit) {
		return func(k *kit) { k.deny(of(k)) }
	}
	mine := func(k *kit) store.TenantID { return k.tenant }
	nobodys := func(*kit) store.TenantID { return 0 }
	token := func(until time.Time) func(k *kit) store.NewDenial {
		return func(k *kit) store.NewDenial { return denyToken(k.tenant, "jti", until) }
	}
	subject := func(kind policy.Kind, before time.Time) func(k *kit) store.NewDenial {
		return func(k *kit) store.NewDenial {
			d := store.NewDenial{Kind: store.DenySubject, Tenant: k.tenant, Value: "alice", Principal: kind, Before: before, Expires: expiry}
			if kind == policy.KindUser {
				d.Issuer = issuer
			}
			return d
		}
	}
	signer := func(*kit) store.NewDenial { return denySigner("kid", expiry) }
	early, late := expiry.Add(-2*time.Hour), expiry.Add(-time.Hour)
	const (
		tokenState  = `{"issuer": "` + issuer + `", "value": "jti", "expires": "` + expiryText + `"}`
		shortState  = `{"issuer": "` + issuer + `", "value": "jti", "expires": "2031-05-06T06:08:09.123456Z"}`
		earlyState  = `{"issuer": "` + issuer + `", "before": "2031-05-06T05:08:09.123456Z", "expires": "` + expiryText + `"}`
		lateState   = `{"issuer": "` + issuer + `", "before": "2031-05-06T06:08:09.123456Z", "expires": "` + expiryText + `"}`
		clientState = `{"issuer": "", "before": "2031-05-06T06:08:09.123456Z", "expires": "` + expiryText + `"}`
		signerState = `{"issuer": "` + issuer + `", "value": "kid", "expires": "` + expiryText + `"}`
	)
	of := func(action store.Action, kind, user string) store.AuditEntry {
		return memberEntry(action, "denial/"+kind, user, true)
	}
	user := subject(policy.KindUser, late)
	return []aWrite{
		{name: "deny a token", do: deny(token(expiry)), outcome: store.OutcomeDone, changes: told(token(expiry)),
			audit: of(store.ActionDeny, "token", ""), after: tokenState},
		{name: "deny a token again", given: given(token(expiry)), do: deny(token(late)), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: of(store.ActionDeny, "token", ""), before: tokenState, after: tokenState},
		{name: "deny a token for longer", given: given(token(late)), do: deny(token(expiry)), outcome: store.OutcomeDone, changes: told(token(expiry)),
			audit: of(store.ActionDeny, "token", ""), before: shortState, after: tokenState},
		{name: "deny a user", do: deny(user), outcome: store.OutcomeDone, changes: told(user),
			audit: of(store.ActionDeny, "subject", "alice"), after: lateState, details: `{"kind": "user"}`},
		{name: "deny a user again", given: given(user), do: deny(subject(policy.KindUser, early)), outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: of(store.ActionDeny, "subject", "alice"), before: lateState, after: lateState, details: `{"kind": "user"}`},
		{name: "deny a user up to a later moment", given: given(subject(policy.KindUser, early)), do: deny(user), outcome: store.OutcomeDone, changes: told(user),
			audit: of(store.ActionDeny, "subject", "alice"), before: earlyState, after: lateState, details: `{"kind": "user"}`},
		{name: "deny a user who has refresh tokens", given: func(k *kit) {
			for n, name := range []string{"alice", "bob", "alice"} {
				k.aFamily(k.tenant, byte(n+1), "app", name, early)
			}
			k.aFamily(k.tenant, 4, "app", "alice", expiry)
		}, do: deny(user), outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change { return append(told(user)(k), k.deniedAccess(1, 3)...) },
			audit:   of(store.ActionDeny, "subject", "alice"), after: lateState, details: `{"kind": "user", "refresh_families": 2, "denied": 2}`},
		{name: "deny a user again who has refresh tokens left", given: func(k *kit) { k.deny(user(k)); k.aFamily(k.tenant, 1, "app", "alice", early) },
			do: deny(user), outcome: store.OutcomeDone, changes: func(k *kit) []store.Change { return k.deniedAccess(1) },
			audit: of(store.ActionDeny, "subject", "alice"), before: lateState, after: lateState, details: `{"kind": "user", "refresh_families": 1, "denied": 1}`},
		{name: "deny a client", do: deny(subject(policy.KindClient, late)), outcome: store.OutcomeDone, changes: told(subject(policy.KindClient, late)),
			audit: of(store.ActionDeny, "subject", "client:alice"), after: clientState, details: `{"kind": "client"}`},
		{name: "deny a workload", do: deny(subject(policy.KindWorkload, late)), outcome: store.OutcomeDone, changes: told(subject(policy.KindWorkload, late)),
			audit: of(store.ActionDeny, "subject", "workload:alice"), after: clientState, details: `{"kind": "workload"}`},
		{name: "deny a signing key", do: deny(signer), outcome: store.OutcomeDone, changes: told(signer), ofNone: true,
			audit: of(store.ActionDeny, "key", ""), after: signerState},
		{name: "deny a signing key again", given: given(signer), do: deny(signer), outcome: store.OutcomeUnchanged, changes: noChanges, ofNone: true,
			audit: of(store.ActionDeny, "key", ""), before: signerState, after: signerState},
		{name: "allow a token", given: given(token(expiry)), do: allow(mine), outcome: store.OutcomeDone, changes: gone(token(expiry)),
			audit: of(store.ActionAllow, "token", ""), before: tokenState},
		{name: "allow a user", given: given(user), do: allow(mine), outcome: store.OutcomeDone, changes: gone(user),
			audit: of(store.ActionAllow, "subject", "alice"), before: lateState, details: `{"kind": "user"}`},
		{name: "allow a signing key", given: given(signer), do: allow(nobodys), outcome: store.OutcomeDone, changes: gone(signer), ofNone: true,
			audit: of(store.ActionAllow, "key", ""), before: signerState},
	}
}

// signingWrites are the writes to the public signing keys.
func signingWrites() []aWrite {
	publish := func(id string) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) { return k.PublishSigningKey(k.ctx, k.by, signerOf(id)) }
	}
	sign := func(id string, others time.Time) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) { return k.SignWith(k.ctx, k.by, id, others) }
	}
	published := func(ids ...string) func(k *kit) {
		return func(k *kit) {
			for _, id := range ids {
				k.done(publish(id)(k))
			}
		}
	}
	signing := func(k *kit) { published("a")(k); k.done(sign("a", time.Time{})(k)) }
	changed := func(*kit) []store.Change { return []store.Change{{Kind: store.ChangeSigning}} }
	of := func(action store.Action) store.AuditEntry { return entry(action, "signing_key/a", true) }
	const (
		idle  = `{"algorithm": "EdDSA", "signs": null, "expires": null}`
		signs = `{"algorithm": "EdDSA", "signs": "` + aMoment + `", "expires": null}`
		until = `{"algorithm": "EdDSA", "signs": "` + aMoment + `", "expires": "` + expiryText + `"}`
	)
	return []aWrite{
		{name: "publish a signing key", do: publish("a"), outcome: store.OutcomeDone, changes: changed, ofNone: true,
			audit: of(store.ActionPublishSigning), after: idle},
		{name: "publish a signing key again", given: published("a"), do: publish("a"), outcome: store.OutcomeUnchanged, changes: noChanges, ofNone: true,
			audit: of(store.ActionPublishSigning), before: idle, after: idle},
		{name: "sign with the first key", given: published("a", "b"), do: sign("a", time.Time{}), outcome: store.OutcomeDone, changes: changed, ofNone: true,
			audit: of(store.ActionSignWith), before: idle, after: signs},
		{name: "sign with the key that signs", given: signing, do: sign("a", expiry), outcome: store.OutcomeUnchanged, changes: noChanges, ofNone: true,
			audit: of(store.ActionSignWith), before: signs, after: signs},
		{name: "sign with another key", given: func(k *kit) { published("b")(k); k.done(sign("b", time.Time{})(k)); published("a")(k) },
			do: sign("a", expiry), outcome: store.OutcomeDone, changes: changed, ofNone: true,
			audit: of(store.ActionSignWith), before: idle, after: signs, details: `{"others_expire": "` + expiryText + `"}`},
		{name: "sign with a retired key again", given: func(k *kit) { signing(k); published("b")(k); k.done(sign("b", expiry)(k)) },
			do: sign("a", expiry), outcome: store.OutcomeDone, changes: changed, ofNone: true,
			audit: of(store.ActionSignWith), before: until, after: signs, details: `{"others_expire": "` + expiryText + `"}`},
		{name: "withdraw a signing key", given: published("a", "b"),
			do:      func(k *kit) (store.Result, error) { return k.WithdrawSigningKey(k.ctx, k.by, "a") },
			outcome: store.OutcomeDone, changes: changed, ofNone: true,
			audit: of(store.ActionWithdrawSigning), before: `{"a": ` + idle + `}`},
		{name: "prune signing keys", given: func(k *kit) { signing(k); published("b")(k); k.done(sign("b", time.Unix(1, 0))(k)) },
			do: func(k *kit) (store.Result, error) {
				err := k.PruneSigningKeys(k.ctx, k.by)
				return store.Result{Revision: k.head(), Outcome: store.OutcomeDone}, err
			},
			outcome: store.OutcomeDone, changes: changed, ofNone: true,
			audit:  entry(store.ActionWithdrawSigning, "signing_key/expired", true),
			before: `{"a": {"algorithm": "EdDSA", "signs": "` + aMoment + `", "expires": "1970-01-01T00:00:01Z"}}`},
	}
}

// refreshWrites are the writes to refresh tokens. look reads the first of the family.
func refreshWrites() []aWrite {
	first := func(k *kit) store.Digest { return digestOf(fmt.Sprintf("%d refresh", k.tenant)) }
	start := func(k *kit) (store.Result, error) {
		return k.StartFamily(k.ctx, k.by, familyOf(k.tenant, 1, expiry), first(k), accessOf("a", expiry))
	}
	use := func(jti string) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) {
			_, r, err := k.UseRefresh(k.ctx, k.by, k.tenant, "app", first(k), digestOf("next "+jti), accessOf(jti, expiry))
			return r, err
		}
	}
	revoke := func(k *kit) (store.Result, error) { return k.RevokeRefresh(k.ctx, k.by, k.tenant, "app", first(k)) }
	started := func(k *kit) { k.done(start(k)) }
	used := func(k *kit) { started(k); k.done(use("b")(k)) }
	denied := func(jtis ...string) func(k *kit) []store.Change {
		return func(k *kit) []store.Change {
			var changes []store.Change
			for _, jti := range jtis {
				changes = append(changes, denialChange(k.tenant, accessMark(k.tenant, accessOf(jti, expiry))))
			}
			return changes
		}
	}
	of := func(action store.Action) store.AuditEntry {
		return memberEntry(action, "refresh/01000000000000000000000000000000", "alice", true)
	}
	const (
		state = `{"client": "app", "scope": "read", "expires": "` + expiryText + `"}`
		ended = `{"client": "app", "scope": "read", "expires": "` + expiryText + `", "denied": %d}`
	)
	return []aWrite{
		{name: "start refresh tokens", do: start, outcome: store.OutcomeDone, changes: noChanges, audit: of(store.ActionIssueToken), after: state},
		{name: "use a refresh token", given: started, do: use("b"), outcome: store.OutcomeDone, changes: noChanges, audit: of(store.ActionRefreshToken), after: state},
		{name: "use a refresh token again", given: used, do: func(k *kit) (store.Result, error) {
			r, err := use("c")(k)
			if !errors.Is(err, store.ErrReused) {
				return r, fmt.Errorf("got %w, want store.ErrReused", err)
			}
			return r, nil
		}, outcome: store.OutcomeDone, changes: denied("a", "b"),
			audit: of(store.ActionRevokeToken), before: state, after: fmt.Sprintf(ended, 2), details: `{"reason": "reuse"}`},
		{name: "revoke refresh tokens", given: used, do: revoke, outcome: store.OutcomeDone, changes: denied("a", "b"),
			audit: of(store.ActionRevokeToken), before: state, after: fmt.Sprintf(ended, 2)},
		{name: "revoke refresh tokens whose access tokens have expired", given: func(k *kit) {
			k.done(k.StartFamily(k.ctx, k.by, familyOf(k.tenant, 1, expiry), first(k), accessOf("a", time.Unix(1, 0))))
		}, do: revoke, outcome: store.OutcomeDone, changes: noChanges, audit: of(store.ActionRevokeToken), before: state, after: state},
		{name: "revoke refresh tokens again", given: func(k *kit) { started(k); k.done(revoke(k)) }, do: revoke, outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: of(store.ActionRevokeToken)},
	}
}

// rotatedKeyWrites replace a client's secret.
func rotatedKeyWrites() []aWrite {
	rotate := func(overlap time.Duration) func(k *kit) (store.Result, error) {
		return func(k *kit) (store.Result, error) {
			_, r, err := k.RotateKey(k.ctx, k.by, rotationOf(k.tenant, "one", "two", "try", overlap))
			return r, err
		}
	}
	change := func(k *kit, secret string, gone bool) store.Change {
		return store.Change{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf(secret), Gone: gone}
	}
	const (
		one     = `{"prefix": "one-pref", "scopes": ["check", "manage"], "expires": null}`
		two     = `{"prefix": "two-pref", "scopes": ["check", "manage"], "expires": null}`
		other   = `{"prefix": "other-pr", "scopes": ["check", "manage"], "expires": null}`
		details = `{"former_expire": "` + aMoment + `"}`
	)
	rotated := entry(store.ActionRotateKey, "client_key/ci", true)
	return []aWrite{
		{name: "replace a key at once", given: func(k *kit) { k.newKey(k.tenant, "ci", "one"); k.newKey(k.tenant, "ci", "other") },
			do: rotate(0), outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change {
				return []store.Change{change(k, "two", false), change(k, "one", true), change(k, "other", true)}
			}, audit: rotated, before: `{"keys": [` + one + `, ` + other + `], "memberships": 0}`, after: two, details: details},
		{name: "replace a key with an overlap", given: func(k *kit) {
			k.newKey(k.tenant, "ci", "one")
			k.role(k.tenant, "editor")
			k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindClient, "ci", "editor", time.Time{})) // which stays
			k.aFamily(k.tenant, 1, "ci", "alice", expiry)                                              // and so does this
		}, do: rotate(time.Hour), outcome: store.OutcomeDone,
			changes: func(k *kit) []store.Change { return []store.Change{change(k, "two", false), change(k, "one", false)} },
			audit:   rotated, before: `{"keys": [` + one + `], "memberships": 0}`, after: two, details: details},
	}
}

// openingWrites make tenants. What else becomes of them is in testOpenTenants.
func openingWrites() []aWrite {
	open := func(k *kit) (store.Result, error) {
		made, r, err := k.OpenTenant(k.ctx, k.by, store.NewTenant{Name: "opened"}, keyOf(0, "ci", "opener"))
		k.tenant = made.ID
		return r, err
	}
	create := func(k *kit) (store.Result, error) {
		made, r, err := k.CreateTenant(k.ctx, k.by, store.NewTenant{Name: "made", StrictUsers: true})
		k.tenant = made.ID
		return r, err
	}
	const state = `{"admitted": false}`
	return []aWrite{
		{name: "create a tenant", do: create, outcome: store.OutcomeDone, makes: true,
			changes: func(k *kit) []store.Change { return []store.Change{{Kind: store.ChangeTenant, Tenant: k.tenant}} },
			audit:   entry(store.ActionCreateTenant, "tenant/made", true), after: `{"admitted": false, "strict_users": true}`},
		{name: "open a tenant", do: open, outcome: store.OutcomeDone, makes: true,
			changes: func(k *kit) []store.Change {
				return []store.Change{{Kind: store.ChangeTenant, Tenant: k.tenant}, {Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("opener")}}
			},
			audit: entry(store.ActionCreateTenant, "tenant/opened", true), after: state, details: `{"client_key": "ci", "prefix": "opener-p"}`},
		{name: "open a tenant again", given: func(k *kit) { k.done(open(k)) }, do: open, outcome: store.OutcomeUnchanged, changes: noChanges,
			audit: entry(store.ActionCreateTenant, "tenant/opened", true), before: state, after: state},
	}
}

// importWrites take over another program's rows. What the rows become is in testImport.
func importWrites() []aWrite {
	batch := func(k *kit) store.ImportBatch {
		b := importOf(k.tenant)
		b.Tenants = append(b.Tenants, store.ImportTenant{Tenant: store.NewTenant{Name: "globex"}, Key: keyOf(0, "imported", "globex's")})
		return b
	}
	run := func(k *kit) (store.Result, error) {
		_, r, err := k.Import(k.ctx, k.by, "source", batch(k), "at 1", false)
		return r, err
	}
	imported := entry(store.ActionImport, "import/source", true)
	return []aWrite{
		{name: "import a batch", do: run, outcome: store.OutcomeDone, ofNone: true,
			changes: func(k *kit) []store.Change {
				acme, globex := k.tenantID("acme"), k.tenantID("globex")
				return []store.Change{
					{Kind: store.ChangeTenant, Tenant: acme}, {Kind: store.ChangeKey, Tenant: acme, Digest: digestOf("acme's")},
					{Kind: store.ChangeTenant, Tenant: globex}, {Kind: store.ChangeKey, Tenant: globex, Digest: digestOf("globex's")},
					{Kind: store.ChangeRoles, Tenant: k.tenant}, grantChange(policy.KindUser, "alice")(k)[0],
					{Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("hers")}, {Kind: store.ChangeKey, Tenant: k.tenant, Digest: digestOf("her former"), Gone: true},
				}
			}, audit: imported,
			after: `{"tenants": 2, "roles": 2, "permissions": 1, "memberships": 1, "api_keys": 2, "audit": 1, "done": false}`},
		{name: "import a batch again", given: func(k *kit) { k.done(run(k)) }, do: run, outcome: store.OutcomeUnchanged, changes: noChanges, ofNone: true,
			audit: imported, after: `{"tenants": 0, "roles": 0, "permissions": 0, "memberships": 0, "api_keys": 0, "audit": 0, "done": false}`},
		{name: "end an import", do: func(k *kit) (store.Result, error) {
			_, r, err := k.Import(k.ctx, k.by, "source", store.ImportBatch{}, "end", true)
			return r, err
		}, outcome: store.OutcomeDone, changes: noChanges, ofNone: true, audit: imported,
			after: `{"tenants": 0, "roles": 0, "permissions": 0, "memberships": 0, "api_keys": 0, "audit": 0, "done": true}`},
	}
}
