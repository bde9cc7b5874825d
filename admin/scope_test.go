package admin_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"portcullis/internal/identity"
	"portcullis/internal/store"
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
GET    /api/user_permissions/alice         200 200 403 403 403 403 403
GET    /api/role_permissions/editor        403 200 403 403 403 403 403
GET    /api/user_roles/alice               403 200 403 403 403 403 403
GET    /api/members/editor                 403 200 403 403 403 403 403
GET    /api/which_roles_can/edit           403 200 403 403 403 403 403
GET    /api/which_users_can/edit           403 200 403 403 403 403 403
GET    /api/workflow/users/edit            403 200 403 403 403 403 403
GET    /api/workflow/user/alice/can_run/edit 200 200 403 403 403 403 403
GET    /api/apikeys/user/alice             403 403 200 403 403 403 403
POST   /api/apikeys/user/alice             403 403 200 403 403 403 403
DELETE /api/apikeys/user/alice/01234567-89ab-4cde-8f01-23456789abcd 403 403 404 403 403 403 403
POST   /api/apikeys/validate               403 403 200 403 403 403 403
POST   /api/apikeys/check_permission       200 200 403 403 403 403 403
GET    /api/settings                       403 200 403 403 403 403 403
PUT    /api/settings                       403 200 403 403 403 403 403
GET    /api/audit                          403 403 403 403 200 403 403
GET    /api/audit/export                   403 403 403 403 200 403 403
POST   /api/role/editor                    403 200 403 403 403 403 403
POST   /api/permission/editor/edit_content 403 200 403 403 403 403 403
POST   /api/membership/alice/editor        403 200 403 403 403 403 403
DELETE /api/membership/alice/editor        403 200 403 403 403 403 403
DELETE /api/permission/editor/edit_content 403 200 403 403 403 403 403
DELETE /api/role/editor                    403 200 403 403 403 403 403
GET    /ping                               200 200 200 200 200 200 200
GET    /health                             200 200 200 200 200 200 200
`

// accessBodies are what the requests that need a body send.
var accessBodies = map[string]string{
	"POST /api/apikeys/validate":         `{"api_key": "rak_0000000000000000000000000000000000000000000"}`,
	"POST /api/apikeys/check_permission": `{"api_key": "rak_0000000000000000000000000000000000000000000", "permission": "edit"}`,
	"PUT /api/settings":                  `{"strict_users": false}`,
}

// ask makes the row's request as the caller.
func (r accessRow) ask(h *house, caller string) answer {
	return h.askWith(caller, r.method, r.target, accessBodies[r.method+" "+r.target])
}

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
				got := row.ask(h, caller)
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
				if got := row.ask(h, caller); got.status != want {
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
		// A secret of a user here, which the stranger has come by.
		secret := identity.NewUserKey()
		held, result, err := h.store.CreateUserKey(t.Context(), store.Actor{Name: "cli"}, store.NewUserKey{
			Tenant: h.tenants[store.DefaultTenant], User: "alice", Digest: identity.UserKeyDigest(secret[:]), Prefix: string(secret[:12]),
		})
		must(t, err)
		must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
		state := func() string {
			var b strings.Builder
			for _, row := range accessTable(t) {
				if row.method != "GET" || row.public() || strings.HasPrefix(row.target, "/api/audit") {
					continue
				}
				target := row.target
				got := h.ask("manager", "GET", target)
				body, _, _ := strings.Cut(got.body, `"timestamp"`)
				fmt.Fprintln(&b, target, got.status, body)
			}
			return b.String()
		}
		before := state()
		rename := strings.NewReplacer("editor", "absent", "edit", "none", "alice", "nobob", held.ID, "01234567-89ab-4cde-8f01-23456789abcd")
		secretless := regexp.MustCompile(`"(api_key|key_id|key_prefix|created)":"[^"]*"`)
		text := func(a answer) string {
			body, _, _ := strings.Cut(rename.Replace(a.body), `"timestamp"`)
			return secretless.ReplaceAllString(body, `"$1":""`)
		}
		rows := append(accessTable(t), accessRow{method: "DELETE", target: "/api/apikeys/user/alice/" + held.ID})
		for _, row := range rows {
			if row.target == rename.Replace(row.target) {
				continue // it takes no name
			}
			known := row.ask(h, "stranger")
			other := accessRow{method: row.method, target: rename.Replace(row.target)}
			unknown := h.askWith("stranger", other.method, other.target, accessBodies[row.method+" "+row.target])
			if known.status != unknown.status || text(known) != text(unknown) {
				t.Errorf("%s %s tells a name of another tenant:\nhere   %d %s\nabsent %d %s", row.method, row.target, known.status, known.body, unknown.status, unknown.body)
			}
			if after := state(); after != before {
				t.Fatalf("%s %s with another tenant's key changed\n%s\ninto\n%s", row.method, row.target, before, after)
			}
		}
		for path, body := range map[string]string{"validate": `{"api_key": "*"}`, "check_permission": `{"api_key": "*", "permission": "edit"}`} {
			for _, text := range []string{string(secret[:]), "rak_" + strings.Repeat("0", 43)} {
				got := h.askWith("stranger", "POST", "/api/apikeys/"+path, strings.Replace(body, "*", text, 1))
				if got.status != 200 || !strings.Contains(got.body, `"data":{"valid":false,"reason":"unknown_key"}`) {
					t.Errorf("%s with another tenant's user key: %d %s", path, got.status, got.body)
				}
			}
		}
		for _, target := range []string{"/api/audit", "/api/audit/export"} {
			if got := h.ask("stranger", "GET", target); strings.Contains(got.body, "client:manager") {
				t.Errorf("another tenant's audit at %s: %s", target, got.body)
			}
		}
	})
}
