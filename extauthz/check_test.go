package extauthz

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"portcullis/internal/store"
	"portcullis/policy"
)

func TestRules(t *testing.T) {
	g := newGate(t, nil)
	ann, bob, eve := bearer(g.token("ann")), bearer(g.token("bob")), bearer(g.token("eve"))
	for _, c := range []struct {
		want string
		r    request
	}{
		{"ok", request{path: "/healthz"}},
		{"ok", request{path: "/posts/1", headers: bob}},
		{"ok", request{path: "/posts/1?admin=true", headers: bob}},
		{"ok", request{path: "/posts/1", method: "HEAD", headers: bob}},
		{"ok", request{path: "/posts/1", method: "PUT", headers: ann}},
		{"ok", request{path: "/posts/1", host: "BLOG.example.com.:8443", headers: bob}},
		{"ok", request{path: "/p%6Fsts/1", headers: bob}},
		{"ok", request{path: "/me", headers: eve}},
		{"missing_permission", request{path: "/posts/1", method: "PUT", headers: bob}},
		{"missing_permission", request{path: "/posts/1", headers: eve}},
		{"missing_credential", request{path: "/posts/1"}},
		{"missing_credential", request{path: "/me"}},
		{"no_rule", request{path: "/posts/1", method: "DELETE", headers: ann}},
		{"no_rule", request{path: "/posts/1", host: "other.example.com", headers: ann}},
		{"no_rule", request{path: "/posts/1/", headers: ann}},
		{"no_rule", request{path: "/nowhere", headers: ann}},
		{"no_rule", request{path: "/nowhere"}},
		{"no_rule", request{method: "CONNECT", headers: ann}},
		{"no_rule", request{method: "CONNECT", path: "/root/a", headers: ann}},
	} {
		g.expect(c.want, c.r)
	}
}

func TestMethodOverrideHeadersAreNotRead(t *testing.T) {
	g := newGate(t, nil)
	for _, name := range []string{"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"} {
		g.expect("missing_permission", request{path: "/posts/1", method: "PUT", headers: with(bearer(g.token("bob")), name, "GET")})
		g.expect("no_rule", request{path: "/nowhere", headers: with(nil, name, "/healthz")})
	}
}

func TestAmbiguousPaths(t *testing.T) {
	g := newGate(t, nil)
	ann := bearer(g.token("ann"))
	const unsafe = "ambiguous_request"
	for path, want := range map[string]string{
		"/root/a":         "ok",
		"/root/a%2fb":     unsafe,
		"/root//b":        unsafe,
		"/root/a;b":       unsafe,
		"/root/a%3bb":     unsafe,
		"/root/../a":      unsafe,
		"/root/%2e%2e/a":  unsafe,
		"/root/..;/a":     unsafe,
		"/root/.":         unsafe,
		"/root/a%5cb":     unsafe,
		"/root/a\\b":      unsafe,
		"/root/a#b":       unsafe,
		"/root/a%00":      unsafe,
		"/root/a%0a":      unsafe,
		"/root/a%":        unsafe,
		"/root/a%zz":      unsafe,
		"/root/a%252fb":   unsafe,
		"/root/a%ff":      unsafe,
		"/root/a b":       unsafe,
		"/root/é":         unsafe,
		"/root/%C3%A9":    "ok",
		"root/a":          unsafe,
		"*":               unsafe,
		"https://x/root/": unsafe,
		"//root/a":        "no_rule",
		"/nowhere//a":     "no_rule",
		"/nowhere/../a":   unsafe,
		"/files/a%2Fb":    "ok",
		"/files/a%2f..":   unsafe,
		"/files/a;b":      unsafe,
		"/matrix/a;b":     "ok",
		"/matrix/a;b%2fc": unsafe,
		"/loose/a//b":     "ok",
		"/loose/a//b;c":   unsafe,
	} {
		g.expect(want, request{path: path, headers: ann})
	}
}

func TestAmbiguousRequests(t *testing.T) {
	g := newGate(t, nil)
	ann := bearer(g.token("ann"))
	for name, r := range map[string]request{
		"user information in the host": {host: "ann@blog.example.com", path: "/root/a", headers: ann},
		"two hosts":                    {host: "blog.example.com,evil.example.com", path: "/root/a", headers: ann},
		"a host with a space":          {host: "blog.example.com ", path: "/root/a", headers: ann},
		"a bad port":                   {host: "blog.example.com:http", path: "/root/a", headers: ann},
		"a method that is no token":    {method: "GET ", path: "/root/a", headers: ann},
		"another :path":                {path: "/root/a", headers: with(ann, ":path", "/root/b")},
		"another :method":              {path: "/root/a", headers: with(ann, ":method", "PUT")},
		"another :authority":           {path: "/root/a", headers: with(ann, ":authority", "evil.example.com")},
		"a path that Envoy mended":     {path: "/root/a!", raw: []*corev3.HeaderValue{{Key: ":path", RawValue: []byte("/root/a\xff")}}},
	} {
		if got := g.verdict(r); got != "ambiguous_request" {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestTenantsAreApart(t *testing.T) {
	g := newGate(t, nil)
	gil, ned, nobody := bearer(g.token("globex/gil")), bearer(g.token("t-new/ned")), bearer(g.token("nosuch/ann"))
	g.expect("ok", request{path: "/partner/x", headers: gil})
	g.expect("ok", request{path: "/everyone", headers: gil})
	// Its viewer role has a permission of the same name.
	g.expect("wrong_tenant", request{path: "/posts/1", headers: gil})
	g.expect("wrong_tenant", request{path: "/me", headers: gil})
	for _, headers := range []map[string]string{ned, nobody, clientKey(g.keys["t-new/ci"])} {
		g.expect("wrong_tenant", request{path: "/everyone", headers: headers})
		g.expect("wrong_tenant", request{path: "/posts/1", headers: headers})
	}
	g.expect("ok", request{path: "/healthz", headers: ned})
	// A user called like a client is not that client.
	g.expect("missing_permission", request{path: "/posts/1", headers: bearer(g.token("ci"))})
	g.expect("ok", request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])})
}

func TestCredentials(t *testing.T) {
	g := newGate(t, nil)
	key, other, foreign := g.keys["default/ci"], g.keys["default/idle"], g.keys["globex/ci"]
	ann := "Bearer " + g.token("ann")
	old := g.tokenOf(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "ann"}, time.Second)
	workload := g.tokenOf(policy.Principal{Tenant: "default", Kind: policy.KindWorkload, ID: "ann"}, time.Hour)
	for _, c := range []struct {
		want    string
		headers map[string]string
	}{
		{"ok", map[string]string{"authorization": ann}},
		{"ok", map[string]string{"Authorization": ann}},
		{"ok", map[string]string{"authorization": "bearer " + ann[7:]}},
		{"ok", map[string]string{"x-client-key": key}},
		{"ok", map[string]string{"x-client-key": strings.ToUpper(key)}},
		{"ok", map[string]string{"authorization": ann, "x-client-key": key}},
		{"ok", map[string]string{"authorization": ann, "x-client-key": other}},
		{"missing_permission", map[string]string{"x-client-key": other}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "x-client-key": foreign}},
		{"conflicting_credentials", map[string]string{"authorization": ann, "Authorization": ann}},
		{"conflicting_credentials", map[string]string{"authorization": ann + "," + ann}},
		{"conflicting_credentials", map[string]string{"authorization": ann + ", Basic YTpi"}},
		{"conflicting_credentials", map[string]string{"x-client-key": key + "," + key}},
		{"conflicting_credentials", map[string]string{"authorization": "Bearer rak_x", "x-api-key": "rak_y"}},
		{"bad_key", map[string]string{"x-client-key": "12345678-1234-4123-8123-123456789abc"}},
		{"bad_key", map[string]string{"x-client-key": "secret"}},
		{"bad_key", map[string]string{"x-client-key": ""}},
		{"bad_key", map[string]string{"authorization": ann, "x-client-key": "12345678-1234-4123-8123-123456789abc"}},
		{"bad_key", map[string]string{"x-api-key": "rak_0123456789"}},
		{"bad_key", map[string]string{"authorization": "Bearer rak_0123456789"}},
		{"bad_key", map[string]string{"authorization": ann, "x-api-key": "rak_0123456789"}},
		{"invalid_token", map[string]string{"authorization": "Bearer a.b.c"}},
		{"invalid_token", map[string]string{"authorization": ann + "x"}},
		{"invalid_token", map[string]string{"authorization": "Basic YTpi"}},
		{"invalid_token", map[string]string{"authorization": "Bearer"}},
		{"invalid_token", map[string]string{"authorization": ""}},
		{"invalid_token", map[string]string{"authorization": "Bearer a.b.c", "x-client-key": key}},
		{"invalid_token", map[string]string{"authorization": "Bearer " + workload}},
		{"missing_credential", map[string]string{"cookie": "authorization=" + ann}},
		{"missing_credential", map[string]string{"x_client_key": key}},
		{"missing_credential", map[string]string{"x-forwarded-client-cert": "URI=spiffe://example.org/a"}},
	} {
		if got := g.verdict(request{path: "/posts/1", headers: c.headers}); got != c.want {
			t.Errorf("%v: got %s, want %s", c.headers, got, c.want)
		}
	}
	g.expect("ok", request{path: "/posts/1", headers: bearer(old)})
	g.clock.ahead.Store(int64(32 * time.Second))
	g.expect("expired", request{path: "/posts/1", headers: bearer(old)})
	g.expect("ok", request{path: "/posts/1", headers: bearer(g.token("ann"))})
}

func TestTokensUserIsThePrincipalBesideAKey(t *testing.T) {
	g := newGate(t, nil)
	headers := asserted(g.ask(request{path: "/posts/1", headers: with(bearer(g.token("ann")), "x-client-key", g.keys["default/ci"])}))
	if headers["x-auth-subject"] != "ann" || headers["x-auth-kind"] != "user" {
		t.Errorf("got %v", headers)
	}
}

func TestRawHeaders(t *testing.T) {
	g := newGate(t, nil)
	ann := []byte("Bearer " + g.token("ann"))
	raw := func(more ...*corev3.HeaderValue) []*corev3.HeaderValue {
		return append([]*corev3.HeaderValue{{Key: ":path", RawValue: []byte("/posts/1")}}, more...)
	}
	authorization := &corev3.HeaderValue{Key: "authorization", RawValue: ann}
	g.expect("ok", request{path: "/posts/1", raw: raw(authorization)})
	g.expect("ok", request{path: "/posts/1", raw: raw(&corev3.HeaderValue{Key: "authorization", Value: string(ann)})})
	g.expect("conflicting_credentials", request{path: "/posts/1", raw: raw(authorization, authorization)})
	g.expect("conflicting_credentials", request{path: "/posts/1", raw: raw(authorization, &corev3.HeaderValue{Key: "Authorization", RawValue: []byte("x")})})
	g.expect("ambiguous_request", request{path: "/posts/1", raw: raw(&corev3.HeaderValue{Key: "authorization", Value: "Bearer x", RawValue: ann})})

	// Both lists: they must tell one story.
	both := func(headers map[string]string, raw ...*corev3.HeaderValue) request {
		m := request{path: "/posts/1", headers: headers}.message().GetAttributes().GetRequest().GetHttp().GetHeaders()
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if _, given := headers[name]; !given {
				raw = append(raw, &corev3.HeaderValue{Key: name, RawValue: []byte(m[name])})
			}
		}
		return request{path: "/posts/1", headers: headers, raw: raw, both: true}
	}
	pair := func(key, value string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: key, RawValue: []byte(value)}
	}
	g.expect("ok", both(map[string]string{"authorization": string(ann)}, authorization))
	g.expect("ok", both(map[string]string{"authorization": string(ann), "a": "1,2"}, authorization, pair("a", "1"), pair("a", "2")))
	g.expect("ambiguous_request", both(map[string]string{"authorization": string(ann)}))
	g.expect("ambiguous_request", both(map[string]string{}, authorization))
	g.expect("ambiguous_request", both(map[string]string{"authorization": "Bearer x"}, authorization))
	g.expect("ambiguous_request", both(map[string]string{"authorization": string(ann), "x-auth-subject": "root"}, authorization))
	g.expect("ambiguous_request", both(map[string]string{"authorization": string(ann), "a": "1,3"}, authorization, pair("a", "1"), pair("a", "2")))
	g.expect("ambiguous_request", both(map[string]string{"authorization": string(ann), "a": "1"}, authorization, pair("a", "1"), pair("a", "2")))
}

func TestAssertedHeaders(t *testing.T) {
	g := newGate(t, nil)
	response := g.ask(request{path: "/posts/1", headers: bearer(g.token("ann"))})
	headers := asserted(response)
	id := headers["x-auth-decision-id"]
	revision := itoa(g.cache.Snapshot().Revision.Number)
	want := map[string]string{"x-auth-tenant": "default", "x-auth-subject": "ann", "x-auth-kind": "user", "x-auth-roles": "editor,viewer",
		"x-auth-decision-id": id, "x-auth-revision": revision}
	if !maps.Equal(headers, want) {
		t.Errorf("got %v, want %v", headers, want)
	}
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("decision id %q", id)
	}
	fields := response.GetDynamicMetadata().GetFields()
	roles := fields["roles"].GetListValue().GetValues()
	if len(roles) != 2 || roles[0].GetStringValue() != "editor" || fields["rule"].GetStringValue() != "read-post" || fields["decision_id"].GetStringValue() != id {
		t.Errorf("metadata %v", fields)
	}
	removed := response.GetOkResponse().GetHeadersToRemove()
	for _, name := range []string{"authorization", "x-client-key", "x-api-key", "x-auth-roles-omitted", "x_auth_subject", "x_auth-subject", "x-auth_subject"} {
		if !slices.Contains(removed, name) {
			t.Errorf("%s is not removed", name)
		}
	}

	client := asserted(g.ask(request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])}))
	if client["x-auth-subject"] != "ci" || client["x-auth-kind"] != "client" || client["x-auth-roles"] != "viewer" {
		t.Errorf("client: %v", client)
	}
	if eve := asserted(g.ask(request{path: "/me", headers: bearer(g.token("eve"))})); eve["x-auth-subject"] != "eve" || eve["x-auth-roles"] != "" || eve["x-auth-roles-omitted"] != "" {
		t.Errorf("a caller without roles: %v", eve)
	}
}

func TestForwardedCredentials(t *testing.T) {
	g := newGate(t, nil)
	removes := func(r request, name string) bool {
		return slices.Contains(g.ask(r).GetOkResponse().GetHeadersToRemove(), name)
	}
	ann := bearer(g.token("ann"))
	for _, c := range []struct {
		r       request
		removed bool
	}{
		{request{path: "/posts/1", headers: ann}, true},
		{request{path: "/files/a", headers: ann}, false},
		{request{path: "/healthz", headers: ann}, true},
		{request{path: "/legacy/login", headers: ann}, false},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi"}}, false},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Bearer rak_0123"}}, true},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "bearer  " + g.keys["default/ci"]}}, true},
		{request{path: "/legacy/login", headers: map[string]string{"authorization": "Basic YTpi", "Authorization": "Bearer rak_0123"}}, true},
	} {
		if got := removes(c.r, "authorization"); got != c.removed {
			t.Errorf("%s %v: authorization removed: %v, want %v", c.r.path, c.r.headers, got, c.removed)
		}
		if !removes(c.r, "x-client-key") || !removes(c.r, "x-api-key") || !removes(c.r, "x_client_key") {
			t.Errorf("%s: a key would reach the upstream", c.r.path)
		}
	}
}

func TestAnonymousRulesAssertNothing(t *testing.T) {
	g := newGate(t, nil)
	for name, headers := range map[string]map[string]string{
		"nothing": nil, "a good token": bearer(g.token("ann")), "a bad one": bearer("a.b.c"),
		"two":                {"authorization": "Bearer a,Bearer b", "x-client-key": "x"},
		"a spoofed identity": {"x-auth-subject": "root", "x_auth_roles": "admin"},
	} {
		response := g.ask(request{path: "/healthz", headers: headers})
		if got := g.verdictOf(response); got != "ok" {
			t.Errorf("%s: %s", name, got)
		}
		if set := asserted(response); len(set) > 0 {
			t.Errorf("%s: asserted %v", name, set)
		}
		for _, field := range []string{"tenant", "subject", "kind", "roles"} {
			if _, ok := response.GetDynamicMetadata().GetFields()[field]; ok {
				t.Errorf("%s: metadata has %s", name, field)
			}
		}
	}
}

func TestContextExtensions(t *testing.T) {
	type extensions = map[string]string
	for mode, cases := range map[ContextExtensions][]struct {
		want string
		path string
		who  string
		ext  extensions
	}{
		ContextExtensionsNarrow: {
			{"ok", "/posts/1", "bob", extensions{"other": "x"}},
			{"ok", "/posts/1", "bob", extensions{"permission": "view_content"}},
			{"missing_permission", "/posts/1", "bob", extensions{"permission": "edit_content"}},
			{"missing_permission", "/posts/1", "bob", extensions{"permission": "no_such"}},
			{"missing_permission", "/posts/1", "ann", extensions{"permission": ""}},
			{"missing_permission", "/posts/1", "bob", extensions{"rule": "edit-post"}},
			{"ok", "/posts/1", "ann", extensions{"rule": "edit-post"}},
			{"ok", "/posts/1", "ann", extensions{"rule": "edit-post", "permission": "view_content"}},
			{"no_rule", "/posts/1", "ann", extensions{"rule": "no-such"}},
			{"no_rule", "/posts/1", "ann", extensions{"rule": ""}},
			{"no_rule", "/nowhere", "ann", extensions{"rule": "health"}},
			{"no_rule", "/nowhere", "ann", extensions{"permission": "view_content"}},
			{"missing_permission", "/posts/1", "eve", extensions{"rule": "health"}},
			{"missing_credential", "/healthz", "", extensions{"permission": "view_content"}},
			{"ok", "/healthz", "bob", extensions{"permission": "view_content"}},
			{"wrong_tenant", "/everyone", "globex/gil", extensions{"rule": "read-post"}},
			{"wrong_tenant", "/healthz", "globex/gil", extensions{"permission": "view_content"}},
			{"ok", "/partner/x", "globex/gil", extensions{"permission": "view_content"}},
			{"ambiguous_request", "/files/a%2fb", "ann", extensions{"rule": "root"}},
		},
		ContextExtensionsReplace: {
			{"ok", "/nowhere", "bob", extensions{"rule": "read-post"}},
			{"ok", "/nowhere", "bob", extensions{"permission": "view_content"}},
			{"ok", "/nowhere", "", extensions{"rule": "health"}},
			{"missing_credential", "/healthz", "", extensions{"permission": "view_content"}},
			{"missing_permission", "/posts/1", "bob", extensions{"rule": "edit-post"}},
			{"no_rule", "/healthz", "ann", extensions{"rule": "no-such"}},
			{"no_rule", "/healthz", "ann", extensions{"rule": ""}},
			{"missing_permission", "/healthz", "ann", extensions{"permission": ""}},
			{"wrong_tenant", "/everyone", "globex/gil", extensions{"permission": "view_content"}},
			{"no_rule", "/nowhere", "bob", extensions{"other": "x"}},
			{"ok", "/posts/1", "bob", extensions{"other": "x"}},
			{"ambiguous_request", "/a%2fb", "ann", extensions{"permission": "view_content"}},
			{"ok", "/a%2fb", "ann", extensions{"rule": "files"}},
			{"ambiguous_request", "/a/../b", "ann", extensions{"rule": "files"}},
		},
		ContextExtensionsIgnore: {
			{"ok", "/posts/1", "bob", extensions{"permission": "edit_content"}},
			{"ok", "/posts/1", "bob", extensions{"rule": ""}},
			{"no_rule", "/nowhere", "ann", extensions{"rule": "health"}},
		},
	} {
		g := newGate(t, func(cfg *Config) { cfg.ContextExtensions = mode })
		for _, c := range cases {
			var headers map[string]string
			if c.who != "" {
				headers = bearer(g.token(c.who))
			}
			if got := g.verdict(request{path: c.path, headers: headers, extensions: c.ext}); got != c.want {
				t.Errorf("%s: %s asks for %s with %v: got %s, want %s", mode, c.who, c.path, c.ext, got, c.want)
			}
		}
	}
}

func TestForwardingTakesEveryRuleOfTheDemand(t *testing.T) {
	g := newGate(t, nil)
	ok := g.ask(request{path: "/files/a", headers: bearer(g.token("ann")), extensions: map[string]string{"rule": "root"}}).GetOkResponse()
	if !slices.Contains(ok.GetHeadersToRemove(), "authorization") {
		t.Error("the named rule does not forward credentials, and they were forwarded")
	}
}

func TestTooLarge(t *testing.T) {
	g := newGate(t, nil)
	many := map[string]string{}
	for i := range 1001 {
		many["x-"+itoa(int64(i))] = "v"
	}
	g.expect("too_large", request{path: "/healthz", headers: many})
	g.expect("ok", request{path: "/healthz", headers: with(nil, "x", strings.Repeat("a", 900<<10))})
	g.expect("too_large", request{path: "/healthz", headers: with(nil, "x", strings.Repeat("a", 1<<20))})
	if got := g.verdictOf(g.askBytes(make([]byte, 5<<20))); got != "too_large" {
		t.Errorf("5 MiB of zeros: %s", got)
	}
}

// Text that is not UTF-8 may have come through Envoy from a client, so it must not
// end in a gRPC error, which failure_mode_allow would let through.
func TestTextThatIsNotUTF8IsDenied(t *testing.T) {
	g := newGate(t, nil)
	req := marshal(t, request{path: "/healthz", headers: with(nil, "x-marker", "marked")}.message())
	bad := []byte(strings.Replace(string(req), "marked", "mark\xff\xfe", 1))
	if got := g.verdictOf(g.askBytes(bad)); got != "ambiguous_request" {
		t.Errorf("got %s", got)
	}
}

func TestAbsentParts(t *testing.T) {
	g := newGate(t, nil)
	for name, m := range map[string]*authv3.CheckRequest{
		"attributes": {},
		"request":    {Attributes: &authv3.AttributeContext{}},
		"http":       {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
		"method":     {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Path: "/healthz", Host: "a"}}}},
		"path":       {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a"}}}},
	} {
		if got := g.verdictOf(g.askBytes(marshal(t, m))); got != "ambiguous_request" {
			t.Errorf("without %s: %s", name, got)
		}
	}
}

func TestUnknownFieldsChangeNothing(t *testing.T) {
	g := newGate(t, nil)
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 900, protowire.BytesType), []byte("\xffwhatever"))
	for _, r := range []request{{path: "/posts/1", headers: bearer(g.token("bob"))}, {path: "/posts/1", method: "PUT", headers: bearer(g.token("bob"))}, {path: "/healthz"}, {path: "/nowhere"}} {
		m := r.message()
		want := g.verdictOf(g.askBytes(marshal(t, m)))
		m.ProtoReflect().SetUnknown(unknown)
		m.Attributes.ProtoReflect().SetUnknown(unknown)
		m.Attributes.Request.Http.ProtoReflect().SetUnknown(unknown)
		if got := g.verdictOf(g.askBytes(marshal(t, m))); got != want {
			t.Errorf("%s: %s became %s", r.path, want, got)
		}
	}
}

func TestNotACheckRequest(t *testing.T) {
	g := newGate(t, nil)
	good := marshal(t, request{path: "/healthz"}.message())
	for name, req := range map[string][]byte{"garbage": []byte("\x0f\x01garbage"), "truncated": good[:len(good)-3], "one byte": {0x0a}} {
		b, err := g.core.Check([]byte("kept"), req)
		if err != ErrNotCheckRequest || string(b) != "kept" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	g.expect("ok", request{path: "/healthz"})
}

func TestDenialsSayWhy(t *testing.T) {
	g := newGate(t, nil)
	denied := g.ask(request{path: "/posts/1", headers: bearer("a.b.c")}).GetDeniedResponse()
	headers := map[string]string{}
	for _, h := range denied.GetHeaders() {
		headers[h.Header.Key] = h.Header.Value
	}
	id := headers["x-auth-decision-id"]
	want := map[string]string{"x-auth-decision-id": id, "content-type": "application/json", "cache-control": "no-store",
		"www-authenticate": `Bearer realm="portcullis", error="invalid_token", error_description="the token is not valid"`}
	if !maps.Equal(headers, want) || len(id) != 32 {
		t.Errorf("headers %v", headers)
	}
	if body := `{"error":"the token is not valid","reason":"invalid_token","decision_id":"` + id + "\"}\n"; denied.GetBody() != body {
		t.Errorf("body %q", denied.GetBody())
	}
	for _, h := range g.ask(request{path: "/posts/1"}).GetDeniedResponse().GetHeaders() {
		if h.Header.Key == "www-authenticate" && h.Header.Value != `Bearer realm="portcullis"` {
			t.Errorf("a missing credential is challenged with %q", h.Header.Value)
		}
	}
}

func TestGRPCCallersGetTheReasonAsMessage(t *testing.T) {
	g := newGate(t, nil)
	for contentType, grpc := range map[string]bool{"application/grpc": true, "application/grpc+proto": true, "Application/GRPC;x=y": true,
		"application/grpc-web": false, "application/json": false, "application/grp": false} {
		denied := g.ask(request{path: "/posts/1", headers: with(nil, "content-type", contentType)}).GetDeniedResponse()
		names := map[string]bool{}
		for _, h := range denied.GetHeaders() {
			names[h.Header.Key] = true
		}
		if (denied.GetBody() == "missing_credential") != grpc || names["content-type"] == grpc || !names["www-authenticate"] {
			t.Errorf("%s: body %q, headers %v", contentType, denied.GetBody(), names)
		}
	}
}

func TestRevocationBites(t *testing.T) {
	g := newGate(t, nil)
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	applied := func(r store.Result, err error) {
		t.Helper()
		g.must(err)
		g.await(func() bool { return g.cache.Applied() >= r.Revision.Number })
	}
	bob := request{path: "/posts/1", headers: bearer(g.token("bob"))}
	g.expect("ok", bob)
	applied(g.store.RemoveMember(ctx, by, def.ID, policy.KindUser, "bob", "viewer"))
	g.expect("missing_permission", bob)
	applied(g.store.AddMember(ctx, by, def.ID, policy.KindUser, "bob", "viewer", time.Now().Add(time.Hour)))
	g.expect("ok", bob)
	applied(g.store.RemovePermission(ctx, by, def.ID, "viewer", "view_content"))
	g.expect("missing_permission", bob)

	key := request{path: "/me", headers: clientKey(g.keys["default/ci"])}
	g.expect("ok", key)
	_, result, err := g.store.RevokeKeys(ctx, by, def.ID, "ci")
	applied(result, err)
	g.expect("bad_key", key)
}

func TestMembershipExpires(t *testing.T) {
	g := newGate(t, nil)
	ctx, by := context.Background(), store.Actor{Name: "test"}
	def, err := g.store.TenantByName(ctx, store.DefaultTenant)
	g.must(err)
	_, err = g.store.AddMember(ctx, by, def.ID, policy.KindUser, "tim", "viewer", time.Now().Add(40*time.Second))
	g.must(err)
	tim := request{path: "/posts/1", headers: bearer(g.token("tim"))}
	g.await(func() bool { return g.verdict(tim) == "ok" })
	g.clock.ahead.Store(int64(41 * time.Second))
	g.expect("missing_permission", tim)
	if headers := asserted(g.ask(request{path: "/me", headers: tim.headers})); headers["x-auth-roles"] != "" {
		t.Errorf("an expired role is asserted: %v", headers)
	}
}

func TestNoIdentityOnAnothersResponse(t *testing.T) {
	g := newGate(t, nil)
	users := map[string]string{}
	for _, who := range []string{"ann", "bob", "eve"} {
		users[who] = g.token(who)
	}
	for range 200 {
		for who, token := range users {
			response := g.ask(request{path: "/me", headers: bearer(token)})
			if got := asserted(response)["x-auth-subject"]; got != who {
				t.Fatalf("%s got a response for %s", who, got)
			}
			stranger := g.ask(request{path: "/nowhere"})
			for _, field := range []string{"tenant", "subject", "kind", "roles"} {
				if value, ok := stranger.GetDynamicMetadata().GetFields()[field]; ok {
					t.Fatalf("a stranger's response after %s's has %s %v", who, field, value)
				}
			}
		}
	}
}
