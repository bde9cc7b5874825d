package admin_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/internal/testkit/transcript"
	"portcullis/policy"
)

const formType = "Content-Type: application/x-www-form-urlencoded"

func basic(id, secret string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// as is the Basic header of a caller of the house.
func (h *house) as(caller string) string {
	tenant := cmp.Or(transcript.TenantOf(caller), store.DefaultTenant)
	return basic(tenant+"/"+caller, h.keys[caller])
}

// post sends a form to an OAuth endpoint.
func (h *house) post(path string, form url.Values, lines ...string) (answer, map[string]any) {
	h.t.Helper()
	got := h.send("POST "+path+" HTTP/1.1", append(lines, formType), form.Encode())
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		h.t.Fatalf("%s: %d %q: %v", path, got.status, got.body, err)
	}
	return got, body
}

const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"

func exchangeForm(user string) url.Values {
	return url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {user},
		"subject_token_type": {"urn:portcullis:params:oauth:token-type:user"},
	}
}

// tokensFor exchanges for a user and returns both tokens.
func (h *house) tokensFor(user string) (access, refresh string) {
	h.t.Helper()
	got, body := h.post("/oauth/token", exchangeForm(user), h.as("tokens"))
	if got.status != 200 {
		h.t.Fatalf("exchange: %d %s", got.status, got.body)
	}
	return body["access_token"].(string), body["refresh_token"].(string)
}

func (h *house) active(caller, token string) bool {
	h.t.Helper()
	got, body := h.post("/oauth/introspect", url.Values{"token": {token}}, h.as(caller))
	if got.status != 200 {
		h.t.Fatalf("introspect: %d %s", got.status, got.body)
	}
	return body["active"].(bool)
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

func TestOAuth2LibraryObtainsAndRefreshes(t *testing.T) {
	h := newHouse(t, options{})
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams, oauth2.AuthStyleAutoDetect} {
		cc := clientcredentials.Config{
			ClientID: "default/check", ClientSecret: h.keys["check"], TokenURL: "http://" + h.addr + "/oauth/token", AuthStyle: style,
		}
		token, err := cc.Token(t.Context())
		must(t, err)
		if token.TokenType != "Bearer" || token.RefreshToken != "" || time.Until(token.Expiry) < 14*time.Minute {
			t.Errorf("style %v: %+v", style, token)
		}
		held, reason := h.verifier.Verify(token.AccessToken)
		if reason != policy.ReasonOK || held.Principal != (policy.Principal{Tenant: "default", Kind: policy.KindClient, ID: "check"}) {
			t.Errorf("style %v: %v, %+v", style, reason, held)
		}
		if !strings.Contains(decodeSegment(t, token.AccessToken, 0), `"typ":"at+jwt"`) {
			t.Errorf("header %s", decodeSegment(t, token.AccessToken, 0))
		}
	}
	_, refresh := h.tokensFor("amy")
	conf := oauth2.Config{
		ClientID: "default/tokens", ClientSecret: h.keys["tokens"],
		Endpoint: oauth2.Endpoint{TokenURL: "http://" + h.addr + "/oauth/token"},
	}
	token, err := conf.TokenSource(t.Context(), &oauth2.Token{RefreshToken: refresh}).Token()
	must(t, err)
	if token.RefreshToken == "" || token.RefreshToken == refresh {
		t.Errorf("the refresh token was not rotated: %q", token.RefreshToken)
	}
	held, reason := h.verifier.Verify(token.AccessToken)
	if reason != policy.ReasonOK || held.Principal != (policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "amy"}) {
		t.Errorf("%v, %+v", reason, held)
	}
}

func decodeSegment(t *testing.T, token string, n int) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	must(t, err)
	return string(text)
}

// A refresh token that is used twice takes its whole family with it, the access
// tokens included.
func TestAReusedRefreshTokenKillsItsFamily(t *testing.T) {
	h := newHouse(t, options{})
	access, first := h.tokensFor("amy")
	_, other := h.tokensFor("bob")
	got, body := h.post("/oauth/token", refreshForm(first), h.as("tokens"))
	if got.status != 200 {
		t.Fatalf("refresh: %d %s", got.status, got.body)
	}
	second, access2 := body["refresh_token"].(string), body["access_token"].(string)
	for _, token := range []string{access, access2, second} {
		if !h.active("check", token) {
			t.Fatal("a live token is not active")
		}
	}
	if h.active("check", first) {
		t.Error("a used refresh token is active")
	}
	for _, token := range []string{first, second} {
		if got, body := h.post("/oauth/token", refreshForm(token), h.as("tokens")); got.status != 400 || body["error"] != "invalid_grant" {
			t.Errorf("after reuse: %d %s", got.status, got.body)
		}
	}
	for _, token := range []string{access, access2, first, second} {
		if h.active("check", token) {
			t.Errorf("%.20s... lives on after reuse", token)
		}
	}
	if !h.active("check", other) {
		t.Error("another family died with it")
	}
}

func TestRefreshTokensBelongToTheirClient(t *testing.T) {
	h := newHouse(t, options{})
	_, refresh := h.tokensFor("amy")
	for _, tenant := range []string{"default", "globex"} {
		key := identity.NewClientKey()
		_, result, err := h.store.CreateKey(t.Context(), store.Actor{Name: "cli"}, store.NewKey{
			Tenant: h.tenants[tenant], Name: "thief", Digest: identity.KeyDigest(key), Prefix: string(key[:8]), Scopes: []store.Scope{store.ScopeTokens},
		})
		must(t, err)
		must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
		got, body := h.post("/oauth/token", refreshForm(refresh), basic(tenant+"/thief", string(key[:])))
		if got.status != 400 || body["error"] != "invalid_grant" {
			t.Errorf("%s: %d %s", tenant, got.status, got.body)
		}
	}
	if got, _ := h.post("/oauth/token", refreshForm(refresh), h.as("tokens")); got.status != 200 {
		t.Errorf("its own client afterwards: %d %s", got.status, got.body)
	}
}

func TestRevocation(t *testing.T) {
	h := newHouse(t, options{})
	access, refresh := h.tokensFor("amy")
	revoke := func(caller, token string) answer {
		t.Helper()
		got, _ := h.post("/oauth/revoke", url.Values{"token": {token}}, h.as(caller))
		return got
	}
	if got := revoke("stranger", access); got.status != 200 || !h.active("check", access) {
		t.Errorf("another tenant revoked: %d", got.status)
	}
	if got := revoke("stranger", refresh); got.status != 200 || !h.active("check", refresh) {
		t.Errorf("another tenant revoked: %d", got.status)
	}
	for _, token := range []string{access, refresh} {
		if h.active("stranger", token) {
			t.Error("another tenant sees that a token is live")
		}
		if got := revoke("check", token); got.status != 400 || !h.active("check", token) {
			t.Errorf("another client revoked: %d %s", got.status, got.body)
		}
	}
	if got := revoke("tokens", "no.such.token"); got.status != 200 {
		t.Errorf("unknown token: %d %s", got.status, got.body)
	}
	if got := revoke("tokens", access); got.status != 200 || h.active("check", access) {
		t.Errorf("the access token lives on: %d %s", got.status, got.body)
	}
	if !h.active("check", refresh) {
		t.Error("the refresh token went with its access token")
	}
	for range 2 {
		if got := revoke("tokens", refresh); got.status != 200 || h.active("check", refresh) {
			t.Errorf("the refresh token lives on: %d %s", got.status, got.body)
		}
	}
	if h.active("stranger", refresh) || h.active("stranger", access) {
		t.Error("another tenant's token is active")
	}
}

// Every refusal has RFC 6749's form and no-store, whoever asks for whatever.
func TestOAuthRefusals(t *testing.T) {
	h := newHouse(t, options{})
	cc := url.Values{"grant_type": {"client_credentials"}}
	with := func(form url.Values, name, value string) url.Values {
		out := url.Values{name: {value}}
		for k, v := range form {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name   string
		form   url.Values
		lines  []string
		status int
		code   string
	}{
		{"no client", cc, nil, 401, "invalid_client"},
		{"unknown key", cc, []string{h.as("unknown")}, 401, "invalid_client"},
		{"revoked key", cc, []string{h.as("revoked")}, 401, "invalid_client"},
		{"expired key", cc, []string{h.as("expired")}, 401, "invalid_client"},
		{"no UUID", cc, []string{basic("default/check", "x")}, 401, "invalid_client"},
		{"another name", cc, []string{basic("default/manage", h.keys["check"])}, 401, "invalid_client"},
		{"another tenant", cc, []string{basic("globex/check", h.keys["check"])}, 401, "invalid_client"},
		{"bearer", cc, []string{"Authorization: Bearer " + h.keys["check"]}, 401, "invalid_client"},
		{"two headers", cc, []string{h.as("check"), h.as("check")}, 401, "invalid_client"},
		{"both ways", with(with(cc, "client_id", "default/check"), "client_secret", h.keys["check"]), []string{h.as("check")}, 400, "invalid_request"},
		{"another client_id", with(cc, "client_id", "default/manage"), []string{h.as("check")}, 400, "invalid_request"},
		{"no grant", url.Values{}, []string{h.as("check")}, 400, "invalid_request"},
		{"empty grant", url.Values{"grant_type": {""}}, []string{h.as("check")}, 400, "invalid_request"},
		{"password", url.Values{"grant_type": {"password"}}, []string{h.as("check")}, 400, "unsupported_grant_type"},
		{"twice", url.Values{"grant_type": {"client_credentials", "client_credentials"}}, []string{h.as("check")}, 400, "invalid_request"},
		{"scope", with(cc, "scope", "all"), []string{h.as("check")}, 400, "invalid_scope"},
		{"no scope tokens", exchangeForm("amy"), []string{h.as("manager")}, 400, "unauthorized_client"},
		{"refresh without it", refreshForm("prt_x"), []string{h.as("manager")}, 400, "unauthorized_client"},
		{"no refresh token", refreshForm("prt_x"), []string{h.as("tokens")}, 400, "invalid_grant"},
		{"no subject", with(exchangeForm("amy"), "subject_token", ""), []string{h.as("tokens")}, 400, "invalid_request"},
		{"bad user", exchangeForm("a b"), []string{h.as("tokens")}, 400, "invalid_request"},
		{"bad type", with(exchangeForm("amy"), "subject_token_type", "saml"), []string{h.as("tokens")}, 400, "invalid_request"},
		{"target", with(exchangeForm("amy"), "resource", "x"), []string{h.as("tokens")}, 400, "invalid_target"},
		{"actor", with(exchangeForm("amy"), "actor_token", "x"), []string{h.as("tokens")}, 400, "invalid_request"},
	} {
		before := h.revision()
		got, body := h.post("/oauth/token", c.form, c.lines...)
		if got.status != c.status || body["error"] != c.code || got.header.Get("Cache-Control") != "no-store" || body["error_description"] == "" {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
		if basic := strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Basic "); basic != (got.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got.header.Get("WWW-Authenticate"))
		}
		if h.revision() != before {
			t.Errorf("%s changed something", c.name)
		}
	}
	for _, path := range []string{"/oauth/token", "/oauth/revoke", "/oauth/introspect"} {
		if got := h.send("GET "+path+" HTTP/1.1", []string{h.as("check")}, ""); got.status != 405 || !strings.Contains(got.body, "invalid_request") {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
		if got := h.send("POST "+path+"?token=x HTTP/1.1", []string{h.as("check"), formType}, "token=x"); got.status != 400 {
			t.Errorf("POST %s with a query: %d %s", path, got.status, got.body)
		}
		for _, kinds := range [][]string{nil, {"Content-Type: application/json"}, {formType, formType}, {formType, "Content-Encoding: gzip"}} {
			got := h.send("POST "+path+" HTTP/1.1", append(kinds, h.as("check")), "grant_type=client_credentials&token=x")
			if got.status != 400 || !strings.Contains(got.body, `"invalid_request"`) {
				t.Errorf("POST %s with %q: %d %s", path, kinds, got.status, got.body)
			}
		}
	}
}

// An exchange takes a user's API key and a token of the tenant, and nobody else's.
func TestExchangeNamesTheUser(t *testing.T) {
	h := newHouse(t, options{})
	secret := identity.NewUserKey()
	_, result, err := h.store.CreateUserKey(t.Context(), store.Actor{Name: "cli"}, store.NewUserKey{
		Tenant: h.tenants["globex"], User: "eve", Digest: identity.UserKeyDigest(secret[:]), Prefix: string(secret[:12]),
	})
	must(t, err)
	own := identity.NewUserKey()
	_, result, err = h.store.CreateUserKey(t.Context(), store.Actor{Name: "cli"}, store.NewUserKey{
		Tenant: h.tenants["default"], User: "amy", Digest: identity.UserKeyDigest(own[:]), Prefix: string(own[:12]),
	})
	must(t, err)
	must(t, h.cache.CatchUp(t.Context(), result.Revision.Number))
	access, _ := h.tokensFor("amy")
	_, client := h.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}}, h.as("tokens"))
	foreign, err := h.issuer.Issue(policy.Principal{Tenant: "globex", Kind: policy.KindUser, ID: "eve"}, time.Minute)
	must(t, err)
	const types = "urn:ietf:params:oauth:token-type:"
	for _, c := range []struct {
		name, kind, token string
		status            int
	}{
		{"api key", "urn:portcullis:params:oauth:token-type:api_key", string(own[:]), 200},
		{"another tenant's api key", "urn:portcullis:params:oauth:token-type:api_key", string(secret[:]), 400},
		{"no api key", "urn:portcullis:params:oauth:token-type:api_key", "rak_x", 400},
		{"access token", types + "access_token", access, 200},
		{"jwt", types + "jwt", access, 200},
		{"a client's token", types + "access_token", client["access_token"].(string), 400},
		{"another tenant's token", types + "access_token", foreign, 400},
		{"junk", types + "jwt", "a.b.c", 400},
	} {
		form := url.Values{"grant_type": {exchangeGrant}, "subject_token": {c.token}, "subject_token_type": {c.kind}}
		got, body := h.post("/oauth/token", form, h.as("tokens"))
		if got.status != c.status {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
			continue
		}
		if got.status == 200 {
			held, reason := h.verifier.Verify(body["access_token"].(string))
			if reason != policy.ReasonOK || held.Principal != (policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "amy"}) {
				t.Errorf("%s: %v %+v", c.name, reason, held)
			}
		}
	}
}

// What is denied of a user until now does not come back by a refresh.
func TestADeniedUserDoesNotRefresh(t *testing.T) {
	h := newHouse(t, options{})
	access, refresh := h.tokensFor("amy")
	got := h.sendJSON("tokens", "POST", "/api/deny/subject", `{"id":"amy"}`)
	if got.status != 200 {
		t.Fatalf("deny: %d %s", got.status, got.body)
	}
	if h.active("check", access) || h.active("check", refresh) {
		t.Error("a denied user's token is active")
	}
	if got, body := h.post("/oauth/token", refreshForm(refresh), h.as("tokens")); got.status != 400 || body["error"] != "invalid_grant" {
		t.Errorf("refresh: %d %s", got.status, got.body)
	}
}

func (h *house) sendJSON(caller, method, target, body string, lines ...string) answer {
	return h.send(method+" "+target+" HTTP/1.1", append(lines, "Authorization: Bearer "+h.keys[caller]), body)
}

func TestIssuingIsAudited(t *testing.T) {
	h := newHouse(t, options{})
	_, refresh := h.tokensFor("amy")
	h.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}}, h.as("check"))
	_, body := h.post("/oauth/token", refreshForm(refresh), h.as("tokens"))
	h.post("/oauth/revoke", url.Values{"token": {body["refresh_token"].(string)}}, h.as("tokens"))
	for action, want := range map[store.Action]int{store.ActionIssueToken: 2, store.ActionRefreshToken: 1, store.ActionRevokeToken: 1} {
		entries, total, err := h.store.Audit(context.Background(), store.AuditQuery{Tenant: h.tenants["default"], Actions: []store.Action{action}, Limit: 10})
		must(t, err)
		if total != want {
			t.Errorf("%s: %d rows, want %d: %+v", action, total, want, entries)
		}
		for _, e := range entries {
			if strings.Contains(e.Details+e.After+e.Before, refresh) {
				t.Errorf("%s holds a token: %+v", action, e)
			}
		}
	}
}

func TestWellKnownWithASecret(t *testing.T) {
	h := newHouse(t, options{})
	for _, path := range []string{"/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
		if got := h.ask("nobody", http.MethodGet, path); got.status != 404 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}
