package admin_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
)

// tokenAccess is who may call the routes of tokens, keys and the deny-list: a status
// for each key with one scope, in the order of tokenColumns. Routes under /oauth take
// the key as a client, the others as Bearer.
var tokenAccess = []struct{ method, target, body, status string }{
	{"POST", "/oauth/token", "grant_type=client_credentials", "200 200 200 200 200 200 200"},
	{"POST", "/oauth/token", exchangeForm("amy").Encode(), "400 400 400 200 400 400 400"},
	{"POST", "/oauth/token", refreshForm("prt_" + strings.Repeat("0", 43)).Encode(), "400 400 400 400 400 400 400"},
	{"POST", "/oauth/revoke", "token=none", "200 200 200 200 200 200 200"},
	{"POST", "/oauth/introspect", "token=none", "200 200 200 200 200 200 200"},
	{"GET", "/.well-known/jwks.json", "", "404 404 404 404 404 404 404"},
	{"GET", "/.well-known/oauth-authorization-server", "", "404 404 404 404 404 404 404"},
	{"POST", "/api/deny/token", `{"jti":"x"}`, "403 403 403 200 403 403 403"},
	{"POST", "/api/deny/subject", `{"id":"zoe"}`, "403 403 403 200 403 403 403"},
	{"GET", "/api/deny", "", "403 403 403 200 403 403 403"},
	{"DELETE", "/api/deny/999999", "", "403 403 403 404 403 403 403"},
	{"POST", "/api/deny/key", `{"kid":"x"}`, "403 403 403 403 403 200 403"},
	{"GET", "/api/deny/key", "", "403 403 403 403 403 200 403"},
	{"DELETE", "/api/deny/key/999999", "", "403 403 403 403 403 404 403"},
	{"POST", "/api/deny/tenant/globex/token", `{"jti":"x"}`, "403 403 403 403 403 200 403"},
	{"POST", "/api/deny/tenant/globex/subject", `{"id":"zoe"}`, "403 403 403 403 403 200 403"},
	{"GET", "/api/deny/tenant/globex", "", "403 403 403 403 403 200 403"},
	{"GET", "/api/deny/tenant/absent", "", "403 403 403 403 403 404 403"},
	{"DELETE", "/api/deny/tenant/globex/999999", "", "403 403 403 403 403 404 403"},
	{"POST", "/api/keys/rotate", "", "403 403 200 403 403 403 403"},
}

var tokenColumns = []string{"check", "manage", "keys", "tokens", "audit", "operator", "scopeless"}

func TestEveryTokenRouteWithEveryScope(t *testing.T) {
	h := newHouse(t, options{})
	for _, row := range tokenAccess {
		for i, want := range strings.Fields(row.status) {
			before := h.revision()
			got := h.callToken(tokenColumns[i], row.method, row.target, row.body)
			if strconv.Itoa(got.status) != want {
				t.Errorf("%s %s %s with scope %s: %d, want %s: %s", row.method, row.target, row.body, tokenColumns[i], got.status, want, got.body)
			}
			if want != "200" && h.revision() != before {
				t.Errorf("%s %s with scope %s was refused and changed something", row.method, row.target, tokenColumns[i])
			}
		}
		for _, caller := range []string{"nobody", "unknown", "revoked", "expired"} {
			want := 401
			if strings.HasPrefix(row.target, "/.well-known/") {
				want = 404
			}
			before := h.revision()
			if got := h.callToken(caller, row.method, row.target, row.body); got.status != want {
				t.Errorf("%s %s as %s: %d, want %d: %s", row.method, row.target, caller, got.status, want, got.body)
			}
			if h.revision() != before {
				t.Errorf("%s %s as %s changed something", row.method, row.target, caller)
			}
		}
	}
}

func (h *house) callToken(caller, method, target, body string) answer {
	h.t.Helper()
	var lines []string
	switch {
	case strings.HasPrefix(target, "/oauth/"):
		lines = []string{formType}
		if caller != "nobody" {
			lines = append(lines, h.as(caller))
		}
	case caller != "nobody":
		lines = []string{"Authorization: Bearer " + h.keys[caller]}
	}
	return h.send(method+" "+target+" HTTP/1.1", lines, body)
}

// An entry of one tenant denies nothing of another, and its number is none there.
func TestTheDenyListKeepsTenantsApart(t *testing.T) {
	h := newHouse(t, options{})
	access, _ := h.tokensFor("amy")
	_, result, err := h.store.Deny(t.Context(), store.Actor{Name: "cli"}, store.NewDenial{
		Kind: store.DenySubject, Tenant: h.tenants["globex"], Value: "amy", Principal: 1, Before: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	must(t, err)
	must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
	if !h.active("check", access) {
		t.Error("another tenant's entry denied a token")
	}
	entries, err := h.store.DenialList(t.Context(), h.tenants["globex"], 0, 10)
	must(t, err)
	id := strconv.FormatInt(entries[0].ID, 10)
	if got := h.ask("tokens", "DELETE", "/api/deny/"+id); got.status != 404 {
		t.Errorf("another tenant's entry: %d %s", got.status, got.body)
	}
	if got := h.ask("tokens", "GET", "/api/deny"); got.status != 200 || strings.Contains(got.body, "amy") {
		t.Errorf("the list: %d %s", got.status, got.body)
	}
	if got := h.ask("operator", "DELETE", "/api/deny/tenant/globex/"+id); got.status != 200 {
		t.Errorf("as the operator: %d %s", got.status, got.body)
	}
}

func TestDenyBodies(t *testing.T) {
	h := newHouse(t, options{})
	for _, c := range []struct{ path, body string }{
		{"token", ""}, {"token", "null"}, {"token", "[]"}, {"token", `{}`}, {"token", `{"jti":""}`}, {"token", `{"jti":"a\u0000"}`},
		{"token", `{"jti":"x"} {}`}, {"token", `{"jti":"x","id":"amy"}`}, {"token", `{"jti":"x","isuer":"y"}`}, {"token", `{"jti":"x","expires_in":0}`},
		{"token", `{"jti":"x","expires_in":99999999999}`}, {"token", `{"jti":"` + strings.Repeat("x", 257) + `"}`}, {"token", `{"jti":"` + strings.Repeat("x", 70_000) + `"}`},
		{"subject", `{"id":"a b"}`}, {"subject", `{"id":"amy","kind":"robot"}`}, {"subject", `{"id":"amy","before":"2999-01-01T00:00:00Z"}`},
		{"subject", `{"id":"ci","kind":"client","issuer":"https://id.example.com"}`}, {"subject", `{"jti":"x"}`},
	} {
		before := h.revision()
		if got := h.sendJSON("tokens", "POST", "/api/deny/"+c.path, c.body); got.status != 400 || h.revision() != before {
			t.Errorf("%s %.80s: %d %s", c.path, c.body, got.status, got.body)
		}
	}
}

// Where the caller does not say for how long, an entry stands until no token that it
// refuses can be admitted any more.
func TestDenialsStandLongEnough(t *testing.T) {
	h := newHouse(t, options{})
	for body, most := range map[string]time.Duration{
		`{"id":"own"}`: store.OwnTokenReach,
		`{"id":"theirs","issuer":"https://id.example.com"}`: 366 * 24 * time.Hour,
	} {
		if got := h.sendJSON("tokens", "POST", "/api/deny/subject", body); got.status != 200 {
			t.Fatalf("%s: %d %s", body, got.status, got.body)
		}
		entries, err := h.store.DenialList(t.Context(), h.tenants[store.DefaultTenant], 0, 10)
		must(t, err)
		last := entries[len(entries)-1]
		if left := time.Until(last.Expires); left > most || left < most-time.Minute {
			t.Errorf("%s stands for %v, want %v", body, left, most)
		}
	}
}

// A denied signing key refuses what it signed, in every tenant.
func TestIntrospectionSeesOneTokenDenied(t *testing.T) {
	h := newHouse(t, options{})
	a, _ := h.tokensFor("amy")
	b, _ := h.tokensFor("amy")
	_, info := h.post("/oauth/introspect", url.Values{"token": {a}}, h.as("check"))
	if got := h.sendJSON("tokens", "POST", "/api/deny/token", `{"jti":"`+info["jti"].(string)+`"}`); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if h.active("check", a) || !h.active("check", b) {
		t.Error("not exactly the denied token is inactive")
	}
}
