package suspicious

import (
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
)

// FuzzRow reads a row of any content: nothing panics, a report is within its bounds,
// and a row that is unread or found is one that a rule looks at.
func FuzzRow(f *testing.F) {
	for _, r := range Rules() {
		for _, action := range append(r.Actions, store.ActionCheckPermission) {
			f.Add(string(action), "done", "permission/editor/admin", `{"permissions":["a"],"members":2}`, `{"expires":null,"scopes":["operator"],"holder":"x","key":"y"}`, `{"kind":"disable","step":"begin","actor_tenant":3}`, int64(0))
			f.Add(string(action), "denied", "audit", "", "", `{"reason":"bad_key","count":50,"first":"2026-03-04T12:00:00Z","status":403}`, int64(1772625600))
		}
	}
	f.Add("AUTHENTICATION_FAILED", "denied", "", "", "", `{"count":9223372036854775807,"first":"9999-12-31T23:59:59Z"}`, int64(-1<<40))
	f.Add("WITHDRAW_SIGNING_KEY", "done", "signing_key/expired", `{"a":{"expires":"0001-01-01T00:00:00Z"},"b":null}`, "", `{"count":null}`, int64(1<<40))
	f.Fuzz(func(t *testing.T, action, outcome, resource, before, after, details string, at int64) {
		e := store.AuditEntry{
			ID: 5, Time: time.Unix(at, 0), Actor: "client:ci", User: resource, Action: store.Action(action), Resource: resource,
			Before: before, After: after, Details: details, Outcome: outcome, Address: "203.0.113.9",
		}
		d, err := New(0, Config{MaxRows: 3, MaxFindings: 2, MaxCounts: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			e.ID++
			e.Time = e.Time.Add(time.Minute)
			d.Add(&e)
		}
		r := d.Report()
		if r.Rows != 4 || r.Unread < 0 || r.Unread > 4 || r.Dropped != 0 {
			t.Fatalf("%+v", r)
		}
		for _, found := range r.Findings {
			is := slices.IndexFunc(rules, func(r rule) bool { return r.ID == found.Rule })
			if is < 0 || !rules[is].looksAt(e.Action) {
				t.Fatalf("%s has a finding by %q", action, found.Rule)
			}
			if found.Count < 1 || len(found.Rows) == 0 || len(found.Rows) > 3 || !slices.IsSorted(found.Rows) || found.RowCount < int64(len(found.Rows)) || found.RowCount > 4 || found.Last.Before(found.First) {
				t.Fatalf("%+v is out of bounds", found)
			}
			if found.What == "" || len(found.What) > 16*maxQuoted {
				t.Fatalf("says %q", found.What)
			}
		}
	})
}
