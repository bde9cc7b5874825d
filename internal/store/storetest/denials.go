package storetest

import (
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

const issuer = "https://issuer.example"

func denyToken(tenant store.TenantID, jti string, expires time.Time) store.NewDenial {
	return store.NewDenial{Kind: store.DenyToken, Tenant: tenant, Issuer: issuer, Value: jti, Expires: expires}
}

func denyUser(tenant store.TenantID, user string, before, expires time.Time) store.NewDenial {
	return store.NewDenial{Kind: store.DenySubject, Tenant: tenant, Issuer: issuer, Value: user, Principal: policy.KindUser, Before: before, Expires: expires}
}

func denySigner(kid string, expires time.Time) store.NewDenial {
	return store.NewDenial{Kind: store.DenyKey, Issuer: issuer, Value: kid, Expires: expires}
}

func (k *kit) deny(d store.NewDenial) store.Denial {
	k.Helper()
	made, r, err := k.Deny(k.ctx, k.by, d)
	k.done(r, err)
	return made
}

// markOf is the entry as a sidecar must hold it.
func (k *kit) markOf(d store.NewDenial) store.DenyMark {
	k.Helper()
	m := store.DenyMark{Tenant: d.Tenant, Expires: d.Expires.UnixNano()}
	switch d.Kind {
	case store.DenyToken:
		m.Digest = store.DenyTokenDigest(d.Tenant, d.Issuer, d.Value)
	case store.DenySubject:
		m.Digest = store.DenySubjectDigest(d.Tenant, k.index(d.Tenant, d.Principal, d.Value), d.Issuer)
		m.Before = d.Before.UnixNano()
	case store.DenyKey:
		m.Digest = store.DenyKeyDigest(d.Issuer, d.Value)
	}
	return m
}

func denialChange(tenant store.TenantID, m store.DenyMark) store.Change {
	return store.Change{Kind: store.ChangeDenial, Tenant: tenant, Digest: m.Digest, Before: m.Before, Expires: m.Expires}
}

func denialGone(tenant store.TenantID, m store.DenyMark) store.Change {
	return store.Change{Kind: store.ChangeDenial, Tenant: tenant, Digest: m.Digest, Gone: true}
}

// clientDenial is the change that denies a client's tokens, with the times that the
// store gave it: testDenials holds them to the contract.
func (k *kit) clientDenial(tenant store.TenantID, name string) store.Change {
	k.Helper()
	digest := store.DenySubjectDigest(tenant, k.index(tenant, policy.KindClient, name), "")
	for _, m := range k.base().Denied {
		if m.Digest == digest {
			return denialChange(tenant, m)
		}
	}
	k.Errorf("the tokens of client %q of tenant %d are not denied", name, tenant)
	return store.Change{}
}

func (k *kit) base() store.Base {
	k.Helper()
	return must[store.Base](k)(k.Bootstrap(k.ctx, func(store.Digest) error { return nil }))
}

// wantDenied compares what a full load denies, in any order.
func (k *kit) wantDenied(when string, want ...store.DenyMark) {
	k.Helper()
	got := k.base().Denied
	same := len(got) == len(want)
	for _, m := range want {
		same = same && slices.Contains(got, m)
	}
	if !same {
		k.Errorf("%s: a full load denies %v, want %v", when, got, want)
	}
}

// wantWritten compares the changes since before with those of one write.
func (k *kit) wantWritten(before store.Revision, r store.Result, want ...store.Change) {
	k.Helper()
	for i := range want {
		want[i].Revision = r.Revision.Number
	}
	if got := k.delta(before).Changes; !sameChanges(got, want) {
		k.Errorf("changes\n got %v\nwant %v", got, want)
	}
}

func (k *kit) denials(tenant store.TenantID) []store.Denial {
	k.Helper()
	return must[[]store.Denial](k)(k.DenialList(k.ctx, tenant, 0, 1000))
}

func sameDenial(a, b store.Denial) bool {
	ok := a.Before.Equal(b.Before) && a.Expires.Equal(b.Expires) && sameTime(a.Created, b.Created)
	for _, d := range []*store.Denial{&a, &b} {
		d.Before, d.Expires, d.Created = time.Time{}, time.Time{}, time.Time{}
	}
	return ok && a == b
}

// denialTimes are two marks and an expiry that every store keeps as they are.
func denialTimes() (mark, later, expires time.Time) {
	now := inMicroseconds(time.Now())
	return now.Add(-time.Minute), now, now.Add(time.Hour)
}

func testDenials(t *testing.T, h Harness) {
	mark, later, expires := denialTimes()
	t.Run("each kind is told whole and one by one, and taken away", func(t *testing.T) {
		k := newKit(t, h)
		client := store.NewDenial{Kind: store.DenySubject, Tenant: k.tenant, Value: "alice", Principal: policy.KindClient, Before: mark, Expires: expires}
		var marks []store.DenyMark
		for _, d := range []store.NewDenial{
			denyToken(k.tenant, "jti", expires), denyToken(k.tenant, "a' --", expires), denyUser(k.tenant, "alice", mark, expires), client, denySigner("kid", expires),
		} {
			before := k.head()
			made, r, err := k.Deny(k.ctx, k.by, d)
			k.done(r, err)
			if made.ID < 1 || !about(made.Created, time.Now(), time.Now()) || !sameDenial(made, store.Denial{NewDenial: d, ID: made.ID, Created: made.Created}) {
				t.Errorf("made %+v of %+v", made, d)
			}
			marks = append(marks, k.markOf(d))
			k.wantWritten(before, r, denialChange(d.Tenant, k.markOf(d)))
			if list := k.denials(d.Tenant); len(list) == 0 || !sameDenial(list[len(list)-1], made) {
				t.Errorf("list %+v, want %+v at its end", list, made)
			}
			k.wantDenied(d.Value, marks...)
			k.second().wantDenied("another process", marks...)
		}
		for _, tenant := range []store.TenantID{k.tenant, 0} {
			for _, d := range k.denials(tenant) {
				before, m := k.head(), k.markOf(d.NewDenial)
				r := k.done(k.Allow(k.ctx, k.by, tenant, d.ID))
				k.wantWritten(before, r, denialGone(tenant, m))
				marks = slices.DeleteFunc(marks, func(other store.DenyMark) bool { return other == m })
				k.wantDenied("taken away", marks...)
				_, err := k.Allow(k.ctx, k.by, tenant, d.ID)
				k.wantErr(err, store.ErrNotFound)
			}
		}
		k.wantDenied("all taken away")
	})

	t.Run("of two the later before and the later expiry stay", func(t *testing.T) {
		k := newKit(t, h)
		first := k.deny(denyUser(k.tenant, "alice", later, expires))
		for _, c := range []struct {
			name            string
			before, expires time.Time
			outcome         store.Outcome
			want            store.NewDenial
		}{
			{"the same", later, expires, store.OutcomeUnchanged, denyUser(k.tenant, "alice", later, expires)},
			{"both earlier", mark, expires.Add(-time.Minute), store.OutcomeUnchanged, denyUser(k.tenant, "alice", later, expires)},
			{"a later expiry, an earlier before", mark, expires.Add(time.Minute), store.OutcomeDone, denyUser(k.tenant, "alice", later, expires.Add(time.Minute))},
			{"a later before, an earlier expiry", later.Add(time.Second), expires, store.OutcomeDone, denyUser(k.tenant, "alice", later.Add(time.Second), expires.Add(time.Minute))},
		} {
			before := k.head()
			made, r, err := k.Deny(k.ctx, k.by, denyUser(k.tenant, "alice", c.before, c.expires))
			if err != nil || r.Outcome != c.outcome || !sameDenial(made, store.Denial{NewDenial: c.want, ID: first.ID, Created: first.Created}) {
				t.Errorf("%s: %+v, outcome %q, error %v; want %+v, %q", c.name, made, r.Outcome, err, c.want, c.outcome)
			}
			if c.outcome == store.OutcomeDone {
				k.wantWritten(before, r, denialChange(k.tenant, k.markOf(c.want)))
			} else {
				k.wantWritten(before, r)
			}
			k.wantDenied(c.name, k.markOf(c.want))
		}
	})

	t.Run("a tenant's entries are its own", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		mine := k.deny(denyToken(k.tenant, "jti", expires))
		theirs := k.deny(denyToken(acme, "jti", expires))
		k.deny(denyUser(acme, "alice", mark, expires))
		if list := k.denials(k.tenant); len(list) != 1 || list[0].ID != mine.ID {
			t.Errorf("list %+v, want %+v alone", list, mine)
		}
		if list := k.denials(0); len(list) != 0 {
			t.Errorf("signing keys that are denied: %+v", list)
		}
		before := k.head()
		for _, tenant := range []store.TenantID{k.tenant, 0} {
			_, err := k.Allow(k.ctx, k.by, tenant, theirs.ID)
			k.wantErr(err, store.ErrNotFound)
		}
		if k.head() != before || len(k.denials(acme)) != 2 {
			t.Errorf("another tenant's hand took an entry away: %+v", k.denials(acme))
		}
	})

	t.Run("what has expired is not told, and pruning takes it away without a revision", func(t *testing.T) {
		k := newKit(t, h)
		past := inMicroseconds(time.Now().Add(-time.Hour))
		gone, lives := k.deny(denyToken(k.tenant, "past", past)), denyToken(k.tenant, "lives", expires)
		k.deny(lives)
		k.wantDenied("before pruning", k.markOf(lives))
		if list := k.denials(k.tenant); len(list) != 1 || list[0].Value != "lives" {
			t.Errorf("list %+v, want the one that has not expired", list)
		}
		head, rows := k.head(), k.allAudit(0)
		if err := k.PruneDenials(k.ctx); err != nil {
			t.Fatal(err)
		}
		if k.head() != head || k.allAudit(0) != rows {
			t.Error("pruning took a revision or left an audit row")
		}
		if n := h.Count(t, k.Store, "SELECT count(*) FROM deny_list"); n != 1 {
			t.Errorf("%d rows after pruning, want 1", n)
		}
		k.wantDenied("after pruning", k.markOf(lives))
		_, err := k.Allow(k.ctx, k.by, k.tenant, gone.ID)
		k.wantErr(err, store.ErrNotFound)
	})

	t.Run("the list comes in pages, by id", func(t *testing.T) {
		k := newKit(t, h)
		var want, got []int64
		for _, jti := range []string{"c", "a", "d", "b", "e"} {
			want = append(want, k.deny(denyToken(k.tenant, jti, expires)).ID)
		}
		for after := int64(0); ; {
			page := must[[]store.Denial](k)(k.DenialList(k.ctx, k.tenant, after, 2))
			if len(page) > 2 {
				t.Fatalf("a page of %d", len(page))
			}
			if len(page) == 0 {
				break
			}
			for _, d := range page {
				got, after = append(got, d.ID), d.ID
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("ids %v, want %v", got, want)
		}
		for _, limit := range []int{-1, 0, 1001} {
			if _, err := k.DenialList(k.ctx, k.tenant, 0, limit); err == nil {
				t.Errorf("a page of %d was given", limit)
			}
		}
	})

	t.Run("revoking a client's secrets denies its tokens, and no one else's", func(t *testing.T) {
		k := newKit(t, h)
		k.newKey(k.tenant, "ci", "one")
		from := time.Now()
		_, r, err := k.RevokeKeys(k.ctx, k.by, k.tenant, "ci")
		k.done(r, err)
		list := k.denials(k.tenant)
		if len(list) != 1 {
			t.Fatalf("list %+v, want one entry", list)
		}
		d := list[0]
		if d.Kind != store.DenySubject || d.Principal != policy.KindClient || d.Value != "ci" || d.Issuer != "" || !about(d.Before, from, time.Now()) {
			t.Errorf("denied %+v", d)
		}
		if reach := d.Expires.Sub(d.Before); reach != 24*time.Hour+time.Minute {
			t.Errorf("it stands for %s: a token may live for a day, and a minute of skew", reach)
		}
		k.wantDenied("revoked", k.markOf(d.NewDenial))
	})
}

// testDenialsRotated: a denied subject stays denied while keys change. What it is
// looked up by changes with the tenant's key, in the same write.
func testDenialsRotated(t *testing.T, h Harness) {
	mark, _, expires := denialTimes()
	for _, kind := range rotationKinds {
		t.Run(kind.String(), func(t *testing.T) {
			k := newKitFor(t, h, kind)
			acme := k.newTenant("acme")
			alice, token, theirs := denyUser(k.tenant, "alice", mark, expires), denyToken(k.tenant, "jti", expires), denyUser(acme, "alice", mark, expires)
			for _, d := range []store.NewDenial{alice, token, theirs} {
				k.deny(d)
			}
			former := k.markOf(alice)
			k.done(k.BeginRotation(k.ctx, k.by, kind))
			before := k.head()
			r := k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
			current := k.markOf(alice)
			if current.Digest == former.Digest {
				t.Fatal("the digest did not change: the test proves nothing")
			}
			var denials []store.Change
			for _, c := range k.delta(before).Changes {
				if c.Kind == store.ChangeDenial {
					denials = append(denials, c)
				}
			}
			want := []store.Change{denialGone(k.tenant, former), denialChange(k.tenant, current)}
			for i := range want {
				want[i].Revision = r.Revision.Number
			}
			if !sameChanges(denials, want) {
				t.Errorf("changes\n got %v\nwant %v", denials, want)
			}
			k.wantDenied("begun", current, k.markOf(token), k.markOf(theirs))
			for _, tenant := range must[[]store.TenantID](k)(k.RotationTenants(k.ctx, 10)) {
				if tenant != k.tenant {
					k.done(k.BeginTenant(k.ctx, k.by, tenant))
				}
				k.resealAll(tenant, 2, k.alone)
				k.done(k.FinishTenant(k.ctx, k.by, tenant))
			}
			k.done(k.FinishRotation(k.ctx, k.by))
			k.wantDenied("at the end", k.markOf(alice), k.markOf(token), k.markOf(theirs))
			list := k.denials(k.tenant)
			if len(list) != 2 || list[0].Value != "alice" || list[1].Value != "jti" {
				t.Errorf("list %+v", list)
			}
			// One that is there is found under the new key.
			if _, r, err := k.Deny(k.ctx, k.by, alice); err != nil || r.Outcome != store.OutcomeUnchanged {
				t.Errorf("denied again: outcome %q, error %v", r.Outcome, err)
			}
		})
	}
}
