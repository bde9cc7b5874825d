package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/envoy"
	"portcullis/policy"
)

const permissive = envoy.ListenerPermissive

// TestThroughEnvoy plays every scenario that leaves the world as it is, against
// one Envoy and one gate.
func TestThroughEnvoy(t *testing.T) {
	w := newWorld(t, worldConfig{})
	p := w.seed(t)
	t.Run("credentials", func(t *testing.T) { w.run(t, credentialScenarios(t, p)) })
	t.Run("permissions", func(t *testing.T) { w.run(t, permissionScenarios(t, p)) })
	t.Run("headers", func(t *testing.T) { w.run(t, headerScenarios(p)) })
	t.Run("paths", func(t *testing.T) { w.run(t, pathScenarios(p)) })
	t.Run("hosts and methods", func(t *testing.T) { w.run(t, hostScenarios(p)) })
	t.Run("grpc", func(t *testing.T) { testGRPC(t, w, p) })
	t.Run("websocket", func(t *testing.T) { testWebSocket(t, w, p) })
	t.Run("revoked a moment ago", func(t *testing.T) { w.run(t, revokedScenarios(t)) })
}

func credentialScenarios(t *testing.T, p people) []scenario {
	unauthorized := func(name, reason string, r request) scenario {
		return scenario{name: name, request: r, answers: gate, status: 401, reason: reason}
	}
	get := func(headers ...string) request { return request{line: "GET /posts/1", headers: headers} }
	return []scenario{
		{name: "public", request: request{line: "GET /healthz"}},
		{name: "public with a bad token, which goes no further", request: request{line: "GET /healthz", headers: []string{bearer("junk"), clientKey("junk")}}},
		unauthorized("no token", "missing_credential", get()),
		unauthorized("no token on HEAD", "missing_credential", request{line: "HEAD /posts/1"}),
		unauthorized("another scheme", "invalid_token", get("Authorization: Basic YW15OmFteQ==")),
		unauthorized("junk", "invalid_token", get(bearer("junk"))),
		unauthorized("expired token", "expired", get(bearer(signed(t, claims{Subject: "amy", Age: time.Hour})))),
		unauthorized("token from the future", "invalid_token", get(bearer(signed(t, claims{Subject: "amy", Age: -time.Hour})))),
		unauthorized("token signed by somebody else", "invalid_token", get(bearer(signed(t, claims{Subject: "root", Secret: strings.Repeat("x", 40)})))),
		unauthorized("token with another algorithm", "invalid_token", get(bearer(signed(t, claims{Subject: "root", Method: jwt.SigningMethodHS512})))),
		unauthorized("unsigned token", "invalid_token", get(bearer(signed(t, claims{Subject: "root", Method: jwt.SigningMethodNone})))),
		unauthorized("duplicate Authorization lines", "conflicting_credentials", get(bearer(p.bob), bearer(p.root))),
		unauthorized("the same Authorization line twice", "conflicting_credentials", get(bearer(p.bob), bearer(p.bob))),
		unauthorized("two tokens in one line", "conflicting_credentials", get(bearer(p.bob)+", Bearer "+p.root)),
		unauthorized("duplicate client keys", "conflicting_credentials", request{line: "POST /deploy", headers: []string{clientKey(p.ci), clientKey(p.idle)}}),
		unauthorized("a client key beside a token of another tenant", "conflicting_credentials", get(bearer(p.zed), clientKey(p.ci))),
		unauthorized("unknown client key", "bad_key", get(clientKey("00000000-0000-4000-8000-000000000000"))),
		unauthorized("client key that is no UUID", "bad_key", get(clientKey("ci"))),
		unauthorized("unknown user API key", "bad_key", get("X-Api-Key: rak_"+strings.Repeat("a", 43))),
		unauthorized("unknown user API key as Bearer", "bad_key", get(bearer("rak_"+strings.Repeat("a", 43)))),
		unauthorized("a user API key cut short", "bad_key", get("X-Api-Key: "+p.bobsKey[:46])),
		unauthorized("duplicate user API keys", "conflicting_credentials", get("X-Api-Key: "+p.bobsKey, "X-Api-Key: "+p.bobsKey)),
		unauthorized("a user API key as Bearer and in its header", "conflicting_credentials", get(bearer(p.bobsKey), "X-Api-Key: "+p.bobsKey)),
		unauthorized("a user API key beside another user's token", "conflicting_credentials", get(bearer(p.amy), "X-Api-Key: "+p.bobsKey)),
		unauthorized("a user API key beside a client key of another tenant", "conflicting_credentials", get(clientKey(p.ci), "X-Api-Key: "+p.zedsKey)),
		{name: "user API key", request: get("X-Api-Key: " + p.bobsKey), identity: user("bob", "viewer")},
		{name: "user API key as Bearer", request: get(bearer(p.bobsKey)), identity: user("bob", "viewer")},
		{name: "user API key beside its user's token and a client key", request: get(bearer(p.bob), "X-Api-Key: "+p.bobsKey, clientKey(p.ci)), identity: user("bob", "viewer")},
		{name: "user API key where Authorization is forwarded: not upstream", request: request{line: "GET /forwarded", headers: []string{bearer(p.bobsKey)}},
			identity: user("bob", "viewer")},
		{name: "user API key in its header where Authorization is forwarded", request: request{line: "GET /forwarded", headers: []string{"X-Api-Key: " + p.bobsKey}},
			identity: user("bob", "viewer")},
		{name: "user API key of another tenant", request: get("X-Api-Key: " + p.zedsKey), answers: gate, status: 403, reason: "wrong_tenant"},
		{name: "client key", request: request{line: "POST /deploy", headers: []string{clientKey(p.ci)}, body: "release 7"},
			identity: principal("default", "client", "ci", "deployer")},
		{name: "client key in capitals", request: request{line: "POST /deploy", headers: []string{clientKey(strings.ToUpper(p.ci))}},
			identity: principal("default", "client", "ci", "deployer")},
		{name: "a client key beside a token of its tenant: the user counts", request: request{line: "GET /posts/1", headers: []string{bearer(p.bob), clientKey(p.ci)}},
			identity: user("bob", "viewer")},
		{name: "token with bearer in small letters", request: request{line: "GET /posts/1", headers: []string{"authorization: bearer " + p.bob}},
			identity: user("bob", "viewer")},
		{name: "forwarded token", request: request{line: "GET /forwarded", headers: []string{bearer(p.eve), clientKey(p.ci)}},
			identity: user("eve", ""), forwards: []string{policy.HeaderAuthorization}},
	}
}

func permissionScenarios(t *testing.T, p people) []scenario {
	forbidden := func(name, reason, line string, headers ...string) scenario {
		return scenario{name: name, request: request{line: line, headers: headers}, answers: gate, status: 403, reason: reason}
	}
	allowed := func(name, line string, identity map[string]string, headers ...string) scenario {
		return scenario{name: name, request: request{line: line, headers: headers}, identity: identity}
	}
	return []scenario{
		allowed("right role", "GET /posts/1", user("bob", "viewer"), bearer(p.bob)),
		allowed("inherited permission", "GET /posts/1", user("amy", "editor"), bearer(p.amy)),
		{name: "right role to write", request: request{line: "PUT /posts/1", headers: []string{bearer(p.amy)}, body: "new text"}, identity: user("amy", "editor")},
		forbidden("wrong role", "missing_permission", "PUT /posts/1", bearer(p.bob)),
		forbidden("no role", "missing_permission", "GET /posts/1", bearer(p.eve)),
		forbidden("client key without a role", "missing_permission", "POST /deploy", clientKey(p.idle)),
		forbidden("a user named like a client is not the client", "missing_permission", "POST /deploy", bearer(signed(t, claims{Subject: "ci"}))),
		allowed("authenticated is enough for whoami", "GET /me", user("eve", ""), bearer(p.eve)),
		allowed("any of two", "GET /search", user("bob", "viewer"), bearer(p.bob)),
		forbidden("all of two, one missing", "missing_permission", "POST /publish", bearer(p.bob)),
		allowed("all of two", "POST /publish", user("amy", "editor"), bearer(p.amy)),
		forbidden("no rule", "no_rule", "GET /nowhere", bearer(p.root)),
		forbidden("no rule without a token: nothing to learn", "no_rule", "GET /nowhere"),
		forbidden("a trailing slash is another path", "no_rule", "GET /me/", bearer(p.root)),
		forbidden("case counts", "no_rule", "GET /ADMIN", bearer(p.root)),
		forbidden("token of another tenant", "wrong_tenant", "GET /posts/1", bearer(p.zed)),
		forbidden("token of another tenant on an authenticated rule", "wrong_tenant", "GET /me", bearer(p.zed)),
		forbidden("a tenant that invents edit_content for itself", "wrong_tenant", "PUT /posts/1", bearer(p.zed)),
		forbidden("a tenant that invents administer for itself", "wrong_tenant", "GET /admin", bearer(p.zed)),
		forbidden("a tenant that nobody made", "wrong_tenant", "GET /me", bearer(signed(t, claims{Subject: "amy", Tenant: "nobody"}))),
		allowed("the other tenant where it belongs", "GET /partner/a/b", principal("acme", "user", "zed", "boss"), bearer(p.zed)),
		forbidden("the default tenant where it does not", "wrong_tenant", "GET /partner/a/b", bearer(p.root)),
	}
}

func headerScenarios(p people) []scenario {
	var spoofs, twins []string
	for _, name := range policy.ManagedHeaders() {
		spoofs = append(spoofs, name+": spoofed")
		for _, twin := range policy.HeaderTwins(name) {
			twins = append(twins, twin+": spoofed")
		}
	}
	for _, name := range policy.KeyHeaders() {
		for _, twin := range policy.HeaderTwins(name) {
			twins = append(twins, twin+": "+p.ci)
		}
	}
	with := func(headers []string, more ...string) []string {
		return append(append([]string(nil), headers...), more...)
	}
	return []scenario{
		{name: "spoofed identity header", request: request{line: "GET /posts/1", headers: []string{bearer(p.bob), "X-Auth-Subject: root", "X-Auth-Roles: admin"}},
			identity: user("bob", "viewer")},
		{name: "every identity header spoofed, past Envoy's own removal", listener: permissive,
			request: request{line: "GET /posts/1", headers: with(spoofs, bearer(p.bob))}, identity: user("bob", "viewer")},
		{name: "every identity header spoofed twice", listener: permissive,
			request: request{line: "GET /posts/1", headers: with(append(spoofs, spoofs...), bearer(p.bob))}, identity: user("bob", "viewer")},
		{name: "every identity header spoofed on a public page", listener: permissive,
			request: request{line: "GET /healthz", headers: spoofs}},
		{name: "a caller without roles does not borrow spoofed ones", listener: permissive,
			request: request{line: "GET /me", headers: with(spoofs, bearer(p.eve))}, identity: user("eve", "")},
		{name: "underscore twin", request: request{line: "GET /posts/1", headers: []string{bearer(p.bob), "x_auth_subject: root"}},
			answers: envoyOwn, status: 400},
		{name: "mixed underscore twins", listener: permissive,
			request: request{line: "GET /posts/1", headers: with(twins, bearer(p.bob))}, identity: user("bob", "viewer")},
		{name: "mixed underscore twins on a public page", listener: permissive,
			request: request{line: "GET /healthz", headers: twins}},
		{name: "method override does not widen", request: request{line: "POST /posts/1", headers: []string{bearer(p.bob),
			"X-HTTP-Method-Override: GET", "X-HTTP-Method: GET", "X-Method-Override: GET"}},
			answers: gate, status: 403, reason: "missing_permission"},
		{name: "URL override does not redirect", request: request{line: "GET /admin", headers: []string{bearer(p.bob),
			"X-Original-URL: /posts/1", "X-Rewrite-URL: /posts/1", "X-Forwarded-Uri: /posts/1", "X-Envoy-Original-Path: /posts/1"}},
			answers: gate, status: 403, reason: "missing_permission"},
		{name: "client certificate details of a client", request: request{line: "GET /posts/1",
			headers: []string{`X-Forwarded-Client-Cert: URI="spiffe://example.org/root"`}},
			answers: gate, status: 401, reason: "missing_credential"},
	}
}

func pathScenarios(p people) []scenario {
	mended := func(line, path string) scenario {
		return scenario{name: line, request: request{line: line, headers: []string{bearer(p.root)}}, path: path, identity: user("root", "admin")}
	}
	// Whoever may not see /admin may not see it under another name either.
	denied := func(line string) scenario {
		return scenario{name: line + " for a viewer", request: request{line: line, headers: []string{bearer(p.bob)}}, answers: gate, status: 403, reason: "missing_permission"}
	}
	refused := func(line string) scenario {
		return scenario{name: line, request: request{line: line, headers: []string{bearer(p.root)}}, answers: envoyOwn, status: 400}
	}
	ambiguous := func(listener, line string) scenario {
		return scenario{name: line + " through " + listener, listener: listener,
			request: request{line: line, headers: []string{bearer(p.root)}}, answers: gate, status: 400, reason: "ambiguous_request"}
	}
	// What can be read in two ways and is in no rule either way needs no more words.
	unknown := func(listener, line string) scenario {
		s := ambiguous(listener, line)
		s.status, s.reason = 403, "no_rule"
		return s
	}
	out := []scenario{
		// Envoy mends these, and the gate decides about what the upstream will see.
		mended("GET //admin", "/admin"), denied("GET //admin"),
		mended("GET /posts/../admin", "/admin"), denied("GET /posts/../admin"),
		mended("GET /posts/%2e%2E/admin", "/admin"), denied("GET /posts/%2e%2E/admin"),
		mended(`GET /posts\..\admin`, "/admin"), denied(`GET /posts\..\admin`),
		mended("GET /%61dmin", "/admin"), denied("GET /%61dmin"),
		mended("GET /%61%64min/users", "/admin/users"), denied("GET /%61%64min/users"),
		mended("GET /healthz;/../admin", "/admin"), denied("GET /healthz;/../admin"),
		denied("GET /admin?/healthz"),
		denied("GET /admin?path=/healthz"),
		{name: "a path in the query is no path", request: request{line: "GET /healthz?/../admin;x//y"}},
		// Envoy refuses these.
		refused("GET /admin%2fusers"), refused("GET /admin%2Fusers"), refused("GET /admin%5cusers"), refused("GET /healthz#/admin"), refused("GET /\xc3\xa9"),
		// `;` is the gate's to refuse, unless a rule opts in.
		ambiguous(envoy.ListenerIngress, "GET /admin/users;x=y"),
		ambiguous(envoy.ListenerIngress, "GET /posts/1;x=y"),
		unknown(envoy.ListenerIngress, "GET /admin;x=y"),
		{name: "GET /matrix/a;b opts in", request: request{line: "GET /matrix/a;b", headers: []string{bearer(p.bob)}}, identity: user("bob", "viewer")},
		{name: "GET /%61dmin past Envoy", listener: permissive, request: request{line: "GET /%61dmin", headers: []string{bearer(p.bob)}},
			answers: gate, status: 403, reason: "missing_permission"},
	}
	for _, line := range []string{
		"GET /admin//users", "GET /admin/users//", "GET /posts/../admin", "GET /posts/%2e%2e/admin", "GET /posts/.%2E/admin", "GET /./admin", "GET /posts/..",
		"GET /admin/a%2fb", "GET /admin/a%2Fb", "GET /admin%5cusers", `GET /admin\users`, "GET /admin/users;x=y", "GET /admin/..;/users",
		"GET /admin/users%3bx", "GET /admin%00", "GET /admin%0a", "GET /admin%2561", "GET /admin%zz", "GET /admin%", "GET /%ff",
	} {
		out = append(out, ambiguous(permissive, line))
	}
	for _, line := range []string{"GET //admin", "GET /admin%2fusers", "GET /admin%2Fusers", "GET /admin;x=y", "GET /admin%3bx", "GET //healthz"} {
		out = append(out, unknown(permissive, line))
	}
	return out
}

func hostScenarios(p people) []scenario {
	hosted := func(host, arrives string) scenario {
		return scenario{name: "host " + host, request: request{line: "GET /hosted", host: host, headers: []string{bearer(p.bob)}}, host: arrives, identity: user("bob", "viewer")}
	}
	through := func(listener string, s scenario) scenario {
		s.name, s.listener = s.name+" through "+listener, listener
		return s
	}
	elsewhere := scenario{name: "another host", request: request{line: "GET /hosted", host: "blog.example.com.evil.com", headers: []string{bearer(p.bob)}},
		answers: gate, status: 403, reason: "no_rule"}
	odd := func(host string) scenario {
		return scenario{name: "host " + host, listener: permissive, request: request{line: "GET /hosted", host: host, headers: []string{bearer(p.bob)}},
			answers: gate, status: 400, reason: "ambiguous_request"}
	}
	return []scenario{
		hosted(blog, blog),
		hosted("blog.example.com:8443", blog),
		hosted("BLOG.Example.com", "BLOG.Example.com"),
		hosted("Blog.Example.com.:8443", "Blog.Example.com"),
		through(permissive, hosted("Blog.Example.com.:8443", "Blog.Example.com.:8443")),
		elsewhere,
		odd("blog.example.com..:80"),
		odd("blog.example.com:80:80"),
		{name: "method in another case", request: request{line: "get /posts/1", headers: []string{bearer(p.root)}}, answers: envoyOwn, status: 400},
		{name: "unknown method", request: request{line: "PURGE /posts/1", headers: []string{bearer(p.root)}}, answers: gate, status: 403, reason: "no_rule"},
		{name: "CONNECT", request: request{line: "CONNECT blog.example.com:443", host: "blog.example.com:443", headers: []string{bearer(p.root)}},
			answers: envoyOwn, status: 404},
		{name: "CONNECT past Envoy", listener: permissive, request: request{line: "CONNECT blog.example.com:443", host: "blog.example.com:443", headers: []string{bearer(p.root)}},
			answers: gate, status: 403, reason: "no_rule"},
		{name: "header block that Envoy does not take", request: request{line: "GET /posts/1", headers: []string{bearer(p.root), "X-Long: " + strings.Repeat("x", 70<<10)}},
			answers: envoyOwn, status: 431},
	}
}

// revokedScenarios change the world: who was allowed before is denied after.
func revokedScenarios(t *testing.T) []scenario {
	brief := []string{bearer(signed(t, claims{Subject: "brief"}))}
	join := func(t *testing.T, w *world, _ *request) { w.cli(t, "member", "add", "brief", "viewer", "--wait") }
	allowed := scenario{name: "allowed", request: request{line: "GET /posts/1", headers: brief}, identity: user("brief", "viewer")}
	denied := scenario{name: "denied", request: request{line: "GET /posts/1", headers: brief}, answers: gate, status: 403, reason: "missing_permission"}
	first, byAPI, again, byCLI := allowed, denied, allowed, denied
	first.name, first.before = "user who just joined", join
	byAPI.name, byAPI.before = "user revoked by the admin API", func(t *testing.T, w *world, _ *request) {
		w.admin(t, "DELETE", "/api/membership/brief/viewer?wait=all&timeout=5s")
	}
	again.name, again.before = "user who joined again", join
	byCLI.name, byCLI.before = "user revoked by the command line", func(t *testing.T, w *world, _ *request) {
		w.cli(t, "member", "remove", "brief", "viewer", "--wait")
	}
	withdrawn := denied
	withdrawn.name, withdrawn.before = "role that lost its permission", func(t *testing.T, w *world, r *request) {
		join(t, w, r)
		w.cli(t, "permission", "remove", "viewer", "view_content", "--wait")
	}
	revokedKey := scenario{name: "client key revoked", request: request{line: "GET /me"}, answers: gate, status: 401, reason: "bad_key"}
	revokedKey.before = func(t *testing.T, w *world, r *request) {
		r.headers = []string{clientKey(w.cli(t, "key", "new", "--name", "brief", "--wait"))}
		live := w.send(t, envoy.ListenerIngress, *r)
		if live.status != 200 {
			t.Fatalf("the key does not open anything before it is revoked: %d %s", live.status, live.body)
		}
		w.cli(t, "key", "revoke", "--name", "brief", "--wait")
	}
	return []scenario{first, byAPI, again, byCLI, withdrawn, revokedKey}
}
