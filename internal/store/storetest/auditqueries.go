package storetest

import (
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

func testAuditQueries(t *testing.T, h Harness) {
	for name, newKit := range map[string]func(*testing.T) *kit{
		"clear":  func(t *testing.T) *kit { return newClearKit(t, h) },
		"sealed": func(t *testing.T) *kit { return newSealedKit(t, h) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.queryAudit()
			if name == "clear" { // rows under two keys, then under the new one
				k.rotate(store.RotateEnable, 3, func(string) *kit {
					k.queriesAgree()
					return k
				})
			}
		})
	}
}

// auditSelections are queries of what queryAudit wrote, and how many rows of default
// each selects.
var auditSelections = []struct {
	what string
	q    store.AuditQuery
	want int
}{
	{"all", store.AuditQuery{}, 9},
	{"about alice", store.AuditQuery{Subject: "alice"}, 3},
	{"about whom nothing is", store.AuditQuery{Subject: "ali%"}, 0},
	{"about a client", store.AuditQuery{Subject: "client:ci"}, 1},
	{"roles", store.AuditQuery{Entity: "role"}, 4},
	{"memberships", store.AuditQuery{Entity: "membership"}, 4},
	{"no kind of thing", store.AuditQuery{Entity: "r%"}, 0},
	{"the beginning of a kind", store.AuditQuery{Entity: "rol"}, 0},
	{"by an actor", store.AuditQuery{Actor: "client:auditor"}, 1},
	{"denied", store.AuditQuery{Outcome: "denied"}, 1},
	{"done", store.AuditQuery{Outcome: "done"}, 7},
	{"an action and a subject", store.AuditQuery{Actions: []store.Action{"remove_membership"}, Subject: "alice"}, 1},
	{"an action and a kind", store.AuditQuery{Actions: []store.Action{store.ActionAddMembership}, Entity: "membership"}, 3},
	{"several actions", store.AuditQuery{Actions: []store.Action{"remove_membership", "CREATE_role", "NONE"}}, 5},
	{"quotes", store.AuditQuery{Subject: "' OR 1=1 --", Actor: "' OR 1=1 --"}, 0},
}

func (k *kit) queryAudit() {
	k.Helper()
	k.role(k.tenant, "editor", "roller", "owner")
	k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", time.Time{}))
	k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "bob", "editor", time.Time{}))
	k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindClient, "ci", "editor", time.Time{}))
	k.done(k.RemoveMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor"))
	if _, err := k.PutRole(k.ctx, k.by, k.tenant, "editor", nil); err != nil { // unchanged, and a row all the same
		k.Fatal(err)
	}
	k.newTenant("acme")
	if err := k.RecordAudit(k.ctx, []store.AuditEntry{{
		Tenant: k.tenant, Actor: "client:auditor", User: "alice", Action: store.ActionCheckPermission,
		Resource: "permission/editor/read", Outcome: "denied", Time: time.Now(),
	}}); err != nil {
		k.Fatal(err)
	}
	k.queriesAgree()

	rows, _ := k.audit(k.tenant)
	middle := rows[4].Time
	since, _, err := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant, Since: middle, Limit: 100})
	until, _, err2 := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant, Until: middle, Limit: 100})
	if err != nil || err2 != nil || len(since)+len(until) != len(rows) || !slices.ContainsFunc(since, func(e store.AuditEntry) bool { return e.ID == rows[4].ID }) {
		k.Errorf("%d rows since, %d until, errors %v, %v; want %d in all", len(since), len(until), err, err2, len(rows))
	}
	for _, far := range []time.Time{time.Unix(1<<40, 0), time.Unix(-(1 << 40), 0)} {
		if _, _, err := k.Audit(k.ctx, store.AuditQuery{Tenant: k.tenant, Since: far, Until: far, Limit: 1}); err != nil {
			k.Errorf("around %v: %v", far, err)
		}
	}
}

// queriesAgree: every selection has its rows, by cursor pages of two as at once.
func (k *kit) queriesAgree() {
	k.Helper()
	for _, c := range auditSelections {
		q := c.q
		q.Tenant, q.Limit = k.tenant, 100
		all, total, err := k.Audit(k.ctx, q)
		if err != nil || len(all) < c.want || len(all) != total {
			k.Errorf("%s: %d rows of %d, error %v; want %d", c.what, len(all), total, err, c.want)
			continue
		}
		if c.what != "all" && len(all) != c.want {
			k.Errorf("%s: %d rows, want %d", c.what, len(all), c.want)
		}
		var paged []store.AuditEntry
		q.Limit, q.NoTotal = 2, true
		for {
			page, total, err := k.Audit(k.ctx, q)
			if err != nil || total != 0 {
				k.Fatalf("%s: total %d, error %v", c.what, total, err)
			}
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			q.Before = page[len(page)-1].ID
		}
		if !slices.Equal(paged, all) {
			k.Errorf("%s: the pages are not the whole", c.what)
		}
	}
}
