package admin_test

import (
	"net/url"
	"strings"
	"testing"

	"portcullis/internal/identity"
)

// With AUTH_STRICT_INPUT a keyword is refused wherever a name or a label comes in,
// and nowhere where something is taken away or somebody refused.
func TestStrictInput(t *testing.T) {
	strict := newHouse(t, options{strictInput: true})
	lax := newHouse(t, options{})
	userKey := identity.NewUserKey()
	unknown := string(userKey[:])

	for _, c := range []struct {
		caller, method, target, body string
		status                       int    // where input is strict
		names                        string // what the 400 names
	}{
		{"manager", "POST", "/api/role/drop", "", 400, "role name"},
		{"manager", "POST", "/api/role/DROP-table", "", 400, "role name"},
		{"manager", "POST", "/api/role/drop_table", "", 200, ""},
		{"manager", "POST", "/api/permission/editor/delete", "", 400, "permission name"},
		{"manager", "POST", "/api/permission/delete/edit", "", 400, "group name"},
		{"manager", "GET", "/api/permission/editor/delete", "", 400, "permission name"},
		{"manager", "POST", "/api/membership/union@example.com/editor", "", 400, "user name"},
		{"manager", "GET", "/api/has_permission/alice/select", "", 400, "permission name"},
		{"manager", "GET", "/api/user_roles/grant", "", 400, "user name"},
		{"manager", "GET", "/api/workflow/users/Update", "", 400, "workflow name"},
		{"manager", "POST", "/api/apikeys/user/drop", "", 400, "user name"},
		{"manager", "POST", "/api/apikeys/user/amy", `{"label":"drop table roles"}`, 400, "label"},
		{"manager", "POST", "/api/apikeys/user/amy", `{"label":"dropbox of tables"}`, 200, ""},
		{"manager", "POST", "/api/apikeys/user/amy", `{}`, 200, ""},
		{"manager", "POST", "/api/apikeys/check_permission", `{"api_key":"` + unknown + `","permission":"drop"}`, 400, "permission name"},
		{"manager", "POST", "/api/apikeys/check_permission", `{"api_key":"` + unknown + `","permission":"drop_off"}`, 200, ""},

		{"manager", "DELETE", "/api/role/drop", "", 200, ""},
		{"manager", "DELETE", "/api/permission/editor/delete", "", 200, ""},
		{"manager", "DELETE", "/api/membership/union@example.com/editor", "", 200, ""},
		{"tokens", "POST", "/api/deny/subject", `{"id":"union"}`, 200, ""},
		{"tokens", "POST", "/api/deny/token", `{"jti":"drop table"}`, 200, ""},
	} {
		got := strict.askWith(c.caller, c.method, c.target, c.body)
		if got.status != c.status || c.status == 400 && !strings.Contains(got.body, "Invalid "+c.names+": it holds the SQL keyword ") {
			t.Errorf("strict: %s %s %s: %d %s, want %d and %q", c.method, c.target, c.body, got.status, got.body, c.status, c.names)
		}
		if got := lax.askWith(c.caller, c.method, c.target, c.body); got.status != 200 {
			t.Errorf("not strict: %s %s %s: %d %s", c.method, c.target, c.body, got.status, got.body)
		}
	}
	exchange := func(h *house, user string) int {
		got, _ := h.post("/oauth/token", exchangeForm(user), h.as("tokens"))
		return got.status
	}
	if status := exchange(strict, "drop"); status != 400 {
		t.Errorf("strict: a token for drop: %d", status)
	}
	if status := exchange(lax, "drop"); status != 200 {
		t.Errorf("not strict: a token for drop: %d", status)
	}
}

// Who names the user of a token in so many words cannot name a script.
func TestATokenNamesNoScript(t *testing.T) {
	h := newHouse(t, options{})
	for _, user := range []string{"<script>alert(1)</script>", "</SCRIPT>", "a<script", "<\u017fcript>"} {
		got, body := h.post("/oauth/token", url.Values{
			"grant_type": {exchangeGrant}, "subject_token": {user}, "subject_token_type": {"urn:portcullis:params:oauth:token-type:user"},
		}, h.as("tokens"))
		if got.status != 400 || body["error"] != "invalid_request" {
			t.Errorf("%q: %d %s", user, got.status, got.body)
		}
	}
}

// A body of the deny-list is read by its own spelling alone: what another reader
// would take for something else is refused, and denies nothing.
func TestABodyOfTheDenyListHasOneReading(t *testing.T) {
	h := newHouse(t, options{})
	before := h.revision()
	for _, body := range []string{
		`{"jti":"a","jti":"b"}`, `{"JTI":"a"}`, `{"jti":"a","Jti":"b"}`, `{"jti":"a","x":1}`, `{"jti":1}`, `{"jti":["a"]}`, `{"jti":"a"}{}`,
		`{"jti":"a","expires_in":1e2}`, `{"jti":"a","expires_in":"60"}`, `{"jti":"a","issuer":{}}`, "{\"jti\":\"\xff\"}", `null`, `[]`, ``,
	} {
		if got := h.askWith("tokens", "POST", "/api/deny/token", body); got.status != 400 {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	if h.revision() != before {
		t.Error("something was denied")
	}
}
