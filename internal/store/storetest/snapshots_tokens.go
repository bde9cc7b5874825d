package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// A secret is a client key or a refresh token of a tenant that somebody holds.
type aSecret struct {
	tenant store.TenantID
	text   string
}

// anEntry is an entry of the deny-list that somebody made.
type anEntry struct {
	id int64
	of denied
}

// heldTokens are what the writers know to use again.
type heldTokens struct {
	refresh []aSecret
	clients []aSecret // keys of clients "ci"
	openers []string  // keys that opened a tenant
	entries []anEntry
}

// keep runs fn under the world's lock.
func (w *world) keep(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// one is one of what fn gives, or not ok where there is none yet.
func one[T any](w *world, rng *rand.Rand, of func() []T) (picked T, ok bool) {
	w.keep(func() {
		if all := of(); len(all) > 0 {
			picked, ok = pick(rng, all...), true
		}
	})
	return picked, ok
}

// writeTokens is write for what tokens need. ok is false for what was refused, as others
// may have made it by then.
func (w *world) writeTokens(on *kit, rng *rand.Rand, tenant store.TenantID, secret string) (wr written, ok bool) {
	var err, refused error
	switch n := rng.IntN(16); {
	case n < 5:
		refused, err = w.writeDenials(on, rng, tenant, n, &wr)
	case n < 12:
		refused, err = w.writeRefresh(on, rng, tenant, n, secret, &wr)
	case n < 13:
		former, known := one(w, rng, func() []aSecret { return w.clients })
		if !known {
			return wr, false
		}
		wr.what, refused = "rotate key", store.ErrNotFound
		_, wr.result, err = on.RotateKey(w.ctx, w.by, rotationOf(former.tenant, former.text, secret, "try "+secret, 0))
		wr.apply = func(m *model, _ int64) verdict {
			v := m.createKey(former.tenant, "ci", digestOf(secret))
			v.changes = append(v.changes, m.retire(former.tenant, "ci", digestOf(secret))...)
			return v
		}
		if err == nil {
			w.keep(func() { w.clients = append(w.clients, aSecret{former.tenant, secret}) })
		}
	case n < 15:
		kid := pick(rng, "k1", "k2", "k3")
		switch rng.IntN(5) {
		case 0, 1:
			wr.what = "publish " + kid
			wr.result, err = on.PublishSigningKey(w.ctx, w.by, signerOf(kid))
			wr.apply = func(m *model, _ int64) verdict { return m.publish(kid) }
		case 2, 3:
			wr.what, refused = "sign with "+kid, store.ErrNotFound
			wr.result, err = on.SignWith(w.ctx, w.by, kid, expiry)
			wr.apply = func(m *model, _ int64) verdict { return m.signWith(kid) }
		default:
			wr.what, refused = "withdraw "+kid, store.ErrNotFound
			wr.result, err = on.WithdrawSigningKey(w.ctx, w.by, kid)
			wr.apply = func(m *model, _ int64) verdict { return m.withdraw(kid) }
		}
	default:
		err = w.writeTenants(on, rng, tenant, secret, &wr)
	}
	if wr.what == "" || err != nil && refused != nil && errors.Is(err, refused) {
		return wr, false
	}
	if err != nil {
		w.Errorf("%s: %v", wr.what, err)
	}
	return wr, err == nil
}

// marks are moments that denials name and families were begun at, in turns.
func moment(n int) time.Time { return expiry.Add(time.Duration(n-40) * time.Hour) }

func (w *world) writeDenials(on *kit, rng *rand.Rand, tenant store.TenantID, n int, wr *written) (refused, err error) {
	if n == 4 {
		e, known := one(w, rng, func() []anEntry { return w.entries })
		if !known {
			return nil, nil
		}
		wr.what = "allow"
		wr.result, err = on.Allow(w.ctx, w.by, e.of.tenant, e.id)
		wr.apply = func(m *model, _ int64) verdict { return m.allow(e.of) }
		return store.ErrNotFound, err
	}
	until := expiry.Add(time.Duration(rng.IntN(3)) * time.Hour)
	d := []store.NewDenial{
		denyUser(tenant, "ci", moment(2*rng.IntN(8)), until), denyUser(tenant, "ci", moment(2*rng.IntN(8)), until),
		denyToken(tenant, pick(rng, "j1", "j2"), until), denySigner(pick(rng, "k1", "k2"), until),
	}[n]
	wr.what = "deny " + d.Kind.String()
	var made store.Denial
	made, wr.result, err = on.Deny(w.ctx, w.by, d)
	wr.apply = func(m *model, _ int64) verdict { return m.deny(d) }
	if err == nil {
		w.keep(func() { w.entries = append(w.entries, anEntry{made.ID, deniedBy(d)}) })
	}
	return nil, err
}

func (w *world) writeRefresh(on *kit, rng *rand.Rand, tenant store.TenantID, n int, secret string, wr *written) (refused, err error) {
	if n < 8 {
		f := familyOf(tenant, 0, expiry)
		digest := digestOf("family of " + secret)
		copy(f.Family[:], digest[:])
		f.Client, f.User, f.Created = "ci", "ci", moment(2*rng.IntN(8)+1)
		wr.what = "start refresh tokens"
		wr.result, err = on.StartFamily(w.ctx, w.by, f, digestOf(secret), accessOf(secret, expiry))
		wr.apply = func(m *model, _ int64) verdict {
			return m.startFamily(&familyModel{tenant: tenant, client: f.Client, user: f.User, begun: f.Created.UnixNano(), access: []string{secret}}, secret)
		}
		if err == nil {
			w.keep(func() { w.refresh = append(w.refresh, aSecret{tenant, secret}) })
		}
		return nil, err
	}
	token, known := one(w, rng, func() []aSecret { return w.refresh[max(0, len(w.refresh)-12):] })
	if !known {
		return nil, nil
	}
	if n == 8 {
		wr.what = "revoke refresh tokens"
		wr.result, err = on.RevokeRefresh(w.ctx, w.by, token.tenant, "ci", digestOf(token.text))
		wr.apply = func(m *model, _ int64) verdict { return m.revokeRefresh(token.text) }
		return nil, err
	}
	wr.what = "use refresh token"
	_, wr.result, err = on.UseRefresh(w.ctx, w.by, token.tenant, "ci", digestOf(token.text), digestOf(secret), accessOf(secret, expiry))
	reused := errors.Is(err, store.ErrReused)
	wr.apply = func(m *model, _ int64) verdict { return m.useRefresh(token.text, secret, reused) }
	switch {
	case reused:
		return nil, nil
	case err == nil:
		w.keep(func() { w.refresh = append(w.refresh, aSecret{token.tenant, secret}) })
	}
	return store.ErrRevoked, err
}

func (w *world) writeTenants(on *kit, rng *rand.Rand, tenant store.TenantID, secret string, wr *written) (err error) {
	if rng.IntN(2) == 0 {
		opener, again := one(w, rng, func() []string { return w.openers })
		if again = again && rng.IntN(2) == 0; !again {
			opener = secret
		}
		var made store.Tenant
		wr.what = "open tenant"
		made, wr.result, err = on.OpenTenant(w.ctx, w.by, store.NewTenant{Name: "o-" + opener}, keyOf(0, "ci", opener))
		wr.apply = func(m *model, _ int64) verdict {
			if again {
				return unchanged
			}
			m.addTenant(made.ID, "o-"+opener, false, made.Key)
			return did(append([]store.Change{{Kind: store.ChangeTenant, Tenant: made.ID}}, m.createKey(made.ID, "ci", digestOf(opener)).changes...)...)
		}
		if err == nil && !again {
			w.keep(func() { w.openers = append(w.openers, opener) })
		}
		return err
	}
	role := pick(rng, "a", "b", "c", "d")
	key := userKeyOf(tenant, "ci", "user's "+secret)
	w.keep(func() { w.expiries += int64(time.Microsecond); key.Expires = time.Unix(0, w.expiries) })
	wr.what = "import"
	_, wr.result, err = on.Import(w.ctx, w.by, "source", store.ImportBatch{
		Roles:       []store.ImportRole{{Tenant: tenant, Name: role}},
		Permissions: []store.ImportPermission{{Tenant: tenant, Role: role, Name: "write"}},
		UserKeys:    []store.ImportUserKey{{NewUserKey: key}},
	}, fmt.Sprint("at ", secret), false)
	wr.apply = func(m *model, revision int64) verdict {
		changes := m.putRole(tenant, role, revision).changes
		if len(changes) > 0 {
			m.permission(tenant, role, "write", true)
		} else {
			changes = m.permission(tenant, role, "write", true).changes
		}
		return did(append(changes, m.userKey(key.Digest, &userKeyModel{tenant, "ci", key.Expires.UnixNano(), true}).changes...)...)
	}
	return err
}

// readToken reads a refresh token, and keeps what is known to be of one revision:
// nothing was committed while it was read.
func (w *world) readToken(on *kit, rng *rand.Rand) {
	token, known := one(w, rng, func() []aSecret { return w.refresh[max(0, len(w.refresh)-12):] })
	if !known {
		return
	}
	before, err := on.Head(w.ctx)
	w.noErr("head", err)
	got, err := on.Refresh(w.ctx, digestOf(token.text))
	there := !errors.Is(err, store.ErrNotFound)
	if there {
		w.noErr("refresh token", err)
	}
	after, err := on.Head(w.ctx)
	w.noErr("head", err)
	if before == after {
		w.see(sawToken(token.text, before.Revision, got, there))
	}
}

// revokedClient is what revoking a client's keys does beside the keys and memberships.
func (m *model) revokedClient(tenant store.TenantID, name string, changes []store.Change) []store.Change {
	changes = append(changes, m.revokeFamilies(tenant, func(f *familyModel) bool { return f.client == name })...)
	if len(changes) == 0 {
		return nil
	}
	return append(changes, m.putDenial(denied{kind: store.DenySubject, tenant: tenant, value: name, p: policy.KindClient}, storesTimes, storesTimes)...)
}
