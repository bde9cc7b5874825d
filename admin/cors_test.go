package admin_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/admin"
	"portcullis/internal/sealing"
)

const page = "https://app.example.com"

// everywhere are requests of every sort of answer: public, with a key, refused,
// OAuth's, well-known, and of no route at all.
var everywhere = []struct{ caller, method, target string }{
	{"nobody", "GET", "/ping"},
	{"nobody", "GET", "/health"},
	{"nobody", "HEAD", "/ping"},
	{"nobody", "OPTIONS", "/ping"},
	{"nobody", "OPTIONS", "/api/roles"},
	{"nobody", "OPTIONS", "/none"},
	{"nobody", "OPTIONS", "*"},
	{"manager", "GET", "/api/roles"},
	{"manager", "POST", "/api/role/writer"},
	{"manager", "POST", "/api/role/no%20blank%21"},
	{"manager", "PATCH", "/api/roles"},
	{"manager", "BREW", "/api/roles"},
	{"manager", "GET", "/api/none"},
	{"nobody", "GET", "/api/roles"},
	{"nobody", "GET", "/none"},
	{"nobody", "GET", "/" + strings.Repeat("a", 9000)},
	{"nobody", "POST", "/oauth/token"},
	{"nobody", "POST", "/oauth/revoke"},
	{"nobody", "POST", "/oauth/introspect"},
	{"nobody", "GET", "/.well-known/jwks.json"},
	{"nobody", "GET", "/.well-known/oauth-authorization-server"},
}

func corsHeaders(h http.Header) string {
	var names []string
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func varies(h http.Header, by string) bool {
	for _, name := range strings.Split(strings.Join(h["Vary"], ","), ",") {
		if strings.EqualFold(strings.TrimSpace(name), by) {
			return true
		}
	}
	return false
}

func TestWithoutCORSNoPageReadsAnything(t *testing.T) {
	h := newHouse(t, options{})
	for _, r := range everywhere {
		got := h.ask(r.caller, r.method, r.target, "Origin: "+page, "Access-Control-Request-Method: GET")
		if names := corsHeaders(got.header); names != "" || varies(got.header, "Origin") {
			t.Errorf("%s %.40s: %s", r.method, r.target, names)
		}
	}
}

func TestOnlyExactOriginsReadAnswers(t *testing.T) {
	h := newHouse(t, options{cors: admin.CORS{Origins: []string{page, "http://localhost:3000"}}})
	for _, r := range everywhere {
		for _, origin := range []string{page, "http://localhost:3000"} {
			got := h.ask(r.caller, r.method, r.target, "Origin: "+origin)
			if got.header.Get("Access-Control-Allow-Origin") != origin || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s %.40s of %s: %q", r.method, r.target, origin, got.header)
			}
			if !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
				t.Errorf("%s %.40s of %s: its page cannot read X-Request-Id", r.method, r.target, origin)
			}
			if !varies(got.header, "Origin") {
				t.Errorf("%s %.40s of %s: Vary: %q", r.method, r.target, origin, got.header["Vary"])
			}
		}
		for what, lines := range map[string][]string{
			"no origin":              nil,
			"null":                   {"Origin: null"},
			"an empty one":           {"Origin: "},
			"another":                {"Origin: https://evil.example"},
			"a longer host":          {"Origin: https://app.example.com.evil.example"},
			"a host that ends in it": {"Origin: https://evilapp.example.com"},
			"another scheme":         {"Origin: http://app.example.com"},
			"another port":           {"Origin: https://app.example.com:8443"},
			"its default port":       {"Origin: https://app.example.com:443"},
			"other letters":          {"Origin: https://APP.example.com"},
			"a slash":                {"Origin: https://app.example.com/"},
			"a user":                 {"Origin: https://app.example.com@evil.example"},
			"two in a line":          {"Origin: https://app.example.com, https://evil.example"},
			"two lines":              {"Origin: " + page, "Origin: https://evil.example"},
			"the same twice":         {"Origin: " + page, "Origin: " + page},
			"an asterisk":            {"Origin: *"},
		} {
			lines = append(lines, "Access-Control-Request-Method: GET")
			got := h.ask(r.caller, r.method, r.target, lines...)
			if names := corsHeaders(got.header); names != "" {
				t.Errorf("%s %.40s of %s: %s", r.method, r.target, what, names)
			}
			if !varies(got.header, "Origin") {
				t.Errorf("%s %.40s of %s: Vary: %q", r.method, r.target, what, got.header["Vary"])
			}
		}
	}
}

func TestPreflight(t *testing.T) {
	h := newHouse(t, options{cors: admin.CORS{Origins: []string{page}}})
	for target, methods := range map[string]string{
		"/api/role/editor":                     "DELETE, POST",
		"/api/roles":                           "GET, HEAD",
		"/api/settings":                        "GET, HEAD, PUT",
		"/api/membership/alice/editor":         "DELETE, GET, HEAD, POST",
		"/oauth/token":                         "POST",
		"/.well-known/jwks.json":               "GET, HEAD",
		"/api/has_permission/alice/see%20this": "GET, HEAD",
	} {
		got := h.ask("nobody", "OPTIONS", target, "Origin: "+page, "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization")
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":      page,
			"Access-Control-Allow-Methods":     methods,
			"Access-Control-Allow-Headers":     "Authorization, Content-Type, Idempotency-Key, X-Request-Id",
			"Access-Control-Max-Age":           "600",
			"Access-Control-Allow-Credentials": "",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %s: %q, want %q", target, name, got.header.Get(name), want)
			}
		}
		if got.status != 200 || got.body != "" || !varies(got.header, "Access-Control-Request-Method") || !varies(got.header, "Access-Control-Request-Headers") {
			t.Errorf("%s: %d %q, Vary: %q", target, got.status, got.body, got.header["Vary"])
		}
	}
	for what, lines := range map[string][]string{
		"another origin":           {"Origin: https://evil.example", "Access-Control-Request-Method: DELETE"},
		"null":                     {"Origin: null", "Access-Control-Request-Method: DELETE"},
		"no origin":                {"Access-Control-Request-Method: DELETE"},
		"a question of no browser": {"Origin: " + page},
	} {
		got := h.ask("nobody", "OPTIONS", "/api/role/editor", lines...)
		if got.status != 200 || got.header.Get("Access-Control-Allow-Methods")+got.header.Get("Access-Control-Allow-Headers") != "" {
			t.Errorf("%s: %d %q", what, got.status, got.header)
		}
	}
	// A preflight is no way around the key: it reads and changes nothing.
	if got := h.ask("nobody", "DELETE", "/api/role/editor", "Origin: "+page, "Access-Control-Request-Method: DELETE"); got.status != 401 {
		t.Errorf("a request that claims to be a preflight: %d", got.status)
	}
}

// For development every origin may stand for itself, except the one that stands for
// every sandboxed page; and never with credentials.
func TestAnyOrigin(t *testing.T) {
	h := newHouse(t, options{cors: admin.CORS{AnyOrigin: true}})
	for origin, want := range map[string]string{page: "*", "http://evil.example": "*", "null": "", "": ""} {
		got := h.ask("manager", "GET", "/api/roles", "Origin: "+origin)
		if got.header.Get("Access-Control-Allow-Origin") != want || got.header.Get("Access-Control-Allow-Credentials") != "" || !varies(got.header, "Origin") {
			t.Errorf("%q: %q", origin, got.header)
		}
	}
}

func TestAWrongCORSStopsTheStart(t *testing.T) {
	h := newHouse(t, options{})
	for _, wrong := range []admin.CORS{{Origins: []string{"*"}}, {Origins: []string{page, "null"}}, {Origins: []string{page}, AnyOrigin: true}} {
		_, err := admin.New(admin.Config{Store: h.store, Cache: h.cache, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
			SealReply: sealing.SealReply, OpenReply: sealing.OpenReply, CORS: wrong})
		if err == nil || !strings.Contains(err.Error(), "Config.CORS") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}
