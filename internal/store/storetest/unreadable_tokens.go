package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// testUnreadableTokens is what testUnreadable holds of the deny-list and of refresh
// tokens alone.
func testUnreadableTokens(t *testing.T, h Harness) {
	t.Run("refresh tokens of a user who does not open end with client and user", func(t *testing.T) {
		k := newSealedKit(t, h)
		k.newKey(k.tenant, "app", "one")
		begun := inMicroseconds(time.Now().Add(-time.Minute))
		for n, user := range []string{"alice", "bob", "alice"} {
			k.aFamily(k.tenant, byte(n+1), []string{"app", "app", "other"}[n], user, begun)
		}
		whole := h.Count(t, k.Store, "SELECT max(length(user_id)) FROM refresh_families")
		h.Exec(t, k.Store, "UPDATE refresh_families SET user_id = substr(user_id, 1, 30)")
		second := k.second()
		k.deny(denyUser(k.tenant, "alice", begun, expiry))
		k.inTrail(store.ActionDeny, `"refresh_families":2`)
		_, r, err := second.RevokeKeys(k.ctx, k.by, k.tenant, "app")
		k.done(r, err)
		k.inTrail(store.ActionRevokeClientKey, `"refresh_families":1`)
		if n := h.Count(t, k.Store, "SELECT count(*) FROM refresh_families WHERE revoked_at IS NULL"); n != 0 || whole <= 30 {
			t.Errorf("%d of 3 families live on; their users were %d long", n, whole)
		}
		if n := len(k.base().Denied); n != 5 {
			t.Errorf("%d denied, want three access tokens, alice and the client", n)
		}
	})

	t.Run("refresh tokens that were given another's index, and an entry that refuses another", func(t *testing.T) {
		// Whoever may write to the tables makes bob's token alice's, and mallory's mark trudy's.
		k := newSealedKit(t, h)
		k.aFamily(k.tenant, 1, "app", "alice", time.Time{})
		k.aFamily(k.tenant, 2, "app", "bob", time.Time{})
		d := k.deny(denyUser(k.tenant, "mallory", expiry.Add(-time.Hour), expiry))
		trudy := store.DenySubjectDigest(k.tenant, k.index(k.tenant, policy.KindUser, "trudy"), issuer)
		his := h.Count(t, k.Store, "SELECT max(id) FROM refresh_families")
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE refresh_families SET principal_index = (SELECT o.principal_index FROM refresh_families AS o WHERE o.id < %d) WHERE id = %d", his, his),
			fmt.Sprintf("UPDATE deny_list SET digest = %s WHERE id = %d", h.Bytes(trudy[:]), d.ID))
		for _, on := range []*kit{k, k.second()} {
			tokens := &damaged{kit: on, table: store.SealRefresh, column: "user_id", row: his}
			tokens.unreadable("his token", theError(on.Refresh(k.ctx, digestOf("token 2"))))
			_, _, err := on.UseRefresh(k.ctx, k.by, k.tenant, "app", digestOf("token 2"), digestOf("next"), accessOf("next", expiry))
			tokens.unreadable("the use of his token", err)
			entries := &damaged{kit: on, table: store.SealDenials, column: "principal_id", row: d.ID}
			entries.unreadable("the deny-list", theError(on.DenialList(k.ctx, k.tenant, 0, 10)))
		}
		k.refreshed("token 1", "her next", accessOf("her next", expiry))
		k.done(k.Allow(k.ctx, k.by, k.tenant, d.ID))
	})

	t.Run("what a rotation left of the deny-list and of refresh tokens is taken away", func(t *testing.T) {
		k := newSealedKit(t, h)
		d := k.deny(denyUser(k.tenant, "alice", expiry.Add(-time.Hour), expiry))
		k.deny(denyUser(k.tenant, "bob", expiry.Add(-time.Hour), expiry))
		k.aFamily(k.tenant, 1, "app", "carol", time.Time{})
		k.aFamily(k.tenant, 2, "app", "dave", time.Time{})
		h.Exec(t, k.Store, fmt.Sprintf("UPDATE deny_list SET principal_id = substr(principal_id, 1, 30) WHERE id = %d", d.ID),
			"UPDATE refresh_families SET user_id = substr(user_id, 1, 30) WHERE id = (SELECT min(id) FROM refresh_families)")
		k.done(k.BeginRotation(k.ctx, k.by, store.RotateDeep))
		k.done(k.BeginTenant(k.ctx, k.by, k.tenant))
		var left []string
		if _, _, done, err := k.Reseal(k.ctx, k.tenant, store.ResealCursor{}, 100, func(err error) { left = append(left, err.Error()) }); err != nil || !done || len(left) != 2 ||
			!strings.Contains(strings.Join(left, " "), "deny_list.principal_id of row ") || !strings.Contains(strings.Join(left, " "), "refresh_families.user_id of row ") {
			t.Fatalf("left as they are: %q, done %v, %v; want an entry and a family", left, done, err)
		}
		k.done(k.FinishTenant(k.ctx, k.by, k.tenant))
		k.wantAllUnder(k.tenant, k.keyOf(k.tenant))
		second := k.second()
		k.done(second.Allow(k.ctx, k.by, k.tenant, d.ID))
		k.wantDenied("allowed", k.markOf(denyUser(k.tenant, "bob", expiry.Add(-time.Hour), expiry)))
		if list := k.denials(k.tenant); len(list) != 1 || list[0].Value != "bob" {
			t.Errorf("list %+v, want bob alone", list)
		}
		k.done(second.RevokeRefresh(k.ctx, k.by, k.tenant, "app", digestOf("token 1")))
		k.refusedRefresh(store.ErrRevoked, k.tenant, "app", "token 1")
		k.refreshed("token 2", "next", accessOf("next", expiry))
	})
}

func checkDenial(d *damaged) {
	d.unreadable("the deny-list", theError(d.DenialList(d.ctx, d.tenant, 0, 10)))
	d.sound("the entries after it", theError(d.DenialList(d.ctx, d.tenant, d.row, 10)))
	// It denies whom it denied.
	mallory, trudy := denyUser(d.tenant, "mallory", expiry.Add(-time.Hour), expiry), denyUser(d.tenant, "trudy", expiry.Add(-time.Hour), expiry)
	for _, denied := range []store.NewDenial{mallory, trudy} {
		if got := d.base().Denied; !slices.Contains(got, d.markOf(denied)) {
			d.Errorf("denied are %v, without %s", got, denied.Value)
		}
		if made, r, err := d.Deny(d.ctx, d.by, denied); err != nil || r.Outcome != store.OutcomeUnchanged || made.Value != denied.Value {
			d.Errorf("denied again: %+v, outcome %q, error %v", made, r.Outcome, err)
		}
	}
}

func mendDenial(d *damaged) {
	mallory := d.markOf(denyUser(d.tenant, "mallory", expiry.Add(-time.Hour), expiry))
	before := d.head()
	d.done(d.Allow(d.ctx, d.by, d.tenant, d.row))
	d.wantChanges("allowed", before, denialGone(d.tenant, mallory))
	d.wantTrail(store.ActionAllow, `"issuer":"`+issuer+`"`)
	if entries, _ := d.audit(d.tenant); entries[0].User != store.Unreadable {
		d.Errorf("the trail says that %q is allowed", entries[0].User)
	}
	if list := d.denials(d.tenant); len(list) != 1 || list[0].Value != "trudy" {
		d.Errorf("list %+v, want trudy alone", list)
	}
}

func checkFamily(d *damaged) {
	hers, his := digestOf(fmt.Sprintf("%d refresh", d.tenant)), digestOf("token 100")
	d.unreadable("the token", theError(d.Refresh(d.ctx, hers)))
	d.sound("another's token", theError(d.Refresh(d.ctx, his)))
	before := d.head()
	_, _, err := d.UseRefresh(d.ctx, d.by, d.tenant, "app", hers, digestOf("next"), accessOf("next", expiry))
	d.unreadable("the use of the token", err)
	if d.head() != before {
		d.Error("a use that was refused took a revision")
	}
	_, err = d.Refresh(d.ctx, digestOf("next"))
	d.wantErr(err, store.ErrNotFound)
}

func mendFamily(d *damaged) {
	hers := digestOf(fmt.Sprintf("%d refresh", d.tenant))
	before := d.head()
	d.done(d.RevokeRefresh(d.ctx, d.by, d.tenant, "app", hers))
	access := accessMark(d.tenant, accessOf(fmt.Sprintf("%d jti", d.tenant), expiry))
	d.wantChanges("revoked", before, denialChange(d.tenant, access))
	d.wantTrail(store.ActionRevokeToken, `"client":"app"`)
	if entries, _ := d.audit(d.tenant); entries[0].User != store.Unreadable {
		d.Errorf("the trail says that %q's tokens are revoked", entries[0].User)
	}
	_, _, err := d.UseRefresh(d.ctx, d.by, d.tenant, "app", hers, digestOf("next"), accessOf("next", expiry))
	d.wantErr(err, store.ErrRevoked)
	d.refreshed("token 100", "his next", accessOf("his next", expiry))
}
