package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portcullis/policy"
)

// facts are what a test says that a request brought.
type facts struct {
	headers map[string][]string
	context map[string]string
	claims  map[string]any
}

func (f facts) Header(name string) (string, int) {
	if values := f.headers[name]; len(values) > 0 {
		return values[0], len(values)
	}
	return "", 0
}

func (f facts) Extension(key string) (string, bool) { v, ok := f.context[key]; return v, ok }

func (f facts) Claims(names []string) (map[string]any, bool) {
	out := map[string]any{}
	for _, name := range names {
		if v, ok := f.claims[name]; ok {
			out[name] = v
		}
	}
	return out, true
}

// whenPolicy is one rule with a condition, in double quotes of YAML.
func whenPolicy(when string) string {
	return fmt.Sprintf("version: 1\nrules:\n  - name: own\n    path: \"/users/{user}/posts/{id}\"\n    allow_encoded_slash: true\n    require: edit\n    when: %q\n", when)
}

var editors = policy.NewRoleTable([]policy.RoleSpec{{ID: 1, Name: "editor", Permissions: []string{"edit"}}, {ID: 2, Name: "night"}})

// decide evaluates a condition for ada, an editor, on a target of wire.
func decideWhen(t testing.TB, when, target string, f policy.Facts) policy.Reason {
	t.Helper()
	p := mustCompile(t, whenPolicy(when))
	raw, query, _ := strings.Cut(target, "?")
	path, flags := policy.CanonPath(nil, []byte(target))
	r := p.Match("PUT", "blog.example.com", string(path))
	if r == nil || !r.Accepts(flags) {
		t.Fatalf("%s: no rule takes it", raw)
	}
	return policy.Decide(&policy.Input{
		Demand: policy.Demand{Path: r}, Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "auth0|65f"},
		TenantAdmitted: true, Roles: editors, Grant: policy.Grant{{Role: 1}, {Role: 2}},
		Now:     time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC).UnixNano(),
		Request: &policy.Request{Method: "PUT", Host: "blog.example.com", Path: string(path), Query: query, Facts: f},
	})
}

func TestConditions(t *testing.T) {
	const own, another = "/users/auth0%7C65f/posts/1", "/users/bob/posts/1"
	brought := facts{
		headers: map[string][]string{"x-dept": {"news"}, "x-twice": {"a", "a"}, "x-bytes": {"\xff"}},
		context: map[string]string{"zone": "eu"},
		claims: map[string]any{"email": "ada@example.com", "level": int64(3), "score": 2.5, "verified": true,
			"groups": []any{"staff", "press"}},
	}
	for _, try := range []struct{ when, target, want string }{
		{"path.user == principal.id", own, "ok"},
		{"path.user == principal.id", "/users/%61uth0%7c65f/posts/1", "ok"},
		{"path.user == principal.id", "/users/Auth0%7C65f/posts/1", "condition_false"},
		{"path.user == principal.id", another, "condition_false"},
		{"path['user'] == principal.id && path.id == '1'", own, "ok"},
		{"principal.kind == 'user' && principal.tenant == 'default'", own, "ok"},
		{"'editor' in principal.roles && !('admin' in principal.roles)", own, "ok"},
		{"principal.roles.exists(r, r.startsWith('nig'))", own, "ok"},
		{"principal.roles.all(r, r == 'editor')", own, "condition_false"},
		// An encoded slash is a slash of the segment, and no percent sign.
		{"path.user == 'a/b'", "/users/a%2Fb/posts/1", "ok"},
		{"path.user == 'a%2Fb'", "/users/a%2fb/posts/1", "condition_false"},
		// The request.
		{"request.method == 'PUT' && request.host == 'blog.example.com'", own, "ok"},
		{"request.path == '/users/auth0|65f/posts/1' && request.query == 'a=%20'", own + "?a=%20", "ok"},
		{"request.headers['x-dept'] == 'news'", own, "ok"},
		{"request.headers['x-none'] == 'news'", own, "condition_error"},
		{"has(request.headers.host2)", own, "condition_false"},
		{"'x-dept' in request.headers && !('x-none' in request.headers)", own, "ok"},
		{"request.headers['x-twice'] == 'a'", own, "condition_error"},
		{"true || request.headers['x-twice'] == 'a'", own, "condition_error"},
		{"request.headers['x-bytes'] == 'a'", own, "condition_error"},
		// The query by name.
		{"query.page == '2' && query['q'] == 'a b'", own + "?page=2&q=a+b&", "ok"},
		{"query.page == '2'", own + "?%70age=%32", "ok"},
		{"query.page == '2'", own, "condition_error"},
		{"has(query.page)", own, "condition_false"},
		{"query.page == '2'", own + "?page=2&page=2", "condition_error"},
		{"query.page == '2'", own + "?page=2&p%61ge=3", "condition_error"},
		{"query.page == '2'", own + "?page=2&Page=3", "condition_error"},
		{"!has(query.page)", own + "?Page=3", "condition_error"},
		{"query.page == '2'", own + "?page=2;x=3", "condition_error"},
		{"query.page == '2'", own + "?page=2&x=%zz", "condition_error"},
		{"query.page == '2'", own + "?page=2&y=3&y=4", "ok"},
		// What Envoy's route says, and the token.
		{"context.zone == 'eu' && !has(context.other)", own, "ok"},
		{"claims.email.endsWith('@example.com') && claims.verified == true", own, "ok"},
		{"claims.level >= 3 && claims.score < 3 && claims.level == 3.0", own, "ok"},
		{"'press' in claims.groups", own, "ok"},
		{"claims.none == 'x'", own, "condition_error"},
		{"has(claims.none)", own, "condition_false"},
		{"claims.email > 3", own, "condition_error"},
		{"now.getHours() == 22 && now.getHours('+02:00') == 0 && now > timestamp('2026-01-01T00:00:00Z')", own, "ok"},
		{"request.headers['x-dept'].matches('^n[a-z]+$')", own, "ok"},
		// What goes wrong is an error, unless the rest decides without it.
		{"1 / size(claims.groups.exists(g, g == 'x') ? 'a' : '') == 1", own, "condition_error"},
		{"int(path.id) > 0", "/users/a/posts/x", "condition_error"},
		{"path.user == 'x' || claims.none == 1", "/users/x/posts/1", "ok"},
		{"duration(path.id) > duration('1s')", own, "condition_error"},
	} {
		if got := decideWhen(t, try.when, try.target, brought); got.String() != try.want {
			t.Errorf("%s on %s: %s, want %s", try.when, try.target, got, try.want)
		}
	}
}

// A text that is longer than what the cost was reckoned with is an error.
func TestConditionsRefuseHugeFacts(t *testing.T) {
	huge := strings.Repeat("a", 8<<10+1)
	for when, f := range map[string]facts{
		"request.headers['x-dept'] != ''": {headers: map[string][]string{"x-dept": {huge}}},
		"context.zone != ''":              {context: map[string]string{"zone": huge}},
	} {
		if got := decideWhen(t, when, "/users/a/posts/1", f); got != policy.ReasonConditionError {
			t.Errorf("%s: %s", when, got)
		}
	}
	if got := decideWhen(t, "path.id == '1'", "/users/a/posts/1?"+huge, facts{}); got != policy.ReasonConditionError {
		t.Errorf("a huge query: %s", got)
	}
	// A list that no token has room for runs into the limit of the evaluation.
	groups := make([]any, 100_000)
	for i := range groups {
		groups[i] = "group"
	}
	if got := decideWhen(t, "claims.groups.exists(g, g == 'x')", "/users/a/posts/1", facts{claims: map[string]any{"groups": groups}}); got != policy.ReasonConditionError {
		t.Errorf("a huge list: %s", got)
	}
}

// The role comes first, and a decision that was not told of the request denies.
func TestConditionsComeLast(t *testing.T) {
	p := mustCompile(t, whenPolicy("true"))
	in := policy.Input{Demand: policy.Demand{Path: p.Rule("own")}, Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "a"},
		TenantAdmitted: true, Roles: editors, Request: &policy.Request{Path: "/users/a/posts/1"}}
	if got := policy.Decide(&in); got != policy.ReasonMissingPermission {
		t.Errorf("without the role: %s", got)
	}
	in.Grant = policy.Grant{{Role: 1}}
	if got := policy.Decide(&in); got != policy.ReasonOK {
		t.Errorf("with the role: %s", got)
	}
	in.Request = nil
	if got := policy.Decide(&in); got != policy.ReasonConditionError {
		t.Errorf("without the request: %s", got)
	}
}

// A rule that a route names is held to its own condition; a parameter that the
// path does not have for it is an error.
func TestConditionOfANamedRule(t *testing.T) {
	p := mustCompile(t, policyOf("name: a, path: '/a/{x}', require: edit", "name: b, path: '/b/{y}', require: edit, when: \"path.y == '1'\"",
		"name: c, path: '/c/{y}', require: edit, when: \"principal.id == 'z'\""))
	for name, want := range map[string]policy.Reason{"b": policy.ReasonConditionError, "c": policy.ReasonConditionFalse} {
		in := policy.Input{Demand: policy.Demand{Path: p.Rule("a"), Named: p.Rule(name)}, Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "a"},
			TenantAdmitted: true, Roles: editors, Grant: policy.Grant{{Role: 1}}, Request: &policy.Request{Path: "/a/1"}}
		if got := policy.Decide(&in); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A condition about roles needs them, whatever the rule asks for beside it.
func TestConditionOnRolesNeedsTheGrant(t *testing.T) {
	p := mustCompile(t, policyOf("name: a, path: /a, allow: authenticated, when: \"'x' in principal.roles\"", "name: b, path: /b, allow: authenticated, when: 'now > now'"))
	for name, want := range map[string]bool{"a": true, "b": false} {
		if got := (policy.Demand{Path: p.Rule(name)}).NeedsGrant(); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestConditionHeaders(t *testing.T) {
	p := mustCompile(t, policyOf("name: a, path: /a, require: p, when: \"request.headers['x-b'] == 'c' && has(request.headers.dept)\"",
		"name: b, path: /a, require: p, mode: shadow, when: \"'x-a' in request.headers || request.headers['x-b'] == ''\""))
	if got := strings.Join(p.ConditionHeaders(), " "); got != "dept x-a x-b" {
		t.Errorf("got %s", got)
	}
}

// Each condition has exactly the problems beside it, at their line and column.
func TestConditionErrors(t *testing.T) {
	rule := func(when string) string {
		return "version: 1\nrules:\n  - name: a\n    path: '/p/{id}'\n    require: p\n    when: " + when + "\n"
	}
	for _, try := range []struct{ src, want string }{
		{rule(`path.user == 'x'`), `line 6, column 15: rule "a": when: path.user: the rule's path has no such parameter; it has id`},
		{rule(`"path.id == principal.idd"`), `line 6, column 32: rule "a": when: principal has no field idd; it has tenant, kind, id, roles`},
		{rule(`'path.id == ''x'' && path.no == ''y'''`), `line 6, column 36: rule "a": when: path.no: the rule's path has no such parameter; it has id`},
		{rule("|\n      path.id == 'x' &&\n      path.no == 'y'"), `line 8, column 11: rule "a": when: path.no: the rule's path has no such parameter; it has id`},
		{rule(">-\n      path.id == 'x' &&\n      path.no == 'y'"), `line 8, column 11: rule "a": when: path.no: the rule's path has no such parameter; it has id`},
		{rule(`path.id = 'x'`), `line 6, column 19: rule "a": when: Syntax error: token recognition error at: '= '`},
		{rule(`path.id`), `line 6, column 11: rule "a": when: the condition is of type string and must be of type bool`},
		{rule(`claims.admin`), `line 6, column 11: rule "a": when: the condition is of type dyn and must be of type bool; what a claim is shows with the token, so compare it: claims.admin == true`},
		{rule(`path.id == 3`), `found no matching overload for '_==_' applied to '(string, int)'`},
		{rule(`user == 'x'`), `line 6, column 11: rule "a": when: undeclared reference to 'user'`},
		{rule(`request.metod == 'x'`), `request has no field metod; did you mean method?`},
		{rule(`size(path) == 1`), `path is read by a name that stands in the condition: path.name or path['name']`},
		{rule(`query[path.id] == ''`), `query is read by a name that stands in the condition`},
		{rule(`request.headers.exists(h, h == 'x')`), `request.headers is read by a name that stands in the condition: request.headers['name']`},
		{rule(`request.headers['X-A'] == ''`), `"X-A": write it in lower case, as Envoy does: "x-a"`},
		{rule(`request.headers['authorization'] == ''`), `"authorization" carries a credential`},
		{rule(`request.headers['x_client_key'] == ''`), `"x_client_key" carries a credential`},
		{rule(`request.headers['x-auth-subject'] == ''`), `"x-auth-subject" is what the gate tells the upstream`},
		{rule(`request.headers[':path'] == ''`), `":path" is no name of a header`},
		{rule(`has(principal.id)`), `principal.id is always there`},
		{rule(`context.rule == ''`), `context.rule is for the gate itself`},
		{rule(`path.id.matches(query.re)`), `matches: the regular expression must stand in the condition`},
		{rule(`path.id.matches()`), `found no matching overload for 'matches'`},
		{rule(`path.id.matches('(')`), `invalid matches argument`},
		{rule(`path.id.matches('(a{1,1000}){1,1000}')`), `invalid`},
		{rule(`now.getHours('Europe/Rome') > 1`), `the time zone is 'UTC' or an offset`},
		{rule(`principal.roles.exists(path, path == 'x')`), `a loop's variable may not be named path`},
		{rule(`principal.roles.map(r, r) == []`), `undeclared reference to 'map'`},
		{rule(`.path.id == ''`), `a name does not begin with a dot`},
		{rule(`google.protobuf.Empty{} == google.protobuf.Empty{}`), `makes a message, and a condition has none`},
		{rule(`principal.roles.exists(a, principal.roles.exists(b, principal.roles.exists(c, a + b == c)))`), `it could cost`},
		{rule(`claims.x.exists(a, claims.y.exists(b, a == b))`), `it could cost`},
		{rule(`true`), `line 6: rule "a": when: YAML reads true as something else than a word; put it in quotes`},
		{rule(`""`), `the condition is empty; leave when out`},
		{rule(`"` + strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300) + `"`), `rule "a": when: `},
		{rule(`"` + strings.Repeat("true && ", 600) + `true"`), `4804 bytes, more than 4096`},
		{policyOf("name: a, path: /a, allow: anonymous, when: 'now > now'"), `line 3: rule "a": when: an anonymous rule asks nobody anything; write allow: authenticated, or leave when out`},
		{policyOf("name: a, path: /a, require: p, when: \"path.x == ''\""), `path.x: the rule's path has no parameters`},
		{policyOf("name: a, path: /a, require: p, mode: shadow", "name: a, path: /b, require: p"), `line 4: rule "a": the rule on line 3 has this name already`},
		{policyOf("name: a, path: '/{x}', require: p, mode: shadow", "name: b, path: '/{y}', require: p, mode: shadow"), `line 4: rule "b": ties with rule "a" (line 3)`},
	} {
		_, err := policy.Compile([]byte(try.src))
		if err == nil {
			t.Errorf("%s: no error, want %s", try.src, try.want)
			continue
		}
		if got := err.Error(); !strings.Contains(got, try.want) || strings.HasPrefix(try.want, "line") && !strings.HasPrefix(got, try.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", try.src, got, try.want)
		}
	}
}

// A shadow rule never decides: it is found by itself alone, by no name, and ties
// with no rule that decides.
func TestShadowRulesAreApart(t *testing.T) {
	p := mustCompile(t, policyOf("name: a, path: '/{x}', allow: anonymous", "name: s, path: '/{y}', require: p, mode: shadow", "name: b, path: /b, allow: anonymous"))
	if r := p.Match("GET", "", "/x"); r == nil || r.Name != "a" || p.Rule("s") != nil || p.Len() != 2 || len(p.Shadows()) != 1 {
		t.Errorf("a shadow rule is among those that decide: %v", r)
	}
	if r := p.MatchShadow("GET", "", "/b"); r == nil || r.Name != "s" || !r.Shadow {
		t.Errorf("got %v", r)
	}
	for i, r := range p.Rules() {
		if r.Index != i {
			t.Errorf("rule %s has index %d", r.Name, r.Index)
		}
	}
	if r := mustCompile(t, policyOf("name: a, path: /a, allow: anonymous")).MatchShadow("GET", "", "/a"); r != nil {
		t.Errorf("got %v", r)
	}
}

func FuzzCondition(f *testing.F) {
	for _, seed := range []string{"path.user == principal.id", "request.headers['x-a'].matches('a+')", "principal.roles.exists(r, r == 'a')", "claims.a[0] == {'b': 1}", "now.getHours('UTC') > 1", "\x00'", "((((", "has(query.a)", "path.user.matches()", "matches()", "now.getHours()"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, when string) {
		p, err := policy.Compile([]byte(whenPolicy(when)))
		if err != nil && strings.Contains(err.Error(), "gave up") {
			t.Fatal(err)
		}
		if (p == nil) == (err == nil) {
			t.Fatalf("a policy %v and an error %v", p, err)
		}
		if p == nil {
			return
		}
		in := policy.Input{Demand: policy.Demand{Path: p.Rule("own")}, Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "a"},
			TenantAdmitted: true, Roles: editors, Grant: policy.Grant{{Role: 1}}, Request: &policy.Request{Method: "GET", Path: "/users/a/posts/1", Query: "a=1"}}
		switch reason := policy.Decide(&in); reason {
		case policy.ReasonOK, policy.ReasonConditionFalse, policy.ReasonConditionError:
		default:
			t.Fatalf("%s: %s", when, reason)
		}
	})
}

// The price of a condition, beside the same rule without one.
func BenchmarkDecideWhen(b *testing.B) {
	for name, when := range map[string]string{"without": "", "ownership": `, when: "path.user == principal.id"`} {
		b.Run(name, func(b *testing.B) {
			p := mustCompile(b, policyOf("name: a, path: '/users/{user}/posts/{id}', require: edit"+when))
			in := policy.Input{Demand: policy.Demand{Path: p.Rule("a")}, Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "a"},
				TenantAdmitted: true, Roles: editors, Grant: policy.Grant{{Role: 1}}, Request: &policy.Request{Method: "GET", Path: "/users/a/posts/1"}}
			b.ReportAllocs()
			for b.Loop() {
				if got := policy.Decide(&in); got != policy.ReasonOK {
					b.Fatal(got)
				}
			}
		})
	}
}

// An id without its kind may be anybody's who is named like that.
func TestConditionOnAnIDIsWarnedOf(t *testing.T) {
	p := mustCompile(t, policyOf("name: a, path: '/a/{x}/', require: p, mode: shadow, when: path.x == principal.id",
		"name: b, path: '/b/{x}/', require: p, when: path.x == principal.id && principal.kind == \"user\"", "name: c, path: '/c/{x}/', require: p, when: path.x == principal.id"))
	var named []string
	for _, w := range p.Warnings() {
		if strings.Contains(w.Message, "principal.kind") {
			named = append(named, w.Rule)
		}
	}
	if strings.Join(named, " ") != "a c" {
		t.Errorf("warned of %v", named)
	}
}
