package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portcullis/internal/chain"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// runChained runs the groups whose writes leave the most different rows, on chained
// databases: after each test the whole chain must verify.
func runChained(t *testing.T, h Harness) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Writes", testWrites},
		{"UserKeys", testUserKeys},
		{"KeyRotations", testKeyRotations},
		{"RefreshTokens", testRefreshTokens},
		{"Import", testImport},
		{"OpenTenants", testOpenTenants},
		{"Audit", testAudit},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, h) })
	}
}

// newChainedKit is a store whose audit is chained, and is verified at the end.
func newChainedKit(t *testing.T, h Harness) *kit {
	t.Helper()
	k := openKit(t, h, sealing.ChainKeys{Audit: newMasters(t)})
	k.done(k.StartChain(k.ctx, k.by))
	t.Cleanup(func() {
		if k.ctx.Err() == nil && !t.Failed() {
			k.wantWhole("at the end")
		}
	})
	return k
}

// faults verifies every chain.
func (k *kit) faults(points ...chain.Checkpoint) []chain.Fault {
	k.Helper()
	var faults []chain.Fault
	_, err := store.VerifyAudit(k.ctx, k.Store, store.Verification{Points: points, Found: func(f chain.Fault) { faults = append(faults, f) }})
	if err != nil {
		k.Fatalf("verify the audit: %v", err)
	}
	return faults
}

func (k *kit) wantWhole(when string, points ...chain.Checkpoint) {
	k.Helper()
	for _, f := range k.faults(points...) {
		k.Errorf("%s: %s", when, f)
	}
}

func (k *kit) checkpoint(tenant store.TenantID) chain.Checkpoint {
	k.Helper()
	key := must[*chain.Key](k)(k.ChainKey(k.ctx))
	head := must[store.ChainHead](k)(k.ChainHead(k.ctx, tenant))
	return key.Check(head.Head, time.Now())
}

// fill makes 2n + 1 rows in the audit of default, and one in that of no tenant.
func (k *kit) fill(n int) {
	k.Helper()
	for range n {
		name := fmt.Sprintf("role-%d", k.head().Number)
		k.role(k.tenant, name)
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", name, time.Time{}))
	}
	if err := k.RecordAudit(k.ctx, []store.AuditEntry{
		{Actor: "unknown", Action: store.ActionAuthFailed, Outcome: "denied", Address: "192.0.2.1"},
		{Tenant: k.tenant, Actor: "client:ci", User: "bob", Action: store.ActionCheckPermission, Outcome: "denied"},
	}); err != nil {
		k.Fatal(err)
	}
}

func testAuditChain(t *testing.T, h Harness) {
	keys := func(t *testing.T) sealing.ChainKeys { return sealing.ChainKeys{Audit: newMasters(t)} }
	isChain := func(t *testing.T, what string, err error, words ...string) {
		t.Helper()
		if !errors.Is(err, store.ErrChain) {
			t.Errorf("%s: %v, want ErrChain", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", what, err, w)
			}
		}
	}

	t.Run("without a key nothing is chained, and verifying says so", func(t *testing.T) {
		k := openKit(t, h, sealing.ChainKeys{})
		k.fill(2)
		state := must[store.AuditState](k)(k.AuditState(k.ctx))
		if !state.Enabled || state.Chained || state.Holder != "" {
			t.Errorf("state %+v", state)
		}
		_, err := k.StartChain(k.ctx, k.by)
		isChain(t, "start without a key", err, "AUTH_AUDIT_KEY")
		_, err = k.ChainKey(k.ctx)
		isChain(t, "the key", err, "AUTH_AUDIT_KEY")
		_, err = k.RewrapChain(k.ctx, k.by)
		isChain(t, "rewrap", err)
		_, err = store.VerifyAudit(k.ctx, k.Store, store.Verification{Found: func(chain.Fault) {}})
		isChain(t, "verify", err)
	})

	t.Run("a chain begins over what is there, once", func(t *testing.T) {
		with := keys(t)
		k := openKit(t, h, with)
		k.fill(3)
		k.done(k.StartChain(k.ctx, k.by))
		k.wantWhole("begun")
		if r, err := k.StartChain(k.ctx, k.by); err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("again: %v, %v", r, err)
		}
		k.fill(4)
		k.newTenant("acme")
		k.wantWhole("filled", k.checkpoint(k.tenant), k.checkpoint(0))
		k.second().fill(5)
		k.wantWhole("filled by another process")
		state := must[store.AuditState](k)(k.AuditState(k.ctx))
		if !state.Chained || state.Holder != sealing.HeldByAudit || state.Master != string(with.Audit.First()) {
			t.Errorf("state %+v", state)
		}
		anchor, _, err := k.ChainAnchor(k.ctx, k.tenant)
		if err != nil || anchor == nil || anchor.Rows != 7 || anchor.Number != 0 {
			t.Errorf("anchor %+v, error %v; want one over 7 rows", anchor, err)
		}
		head := must[store.ChainHead](k)(k.ChainHead(k.ctx, k.tenant))
		if head.Number != 20 {
			t.Errorf("head %+v, want number 20", head)
		}
		if _, total := k.audit(k.tenant); total != 27 {
			t.Errorf("%d rows, want 27", total)
		}
	})

	t.Run("who cannot open the secret writes nothing", func(t *testing.T) {
		with := keys(t)
		k := openKit(t, h, with)
		early := k.secondOn(sealing.ChainKeys{}) // from before the chain
		k.done(k.StartChain(k.ctx, k.by))
		before := k.head()
		_, err := early.PutRole(k.ctx, k.by, k.tenant, "editor", nil)
		isChain(t, "a write", err, "AUTH_AUDIT_KEY", string(with.Audit.First()))
		isChain(t, "a row", early.RecordAudit(k.ctx, []store.AuditEntry{{Tenant: k.tenant, Actor: "x", Action: store.ActionGetAudit}}))
		if k.head() != before {
			t.Error("the revision moved")
		}
		if _, total := k.audit(k.tenant); total != 0 {
			t.Errorf("%d rows", total)
		}
		for what, keys := range map[string]sealing.ChainKeys{"no key": {}, "another key": {Audit: newMasters(t)}, "a master": {Encryption: newMasters(t)}} {
			_, err := h.Reopen(t, k.Store, keys)
			isChain(t, "open with "+what, err, "AUTH_AUDIT_KEY")
		}
		k.wantWhole("at the end")
	})

	t.Run("the secret moves to another key, and the chain stays", func(t *testing.T) {
		old, young := sealing.NewMaster(), sealing.NewMaster()
		k := openKit(t, h, sealing.ChainKeys{Audit: newMasters(t, old)})
		k.done(k.StartChain(k.ctx, k.by))
		k.fill(2)
		if r, err := k.RewrapChain(k.ctx, k.by); err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("under its own key: %v, %v", r, err)
		}
		both := k.secondOn(sealing.ChainKeys{Audit: newMasters(t, young, old)})
		both.fill(3)
		both.done(both.RewrapChain(k.ctx, k.by))
		_, err := k.PutRole(k.ctx, k.by, k.tenant, "late", nil)
		isChain(t, "a write under the old key alone", err)
		alone := k.secondOn(sealing.ChainKeys{Audit: newMasters(t, young)})
		alone.fill(4)
		alone.wantWhole("rewrapped")
		if text := must[store.AuditState](k)(alone.AuditState(k.ctx)).Master; text != string(newMasters(t, young).First()) {
			t.Errorf("wrapped under %s", text)
		}
	})

	t.Run("the encryption's master wraps it where there is no key of its own", func(t *testing.T) {
		old, young := sealing.NewMaster(), sealing.NewMaster()
		k := openKit(t, h, sealing.ChainKeys{Encryption: newMasters(t, old)})
		k.fill(2)
		_, err := k.StartChain(k.ctx, k.by)
		isChain(t, "start in clear", err, "AUTH_AUDIT_KEY")
		k.rotate(store.RotateEnable, 100, k.alone)
		k.done(k.StartChain(k.ctx, k.by))
		k.fill(3)
		if state := must[store.AuditState](k)(k.AuditState(k.ctx)); state.Holder != sealing.HeldByEncryption {
			t.Errorf("state %+v", state)
		}
		both := k.secondWith(newMasters(t, young, old))
		if e := must[store.Encryption](k)(both.Encryption(k.ctx)); e.OtherMasters != 0 {
			t.Errorf("%d keys under other masters", e.OtherMasters)
		}
		_, _, err = both.Rewrap(k.ctx, k.by)
		if err != nil {
			t.Fatal(err)
		}
		alone := k.secondWith(newMasters(t, young))
		alone.fill(4)
		for _, kind := range []store.RotationKind{store.RotateDeep, store.RotateDisable, store.RotateEnable} {
			alone.rotate(kind, 3, alone.alone)
			alone.wantWhole("after a rotation: "+kind.String(), alone.checkpoint(0), alone.checkpoint(k.tenant))
		}
		audit := alone.secondOn(sealing.ChainKeys{Audit: newMasters(t, old), Encryption: newMasters(t, young)})
		audit.done(audit.RewrapChain(k.ctx, k.by))
		if state := must[store.AuditState](k)(audit.AuditState(k.ctx)); state.Holder != sealing.HeldByAudit {
			t.Errorf("state %+v", state)
		}
		audit.wantWhole("with a key of its own")
	})

	t.Run("in the middle of a rotation", func(t *testing.T) {
		k := openKit(t, h, sealing.ChainKeys{Encryption: newMasters(t), Audit: newMasters(t)})
		k.fill(3)
		k.done(k.StartChain(k.ctx, k.by))
		k.rotate(store.RotateEnable, 2, func(step string) *kit {
			k.fill(1 + len(step)%3)
			k.wantWhole("before " + step)
			return k
		})
		k.wantWhole("at the end")
	})

	t.Run("many writers, one chain", func(t *testing.T) {
		k := newChainedKit(t, h)
		var all sync.WaitGroup
		for n, on := range []*kit{k, k, k.second(), k.second()} {
			all.Go(func() {
				for i := range 10 {
					if n%2 == 0 {
						if _, err := on.PutRole(k.ctx, k.by, k.tenant, fmt.Sprintf("r%d-%d", n, i), nil); err != nil {
							t.Error(err)
						}
						continue
					}
					rows := []store.AuditEntry{{Tenant: k.tenant, Actor: "a", Action: store.ActionGetAudit}, {Actor: "b", Action: store.ActionAuthFailed}}
					if i%2 == 0 {
						slices.Reverse(rows)
					}
					if err := on.RecordAudit(k.ctx, rows); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 5 {
			k.wantWhole("meanwhile")
		}
		all.Wait()
		if head := must[store.ChainHead](k)(k.ChainHead(k.ctx, k.tenant)); head.Number != 40 {
			t.Errorf("head %+v, want number 40", head)
		}
	})

	t.Run("turned off, and on again", func(t *testing.T) {
		k := newChainedKit(t, h)
		k.fill(1)
		_, before := k.audit(k.tenant)
		k.done(k.SetAudit(k.ctx, k.by, false))
		if r, err := k.SetAudit(k.ctx, k.by, false); err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("again: %v, %v", r, err)
		}
		k.second().fill(2)
		if _, total := k.audit(k.tenant); total != before {
			t.Errorf("%d rows, want %d", total, before)
		}
		if must[store.AuditState](k)(k.AuditState(k.ctx)).Enabled {
			t.Error("it is on")
		}
		k.done(k.SetAudit(k.ctx, k.by, true))
		k.fill(3)
		if _, total := k.audit(k.tenant); total != before+7 {
			t.Errorf("%d rows, want %d", total, before+7)
		}
		var said []store.Action
		rows, _ := k.audit(0)
		for _, e := range rows {
			if e.Resource == store.AuditResource || e.Resource == "" {
				said = append(said, e.Action)
			}
		}
		if !slices.Contains(said, store.ActionAuditOff) || !slices.Contains(said, store.ActionAuditOn) {
			t.Errorf("the audit says %v", said)
		}
	})

	t.Run("a secret that is gone is not replaced", func(t *testing.T) {
		with := keys(t)
		k := openKit(t, h, with)
		k.done(k.StartChain(k.ctx, k.by))
		k.fill(1)
		h.Exec(t, k.Store, `UPDATE audit_state SET wrapped = '', holder = '', master = ''`)
		_, err := k.StartChain(k.ctx, k.by)
		isChain(t, "begin anew", err, "backup")
		_, err = k.PutRole(k.ctx, k.by, k.tenant, "after", nil)
		isChain(t, "a write without the secret", err, "backup")
	})

	t.Run("pruned, and whole", func(t *testing.T) {
		k := openKit(t, h, keys(t))
		k.fill(2)
		k.done(k.StartChain(k.ctx, k.by))
		k.fill(3)
		late := k.checkpoint(k.tenant)
		time.Sleep(2 * time.Millisecond)
		cut := time.Now()
		time.Sleep(2 * time.Millisecond)
		k.fill(4)
		if n, r, err := k.PruneAudit(k.ctx, k.by, k.tenant, cut.Add(-time.Hour)); n != 0 || err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("nothing is so old: %d rows, %v, %v", n, r, err)
		}
		n, r, err := k.PruneAudit(k.ctx, k.by, k.tenant, cut)
		k.done(r, err)
		if n != 12 {
			t.Errorf("%d rows went, want 12", n)
		}
		k.wantWhole("pruned", late, k.checkpoint(k.tenant))
		k.fill(5)
		k.wantWhole("and written to", late)
		rows, total := k.audit(k.tenant)
		if total != 9+1+11 {
			t.Errorf("%d rows remain", total)
		}
		if i := slices.IndexFunc(rows, func(e store.AuditEntry) bool { return e.Action == store.ActionPruneAudit }); i < 0 {
			t.Error("the audit does not tell of the pruning")
		}
		if _, _, err := k.PruneAudit(k.ctx, k.by, k.tenant, time.Now().Add(time.Hour)); err == nil {
			t.Error("what is to come was pruned")
		}
	})

	t.Run("pruned in the middle of what is in no chain", func(t *testing.T) {
		k := openKit(t, h, keys(t))
		k.fill(2)
		time.Sleep(2 * time.Millisecond)
		cut := time.Now()
		time.Sleep(2 * time.Millisecond)
		k.fill(3)
		k.done(k.StartChain(k.ctx, k.by))
		k.fill(1)
		n, r, err := k.PruneAudit(k.ctx, k.by, k.tenant, cut)
		k.done(r, err)
		if n != 5 {
			t.Errorf("%d rows went, want 5", n)
		}
		k.wantWhole("pruned")
		h.Exec(t, k.Store, fmt.Sprintf(`UPDATE audit SET request_id = 'x' WHERE id = (SELECT min(id) FROM audit WHERE tenant_id = %d)`, k.tenant))
		if got := faultKinds(k.faults()); got != "unanchored" {
			t.Errorf("found %s", got)
		}
		_, _, err = k.PruneAudit(k.ctx, k.by, k.tenant, time.Now())
		isChain(t, "pruning the proof away", err, "audit verify")
	})

	if !h.Brief {
		testTampering(t, h)
	}
}

// faultKinds are the kinds of the faults, each once, in the order in which they were
// found.
func faultKinds(faults []chain.Fault) string {
	var all []string
	for _, f := range faults {
		if !slices.Contains(all, string(f.Kind)) {
			all = append(all, string(f.Kind))
		}
	}
	return strings.Join(all, " ")
}

// insertRow is a row of default that the store did not write.
func insertRow(id string) string {
	return `INSERT INTO audit (id, {AT}, tenant_id, actor, {ABOUT}, action, resource, before, after, details, outcome, success, address, user_agent, request_id, revision)
		SELECT ` + id + `, {AT}, 1, 'cli', 'mallory', 'ADD_MEMBERSHIP', 'membership/admin', '', '', '', 'done', success, '', '', '', revision FROM audit WHERE id = {N}`
}

// testTampering edits the audit past the store, as who may write to the database
// could, in clear and sealed.
func testTampering(t *testing.T, h Harness) {
	// {N} is the id of the third chained row of default, and {M} of the one behind it.
	const n, m = `(SELECT id FROM audit WHERE tenant_id = 1 AND chain_number = 3)`, `(SELECT id FROM audit WHERE tenant_id = 1 AND chain_number = 4)`
	for _, c := range []struct {
		what string
		sql  []string
		want string
		row  bool // the fault names the row
	}{
		{"who did it", []string{`UPDATE audit SET actor = 'client:other' WHERE id = {N}`}, "edited", true},
		{"the outcome", []string{`UPDATE audit SET outcome = 'denied' WHERE id = {N}`}, "edited", true},
		{"the success", []string{`UPDATE audit SET success = NOT success WHERE id = {N}`}, "edited", true},
		{"the action", []string{`UPDATE audit SET action = 'GET_AUDIT' WHERE id = {N}`}, "edited", true},
		{"the address", []string{`UPDATE audit SET address = '' WHERE id = {N}`}, "edited", true},
		{"the request", []string{`UPDATE audit SET request_id = 'another' WHERE id = {N}`}, "edited", true},
		{"the revision", []string{`UPDATE audit SET revision = revision - 1 WHERE id = {N}`}, "edited", true},
		{"the commitment of another row", []string{`UPDATE audit SET actor = 'x', commitment = (SELECT commitment FROM audit WHERE id = {M}) WHERE id = {N}`}, "relinked", true},
		{"the link", []string{`UPDATE audit SET chain_link = (SELECT chain_link FROM audit WHERE id = {M}) WHERE id = {N}`}, "relinked", true},
		{"a row is deleted", []string{`DELETE FROM audit WHERE id = {N}`}, "removed", false},
		{"the first rows are deleted", []string{`DELETE FROM audit WHERE tenant_id = 1 AND chain_number BETWEEN 1 AND 3`}, "removed", false},
		{"the last row is deleted", []string{`DELETE FROM audit WHERE tenant_id = 1 AND chain_number = (SELECT number FROM audit_chains WHERE tenant_id = 1)`}, "cut_off", false},
		{"the tail and the head with it", []string{
			`DELETE FROM audit WHERE tenant_id = 1 AND chain_number > 4`,
			`UPDATE audit_chains SET number = 4, link = (SELECT chain_link FROM audit WHERE tenant_id = 1 AND chain_number = 4), row_id = {M} WHERE tenant_id = 1`,
		}, "cut_off", false},
		{"all of the tenant's", []string{`DELETE FROM audit WHERE tenant_id = 1`, `DELETE FROM audit_chains WHERE tenant_id = 1`, `DELETE FROM audit_anchors WHERE tenant_id = 1`}, "cut_off", false},
		{"two rows change places", []string{`UPDATE audit SET id = -1 WHERE id = {N}`, `UPDATE audit SET id = id - 1 WHERE id = {M}`, `UPDATE audit SET id = {M} + 1 WHERE id = -1`}, "removed edited reordered", true},
		{"a row loses its number", []string{`UPDATE audit SET chain_number = 0, commitment = NULL, chain_link = NULL WHERE id = {N}`}, "inserted removed", true},
		{"a row of another tenant", []string{`UPDATE audit SET tenant_id = 0 WHERE id = {N}`}, "", true},
		{"an anchored row", []string{`UPDATE audit SET actor = 'x' WHERE tenant_id = 1 AND id = (SELECT min(id) FROM audit WHERE tenant_id = 1)`}, "unanchored", false},
		{"an anchored row is deleted", []string{`DELETE FROM audit WHERE tenant_id = 1 AND id = (SELECT min(id) FROM audit WHERE tenant_id = 1)`}, "unanchored", false},
		{"the anchor is edited", []string{`UPDATE audit_anchors SET row_count = row_count - 1 WHERE tenant_id = 1`}, "unanchored", false},
		{"the anchor is deleted", []string{`DELETE FROM audit_anchors WHERE tenant_id = 1`}, "inserted", true},
		{"the head is set back", []string{`UPDATE audit_chains SET number = number - 1 WHERE tenant_id = 1`}, "relinked", false},
		{"a row below all ids", []string{insertRow("-5")}, "inserted", false},
		{"a row with the lowest id that there is", []string{insertRow("-9223372036854775807 - 1")}, "inserted", false},
		{"a row with the highest id that there is", []string{insertRow("9223372036854775807")}, "inserted", false},
		{"a row, and the head is set back before it, as if it came after", []string{
			`UPDATE audit SET actor = 'x' WHERE id = {M}`,
			`UPDATE audit_chains SET number = 3, link = (SELECT chain_link FROM audit WHERE tenant_id = 1 AND chain_number = 3), row_id = {N} WHERE tenant_id = 1`,
		}, "edited relinked", false},
	} {
		for _, sealed := range []bool{false, true} {
			name := c.what
			if sealed {
				name += ", sealed"
			}
			t.Run(name, func(t *testing.T) {
				k := openKit(t, h, sealing.ChainKeys{Audit: newMasters(t), Encryption: newMasters(t)})
				k.fill(1)
				if sealed {
					k.rotate(store.RotateEnable, 100, k.alone)
				}
				k.done(k.StartChain(k.ctx, k.by))
				k.fill(4)
				points := []chain.Checkpoint{k.checkpoint(k.tenant), k.checkpoint(0)}
				k.wantWhole("before", points...)
				id := h.Count(t, k.Store, `SELECT `+strings.TrimPrefix(strings.TrimSuffix(n, ")"), "(SELECT "))
				for _, sql := range c.sql {
					sql = strings.NewReplacer("{N}", n, "{M}", m, "{AT}", h.AuditTime, "{ABOUT}", h.AuditUser).Replace(sql)
					h.Exec(t, k.Store, sql)
				}
				faults := k.faults(points...)
				if len(faults) == 0 {
					t.Fatal("nothing was found")
				}
				if got := faultKinds(faults); c.want != "" && !strings.HasPrefix(got+" ", c.want+" ") && !(sealed && strings.HasPrefix(got, "unreadable")) {
					t.Errorf("found %s, want %s", got, c.want)
				}
				if c.row && c.want == "edited" && faults[0].Row != id {
					t.Errorf("row %d is named, want %d", faults[0].Row, id)
				}
			})
		}
	}
}
