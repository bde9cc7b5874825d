package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
)

// recorded writes n rows of checks to a tenant's audit, the older ones an hour apart
// each, and returns what lies there, newest first.
func (h *house) recorded(tenant string, n int) []store.AuditEntry {
	h.t.Helper()
	entries := make([]store.AuditEntry, n)
	for i := range entries {
		entries[i] = store.AuditEntry{
			Time: time.Now().Add(-time.Duration(n-i) * time.Hour), Tenant: h.tenants[tenant], Actor: fmt.Sprintf("client:c%d", i%3), User: fmt.Sprintf("user%d", i%5),
			Action: []store.Action{store.ActionCheckPermission, store.ActionDeleteRole, store.ActionRemoveMembership}[i%3], Resource: []string{"role", "membership"}[i%2] + "/" + tenant,
			Details: fmt.Sprintf(`{"n":%d}`, i), Outcome: []string{"done", "denied"}[i/2%2], Success: i/2%2 == 0, Address: "192.0.2.1", UserAgent: "<&>", RequestID: fmt.Sprint(i),
		}
	}
	for part := range slices.Chunk(entries, 500) {
		must(h.t, h.store.RecordAudit(context.Background(), part))
	}
	return h.audit(tenant)
}

// audit is all of a tenant's, newest first.
func (h *house) audit(tenant string) (all []store.AuditEntry) {
	h.t.Helper()
	for q := (store.AuditQuery{Tenant: h.tenants[tenant], Limit: store.MaxAuditPage, NoTotal: true}); ; {
		page, _, err := h.store.Audit(context.Background(), q)
		must(h.t, err)
		all = append(all, page...)
		if len(page) < q.Limit {
			return all
		}
		q.Before = page[len(page)-1].ID
	}
}

// entry is a row of the API's, as it came and in part.
type entry struct {
	raw json.RawMessage
	id  int64
}

func entries(t testing.TB, raw []json.RawMessage) (out []entry) {
	t.Helper()
	for _, r := range raw {
		var row struct{ ID int64 }
		must(t, json.Unmarshal(r, &row))
		out = append(out, entry{r, row.ID})
	}
	return out
}

func ids(rows []entry) (out []int64) {
	for _, r := range rows {
		out = append(out, r.id)
	}
	return out
}

// page asks for one, and returns its rows and where the next one is; "" is nowhere.
func (h *house) page(caller, target string) (rows []entry, total int, next string) {
	h.t.Helper()
	got := h.ask(caller, "GET", target)
	var body struct {
		Data struct {
			Total   int               `json:"total"`
			Entries []json.RawMessage `json:"entries"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.status != 200 {
		h.t.Fatalf("%s: %d %.300s", target, got.status, got.body)
	}
	if link := got.header.Get("Link"); link != "" {
		reference, ok := strings.CutPrefix(link, "<")
		reference, also := strings.CutSuffix(reference, `>; rel="next"`)
		base, err := url.Parse(target)
		must(h.t, err)
		resolved, err := base.Parse(reference)
		if !ok || !also || err != nil || resolved.Path != base.Path {
			h.t.Fatalf("%s: Link: %s: %v", target, link, err)
		}
		next = resolved.RequestURI()
	}
	return entries(h.t, body.Data.Entries), body.Data.Total, next
}

func deleting(e *store.AuditEntry) bool {
	return e.Action == store.ActionDeleteRole || e.Action == store.ActionRemoveMembership
}

func TestTheAuditIsFiltered(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		h.recorded("globex", 30)
		all := h.recorded("default", 60)
		middle := all[30]
		for query, selects := range map[string]func(e *store.AuditEntry) bool{
			"":                             func(*store.AuditEntry) bool { return true },
			"nonsense=1&tenant=2&Action=x": func(*store.AuditEntry) bool { return true },
			"action=check_permission":      func(e *store.AuditEntry) bool { return e.Action == "CHECK_PERMISSION" },
			"action=DELETE_ROLE&action=CREATE_TENANT": func(e *store.AuditEntry) bool { return e.Action == "DELETE_ROLE" },
			"action=delete":                    func(e *store.AuditEntry) bool { return deleting(e) },
			"action=delete&entity=role":        func(e *store.AuditEntry) bool { return deleting(e) && e.Resource == "role/default" },
			"entity=membership":                func(e *store.AuditEntry) bool { return e.Resource == "membership/default" },
			"entity=member":                    func(*store.AuditEntry) bool { return false },
			"subject=user3":                    func(e *store.AuditEntry) bool { return e.User == "user3" },
			"actor=client%3Ac1&outcome=denied": func(e *store.AuditEntry) bool { return e.Actor == "client:c1" && e.Outcome == "denied" },
			"subject='OR'1'='1":                func(*store.AuditEntry) bool { return false },
			"since=24h30m&action=delete": func(e *store.AuditEntry) bool {
				return deleting(e) && time.Since(e.Time) < 24*time.Hour+30*time.Minute
			},
			"until=2d30m": func(e *store.AuditEntry) bool { return time.Since(e.Time) > 48*time.Hour+30*time.Minute },
			"since=" + url.QueryEscape(middle.Time.Format(time.RFC3339Nano)):           func(e *store.AuditEntry) bool { return !e.Time.Before(middle.Time) },
			fmt.Sprintf("before=%d&action=check&outcome=done", middle.ID):              func(e *store.AuditEntry) bool { return e.ID < middle.ID && e.Action == "CHECK_PERMISSION" && e.Success },
			fmt.Sprintf("before=%d&offset=0&since=1000d&until=1m", all[len(all)-1].ID): func(*store.AuditEntry) bool { return false },
		} {
			var want []int64
			for i := range all {
				if selects(&all[i]) {
					want = append(want, all[i].ID)
				}
			}
			rows, total, next := h.page("audit", "/api/audit?limit=500&"+query)
			if !slices.Equal(ids(rows), want) || !strings.Contains(query, "before") && total != len(want) || next != "" {
				t.Errorf("%s: %v of %d, next %q\nwant %v", query, ids(rows), total, next, want)
			}
			if exported := h.export("audit", query); !slices.Equal(ids(exported), want) {
				t.Errorf("%s: %v exported\nwant %v", query, ids(exported), want)
			}
		}
	})
}

// TestACursorSeesEachRowOnce: all pages together are what was there, while rows are
// added between them.
func TestACursorSeesEachRowOnce(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		for query, whole := range map[string]bool{"": true, "action=delete&since=5000h": false} {
			var want []int64
			for _, e := range h.recorded("default", 230) {
				if whole || deleting(&e) {
					want = append(want, e.ID)
				}
			}
			var seen []int64
			pages := 0
			for target := "/api/audit?limit=20&" + query; target != ""; pages++ {
				var rows []entry
				rows, _, target = h.page("audit", target)
				seen = append(seen, ids(rows)...)
				if got := h.ask("manager", "DELETE", "/api/role/none"); got.status != 200 {
					t.Fatalf("%d %s", got.status, got.body)
				}
				must(t, h.store.RecordAudit(t.Context(), []store.AuditEntry{{Tenant: h.tenants["default"], Action: store.ActionDeleteRole, Resource: "role/x", Outcome: "done"}}))
			}
			if !slices.Equal(seen, want) || pages != (len(want)+19)/20 {
				t.Errorf("%s: %d rows on %d pages, want %d", query, len(seen), pages, len(want))
			}
		}
	})
}

// The last page has no next one, whether or not it is full, and a page is what it was
// before there were cursors.
func TestTheLastPageHasNoNext(t *testing.T) {
	h := newHouse(t, options{})
	all := h.audit("default")
	for _, c := range []struct {
		limit, offset int
		more          bool
	}{{len(all), 0, false}, {len(all) + 1, 0, false}, {len(all) - 1, 0, true}, {len(all) - 1, 1, false}, {1, len(all) - 2, true}, {1, len(all) + 5, false}} {
		rows, total, next := h.page("audit", fmt.Sprintf("/api/audit?limit=%d&offset=%d", c.limit, c.offset))
		if total != len(all) || len(rows) != max(0, min(c.limit, len(all)-c.offset)) || (next != "") != c.more {
			t.Errorf("limit %d, offset %d of %d: %d rows of %d, next %q", c.limit, c.offset, len(all), len(rows), total, next)
		}
		if c.more && (strings.Contains(next, "offset") || !strings.Contains(next, fmt.Sprintf("limit=%d", c.limit))) {
			t.Errorf("next is %s", next)
		}
	}
	got := h.ask("audit", "GET", "/api/audit?limit=1&x=%3E%0D%0ASet-Cookie:a&action=create")
	if link := got.header.Get("Link"); strings.Contains(link, "Cookie") || got.status != http.StatusOK || link == "" {
		t.Errorf("what is no filter comes back: %d %s", got.status, link)
	}
}
