package storetest

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// aWrite is one write with everything that it must leave behind.
type aWrite struct {
	name    string
	given   func(k *kit) // what is there before
	do      func(k *kit) (store.Result, error)
	outcome store.Outcome
	changes func(k *kit) []store.Change // without revision
	audit   store.AuditEntry            // Action, Resource, User, Success; the rest is checked for every write
	before  string                      // what Before must contain, as JSON with aMoment for times of the store's; "" for no Before
	after   string
	details string // as before; "" leaves them unchecked

	ofNone bool // its audit row is of no tenant
	makes  bool // it makes the tenant that it is about: do sets k.tenant
}

// aMoment stands for a time in what the audit must contain.
const aMoment = "a moment"

var (
	noChanges   = func(*kit) []store.Change { return nil }
	rolesChange = func(k *kit) []store.Change {
		return []store.Change{{Kind: store.ChangeRoles, Tenant: k.tenant}}
	}
	expiry = inMicroseconds(time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC))
)

func grantChange(kind policy.Kind, id string) func(k *kit) []store.Change {
	return func(k *kit) []store.Change {
		return []store.Change{{Kind: store.ChangeGrant, Tenant: k.tenant, Index: k.index(k.tenant, kind, id)}}
	}
}

// testWrites holds every write and every outcome to "One write": the revision
// and its tag move, the change rows and the audit row are there, and a delta
// tells it all.
func testWrites(t *testing.T, h Harness) {
	for _, w := range writes() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, h)
			if w.given != nil {
				w.given(k)
			}
			for _, ack := range []bool{false, true} {
				k.by.Ack = ack
				if ack && w.outcome == store.OutcomeDone {
					return // it cannot be done twice
				}
				checkWrite(k, w)
			}
		})
	}
	t.Run("a writer that waits asks for a report", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		k.role(k.tenant, "plain")
		if k.delta(before).Ack {
			t.Error("nobody waits, and the delta asks for a report")
		}
		middle := k.head()
		k.by.Ack = true
		waited := k.done(k.PutRole(k.ctx, k.by, k.tenant, "waited-for", nil)).Revision
		k.by.Ack = false
		k.role(k.tenant, "plain-too")
		if !k.delta(before).Ack || !k.delta(middle).Ack {
			t.Error("a writer waits, and the delta over its revision does not say so")
		}
		if k.delta(waited).Ack {
			t.Error("the delta from the revision that was waited for asks for a report")
		}
		if head := k.head(); k.delta(head).Ack {
			t.Error("the delta from the head asks for a report")
		}
	})
}

func checkWrite(k *kit, w aWrite) {
	k.Helper()
	before := k.head()
	_, rows := k.audit(w.trailOf(k))
	from := time.Now()

	result, err := w.do(k)
	if w.makes {
		rows = 0
	}
	if err != nil {
		k.Fatalf("unexpected error: %v", err)
	}
	to := time.Now()
	if result.Outcome != w.outcome {
		k.Errorf("outcome %q, want %q", result.Outcome, w.outcome)
	}
	if result.Revision.Number != before.Number+1 {
		k.Errorf("revision %d after %d: every write takes the next one", result.Revision.Number, before.Number)
	}
	if result.Revision.Tag == before.Tag || result.Revision.Tag == (store.Tag{}) {
		k.Errorf("tag %v after %v: every write has a new one", result.Revision.Tag, before.Tag)
	}
	if head := k.head(); head != result.Revision {
		k.Errorf("head %v, but the write returned %v", head, result.Revision)
	}
	checkDeltaOf(k, before, result.Revision, w.changes(k))
	checkAuditOf(k, w, rows, result, from, to)
}

// trailOf is whose audit row the write leaves.
func (w *aWrite) trailOf(k *kit) store.TenantID {
	if w.ofNone {
		return 0
	}
	return k.tenant
}

func checkDeltaOf(k *kit, before, after store.Revision, want []store.Change) {
	k.Helper()
	d := k.delta(before, k.tenant)
	if d.Head != after {
		k.Errorf("delta's head %v, want %v", d.Head, after)
	}
	if d.Ack != k.by.Ack {
		k.Errorf("delta's ack %v, want %v", d.Ack, k.by.Ack)
	}
	for i := range want {
		want[i].Revision = after.Number
	}
	if !sameChanges(d.Changes, want) {
		k.Errorf("changes %v, want %v", d.Changes, want)
	}
	var roles, tenants, signing bool
	for _, c := range want {
		roles = roles || c.Kind == store.ChangeRoles
		signing = signing || c.Kind == store.ChangeSigning
		tenants = tenants || c.Tenant != 0
		found := c.Tenant == 0
		for _, t := range d.Tenants {
			found = found || t.ID == c.Tenant
		}
		if !found {
			k.Errorf("change %v names a tenant that the delta does not carry", c)
		}
	}
	if !tenants && len(d.Tenants) > 0 {
		k.Errorf("tenants %v, but nothing changed", d.Tenants)
	}
	if keys := k.signers(); !signing && d.Signing != nil || signing && !reflect.DeepEqual(d.Signing, keys) {
		k.Errorf("delta's signing keys %v, and they are %v; they changed: %v", d.Signing, keys, signing)
	}
	if !roles {
		if len(d.Roles) > 0 {
			k.Errorf("role tables %v, but no role changed", d.Roles)
		}
		return
	}
	table := must[store.TenantRoles](k)(k.Roles(k.ctx, k.tenant))
	if len(d.Roles) != 1 || !reflect.DeepEqual(d.Roles[0], table) {
		k.Errorf("delta's roles %v, want the table at head %v", d.Roles, table)
	}
	if unheld := k.delta(before); len(unheld.Roles) > 0 {
		k.Errorf("role tables %v for a reader that holds none", unheld.Roles)
	}
}

func sameChanges(got, want []store.Change) bool {
	return len(got) == 0 && len(want) == 0 || reflect.DeepEqual(got, want)
}

func checkAuditOf(k *kit, w aWrite, rows int, result store.Result, from, to time.Time) {
	k.Helper()
	entries, total := k.audit(w.trailOf(k))
	if total != rows+1 || len(entries) == 0 {
		k.Fatalf("%d audit rows, want %d", total, rows+1)
	}
	got := entries[0]
	want := store.AuditEntry{
		ID: got.ID, Time: got.Time, Before: got.Before, After: got.After, Details: got.Details,
		Tenant: w.trailOf(k), Actor: k.by.Name, Address: k.by.Address, UserAgent: k.by.UserAgent, RequestID: k.by.RequestID,
		User: w.audit.User, Action: w.audit.Action, Resource: w.audit.Resource, Success: w.audit.Success,
		Outcome: w.outcome.String(), Revision: result.Revision.Number,
	}
	if got != want {
		k.Errorf("audit row\n got %+v\nwant %+v", got, want)
	}
	if got.ID < 1 || !about(got.Time, from, to) {
		k.Errorf("audit row %d at %v: want an id, and a time from %v to %v", got.ID, got.Time, from, to)
	}
	checkJSON(k, "before", got.Before, w.before)
	checkJSON(k, "after", got.After, w.after)
	if w.details != "" {
		checkJSON(k, "details", got.Details, w.details)
	} else if got.Details != "" && !json.Valid([]byte(got.Details)) {
		k.Errorf("details %q are no JSON", got.Details)
	}
}

func checkJSON(k *kit, what, got, want string) {
	k.Helper()
	if got == "" || want == "" {
		if got != want {
			k.Errorf("%s: %q, want %q", what, got, want)
		}
		return
	}
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		k.Errorf("%s: %q is no JSON: %v", what, got, err)
		return
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		k.Fatalf("%s: the test's own %q is no JSON: %v", what, want, err)
	}
	if !sameJSON(g, w) {
		k.Errorf("%s: %s, want %s", what, got, want)
	}
}

// sameJSON compares decoded JSON; aMoment in what is wanted is any time.
func sameJSON(got, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for name, value := range w {
			member, there := g[name]
			if !there || !sameJSON(member, value) {
				return false
			}
		}
		return true
	case string:
		if w == aMoment {
			text, _ := got.(string)
			_, err := time.Parse(time.RFC3339Nano, text)
			return err == nil
		}
	}
	return reflect.DeepEqual(got, want)
}
