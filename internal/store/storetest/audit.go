package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
)

func testAudit(t *testing.T, h Harness) {
	t.Run("recorded rows come back whole, and take no revision", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		at := inMicroseconds(time.Now().Add(-time.Minute))
		var want []store.AuditEntry
		for i, name := range hostile() {
			want = append(want, store.AuditEntry{
				Time: at.Add(-time.Duration(i) * time.Millisecond), Tenant: k.tenant, Actor: "actor " + name, User: name,
				Action: store.ActionCheckPermission, Resource: "permission/" + name, Before: `{"b": 1}`, After: `{"a": 2}`,
				Details: `{"d": [3]}`, Outcome: "denied", Success: i%2 == 0, Address: "2001:db8::1", UserAgent: name,
				RequestID: "req " + name, Revision: int64(i),
			})
		}
		if err := k.RecordAudit(k.ctx, want); err != nil {
			t.Fatal(err)
		}
		if k.head() != before {
			t.Errorf("the revision went from %v to %v", before, k.head())
		}
		got, total := k.audit(k.tenant)
		if total != len(want) || len(got) != len(want) {
			t.Fatalf("%d of %d rows, want %d", len(got), total, len(want))
		}
		slices.Reverse(got) // newest first: in the order of recording, whatever the times say
		last := int64(0)
		for i := range want {
			if got[i].ID <= last {
				t.Errorf("id %d after %d", got[i].ID, last)
			}
			last = got[i].ID
			want[i].ID = got[i].ID
			if !got[i].Time.Equal(want[i].Time) {
				t.Errorf("time %v, want %v", got[i].Time, want[i].Time)
			}
			got[i].Time = want[i].Time
			if got[i] != want[i] {
				t.Errorf("row\n got %+v\nwant %+v", got[i], want[i])
			}
		}
	})

	t.Run("rows of no tenant, and none at all", func(t *testing.T) {
		k := newKit(t, h)
		if err := k.RecordAudit(k.ctx, nil); err != nil {
			t.Errorf("record nothing: %v", err)
		}
		_, before := k.audit(0)
		from := time.Now()
		if err := k.RecordAudit(k.ctx, []store.AuditEntry{{Actor: "unknown", Action: store.ActionAuthFailed, Outcome: "denied"}}); err != nil {
			t.Fatal(err)
		}
		got, total := k.audit(0)
		if total != before+1 || got[0].Tenant != 0 || got[0].Success || !about(got[0].Time, from, time.Now()) {
			t.Errorf("%d rows, %+v; want one more of no tenant, at the time of recording", total, got)
		}
		if _, total := k.audit(k.tenant); total != 0 {
			t.Errorf("%d rows of default", total)
		}
	})

	t.Run("pages, newest first, by action", func(t *testing.T) {
		k := newKit(t, h)
		acme := k.newTenant("acme")
		for i := range 25 {
			k.role(k.tenant, fmt.Sprint("role", i))
			if i%5 == 0 {
				k.done(k.AddPermission(k.ctx, k.by, k.tenant, fmt.Sprint("role", i), "read"))
			}
		}
		k.role(acme, "theirs")
		page := func(q store.AuditQuery, rows, total int) []store.AuditEntry {
			t.Helper()
			q.Tenant = k.tenant
			got, n, err := k.Audit(k.ctx, q)
			if err != nil || n != total || len(got) != rows {
				t.Fatalf("%+v: %d rows of %d, error %v; want %d of %d", q, len(got), n, err, rows, total)
			}
			for i := 1; i < len(got); i++ {
				if got[i].ID >= got[i-1].ID || got[i].Revision >= got[i-1].Revision {
					t.Errorf("%+v: row %d after row %d", q, got[i].ID, got[i-1].ID)
				}
			}
			return got
		}
		all := page(store.AuditQuery{Limit: 500}, 30, 30)
		if all[0].Resource != "role/role24" || all[29].Resource != "role/role0" {
			t.Errorf("from %s to %s", all[0].Resource, all[29].Resource)
		}
		var joined []store.AuditEntry
		for _, p := range [][2]int{{0, 12}, {12, 12}, {24, 6}} {
			joined = append(joined, page(store.AuditQuery{Limit: 12, Offset: p[0]}, p[1], 30)...)
		}
		if !slices.Equal(joined, all) {
			t.Error("the pages are not the whole")
		}
		page(store.AuditQuery{Limit: 12, Offset: 30}, 0, 30)
		page(store.AuditQuery{Limit: 1, Offset: 1 << 40}, 0, 30)
		for _, action := range []store.Action{"ADD_PERMISSION", "add_permission", "Add_Permission"} {
			for _, e := range page(store.AuditQuery{Limit: 3, Offset: 2, Actions: []store.Action{action}}, 3, 5) {
				if e.Action != store.ActionAddPermission {
					t.Errorf("%s among %s", e.Action, action)
				}
			}
		}
		for _, action := range []store.Action{"ADD_PERM", "ADD%", "ADD-PERMISSION", "ADD_PERMISSION ", "' OR 1=1 --"} {
			page(store.AuditQuery{Limit: 10, Actions: []store.Action{action}}, 0, 0)
		}
	})
}
