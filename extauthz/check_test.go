package extauthz

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
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
