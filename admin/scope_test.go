package admin_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// access is who may call what: one row for each route, one column for each key
// with that one scope. It is written out rather than computed, so that a change
// of the route table has to be made here as well.
//
//	check manage keys tokens audit operator scopeless
const access = `
GET    /api/roles                          403 200 403 403 403 403 403
GET    /api/permission/editor/edit_content 200 200 403 403 403 403 403
GET    /api/membership/alice/editor        200 200 403 403 403 403 403
GET    /api/has_permission/alice/edit      200 200 403 403 403 403 403
GET    /api/audit                          403 403 403 403 200 403 403
POST   /api/role/editor                    403 200 403 403 403 403 403
POST   /api/permission/editor/edit_content 403 200 403 403 403 403 403
POST   /api/membership/alice/editor        403 200 403 403 403 403 403
DELETE /api/membership/alice/editor        403 200 403 403 403 403 403
DELETE /api/permission/editor/edit_content 403 200 403 403 403 403 403
DELETE /api/role/editor                    403 200 403 403 403 403 403
GET    /ping                               200 200 200 200 200 200 200
GET    /health                             200 200 200 200 200 200 200
`

type accessRow struct {
	method, target string
	status         map[string]int // by caller
}

func accessTable(t *testing.T) []accessRow {
	t.Helper()
	columns := []string{"check", "manage", "keys", "tokens", "audit", "operator", "scopeless"}
	var rows []accessRow
	for _, line := range strings.Split(strings.TrimSpace(access), "\n") {
		fields := strings.Fields(line)
		row := accessRow{fields[0], fields[1], map[string]int{}}
		for i, c := range columns {
			n, err := strconv.Atoi(fields[2+i])
			must(t, err)
			row.status[c] = n
		}
		rows = append(rows, row)
	}
	return rows
}

func (r accessRow) public() bool { return !strings.HasPrefix(r.target, "/api/") }

func TestEveryRouteWithEveryScope(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		for _, row := range accessTable(t) {
			for caller, want := range row.status {
				before := h.revision()
				got := h.ask(caller, row.method, row.target)
				if got.status != want {
					t.Errorf("%s %s with scope %s: %d, want %d: %s", row.method, row.target, caller, got.status, want, got.body)
				}
				if want == 403 && h.revision() != before {
					t.Errorf("%s %s with scope %s was refused and changed something", row.method, row.target, caller)
				}
			}
			for _, caller := range []string{"nobody", "unknown", "revoked", "expired"} {
				want := 401
				if row.public() {
					want = 200
				}
				before := h.revision()
				if got := h.ask(caller, row.method, row.target); got.status != want {
					t.Errorf("%s %s as %s: %d, want %d: %s", row.method, row.target, caller, got.status, want, got.body)
				}
				if h.revision() != before {
					t.Errorf("%s %s as %s changed something", row.method, row.target, caller)
				}
			}
		}
	})
}

// A 403 comes before a look at the names, so that it tells nothing about them.
func TestARefusedScopeSeesNoNames(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		for _, target := range []string{"/api/role/editor", "/api/role/no%20name", "/api/role/editor?wait=never"} {
			got := h.ask("check", "POST", target)
			if got.status != 403 {
				t.Errorf("POST %s with scope check: %d, want 403", target, got.status)
			}
		}
	})
}

func TestTheAccessTableHoldsEveryRoute(t *testing.T) {
	var covered []string
	for _, row := range accessTable(t) {
		covered = append(covered, row.method+" "+row.target)
	}
	for _, row := range tokenAccess {
		covered = append(covered, row.method+" "+row.target)
	}
	for _, route := range newHouse(t, options{}).api.Routes() {
		if !slices.ContainsFunc(covered, func(c string) bool { return fills(route, c) }) {
			t.Errorf("%s is not in the access table", route)
		}
	}
}

// fills reports whether a concrete request is one of the pattern.
func fills(pattern, request string) bool {
	p, r := strings.Split(pattern, "/"), strings.Split(request, "/")
	if len(p) != len(r) {
		return false
	}
	for i := range p {
		if !strings.HasPrefix(p[i], "{") && p[i] != r[i] {
			return false
		}
	}
	return true
}

// Another tenant's key, whatever it may do at home, changes nothing here, and its
// answers do not differ between names that exist here and names that do not.
func TestAnotherTenantSeesNothing(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		for _, target := range []string{"/api/role/editor", "/api/permission/editor/edit", "/api/membership/alice/editor"} {
			if got := h.ask("manager", "POST", target); got.status != 200 || !strings.Contains(got.body, "true") {
				t.Fatalf("POST %s: %d %s", target, got.status, got.body)
			}
		}
		state := func() string {
			var b strings.Builder
			for _, target := range []string{"/api/roles", "/api/permission/editor/edit", "/api/membership/alice/editor", "/api/has_permission/alice/edit"} {
				got := h.ask("manager", "GET", target)
				body, _, _ := strings.Cut(got.body, `"timestamp"`)
				fmt.Fprintln(&b, target, got.status, body)
			}
			return b.String()
		}
		before := state()
		rename := strings.NewReplacer("editor", "absent", "edit", "none", "alice", "nobob")
		for _, row := range accessTable(t) {
			if row.public() || row.target == "/api/audit" || row.target == "/api/roles" {
				continue // they take no name
			}
			known := h.ask("stranger", row.method, row.target)
			unknown := h.ask("stranger", row.method, rename.Replace(row.target))
			a, _, _ := strings.Cut(rename.Replace(known.body), `"timestamp"`)
			b, _, _ := strings.Cut(unknown.body, `"timestamp"`)
			if known.status != unknown.status || a != b {
				t.Errorf("%s %s tells a name of another tenant:\nhere   %d %s\nabsent %d %s", row.method, row.target, known.status, known.body, unknown.status, unknown.body)
			}
			if after := state(); after != before {
				t.Fatalf("%s %s with another tenant's key changed\n%s\ninto\n%s", row.method, row.target, before, after)
			}
		}
		if got := h.ask("stranger", "GET", "/api/audit"); strings.Contains(got.body, "client:manager") {
			t.Errorf("another tenant's audit: %s", got.body)
		}
	})
}
