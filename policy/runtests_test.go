package policy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"portcullis/policy"
)

const testsPolicy = `version: 1
rules:
  - {name: open, path: /open, allow: anonymous}
  - {name: view, methods: [GET], path: "/view/{id}", hosts: [a.com], require: view}
  - {name: files, path: "/files/{path...}", allow_encoded_slash: true, allow: authenticated, tenants: any, mtls: true}
`

// suiteOf is the policy above with cases, one a line, the first on line 11.
func suiteOf(cases ...string) []byte {
	return []byte(testsPolicy + casesOf(cases...))
}

func casesOf(cases ...string) string {
	return `tests:
  roles:
    viewer: {permissions: [view]}
    chief: {parents: [viewer]}
  cases:
    - ` + strings.Join(cases, "\n    - ") + "\n"
}

// Each case passes, or fails for the reason beside it.
func TestRunTests(t *testing.T) {
	tests := []struct{ item, wrong string }{
		{"request: {path: /open}, expect: allow", ""},
		{"request: {path: /open}, principal: anonymous, expect: allow, reason: ok, rule: open", ""},
		{"request: {path: /open}, expect: deny", "expected deny, got allow (ok); the rule was open"},
		{"request: {path: /open}, expect: allow, rule: view", "expected rule view, got open"},
		{"request: {path: /none}, expect: allow", "expected allow, got deny (no_rule)"},
		{"request: {path: /none}, expect: deny, rule: open", "expected rule open, got none"},
		{"request: {path: /none}, expect: deny, reason: missing_permission", "expected reason missing_permission, got no_rule"},
		{"request: {host: a.com, path: /view/1}, principal: {id: ada, roles: [viewer]}, expect: allow", ""},
		{"request: {host: 'A.com.:80', path: '/view/1?q'}, principal: {id: ada, roles: [chief]}, expect: allow", ""},
		{"request: {host: b.com, path: /view/1}, principal: {id: ada, roles: [viewer]}, expect: deny, reason: no_rule", ""},
		{"request: {host: 'a.com,b', path: /view/1}, principal: {id: ada, roles: [viewer]}, expect: deny, reason: ambiguous_request", ""},
		{"request: {method: PUT, host: a.com, path: /view/1}, principal: {id: ada, roles: [viewer]}, expect: deny, reason: no_rule", ""},
		{"request: {method: get, path: /open}, expect: deny, reason: ambiguous_request", ""},
		{"request: {host: a.com, path: /view/1}, principal: {id: ada, roles: []}, expect: deny, reason: missing_permission, rule: view", ""},
		{"request: {host: a.com, path: /view/1}, principal: {id: ada}, expect: allow", "expected allow, got deny (missing_permission); the rule was view"},
		{"request: {host: a.com, path: /view/1}, expect: deny, reason: missing_credential", ""},
		{"request: {host: a.com, path: /view/1}, principal: {tenant: acme, id: ada, roles: [viewer]}, expect: deny, reason: wrong_tenant", ""},
		{"request: {path: /files/1}, principal: {tenant: acme, kind: client, id: ci}, expect: allow", ""},
		{"request: {path: /files/1}, principal: {tenant: acme, admitted: true, kind: workload, id: cart}, expect: allow", ""},
		{"request: {host: a.com, path: /view/1}, principal: {kind: workload, id: cart, roles: [viewer]}, expect: deny, reason: missing_credential, rule: view", ""},
		{"request: {path: /files/1}, principal: {tenant: acme, admitted: false, id: ada}, expect: deny, reason: wrong_tenant", ""},
		{"request: {path: /files/a%2fb}, principal: {id: ada}, expect: allow, rule: files", ""},
		{"request: {path: /view/a%2fb, host: a.com}, principal: {id: ada, roles: [viewer]}, expect: deny, reason: ambiguous_request, rule: view", ""},
		{"request: {path: /files//a}, principal: {id: ada}, expect: deny, reason: ambiguous_request", ""},
		{"request: {path: /none/..}, expect: deny, reason: ambiguous_request", ""},
		{"request: {method: CONNECT, path: ''}, expect: deny, reason: no_rule", ""},
		{"request: {path: ''}, expect: deny, reason: ambiguous_request", ""},
	}
	var cases []string
	for i, test := range tests {
		cases = append(cases, fmt.Sprintf("{name: c%d, %s}", i, test.item))
	}
	check := func(t *testing.T, results []policy.TestResult, err error, firstLine int) {
		t.Helper()
		if err != nil || len(results) != len(tests) {
			t.Fatalf("%d results: %v", len(results), err)
		}
		for i, r := range results {
			if r.Wrong != tests[i].wrong || r.Passed() != (tests[i].wrong == "") || r.Name != fmt.Sprint("c", i) || r.Line != firstLine+i {
				t.Errorf("%s: got %+v, want %q", tests[i].item, r, tests[i].wrong)
			}
		}
	}
	t.Run("beside the rules", func(t *testing.T) {
		results, err := policy.RunTests(suiteOf(cases...), nil)
		check(t, results, err, 11)
	})
	t.Run("in a file of their own", func(t *testing.T) {
		results, err := policy.RunTests([]byte(testsPolicy), []byte(casesOf(cases...)))
		check(t, results, err, 6)
	})
	t.Run("the cases file wins over those beside the rules", func(t *testing.T) {
		results, err := policy.RunTests(suiteOf("{name: other, request: {path: /}, expect: allow}"), []byte(casesOf(cases...)))
		check(t, results, err, 6)
	})
}

func TestRunTestsErrors(t *testing.T) {
	const good = "name: c, request: {path: /open}, expect: allow"
	tests := []struct{ item, want string }{
		{"{request: {path: /open}, expect: allow}", "line 11: case #1: name is missing"},
		{"hello", `line 11: case #1: "hello" where a mapping of keys to values is due`},
		{"{name: c, expect: allow}", `line 11: case "c": request is missing`},
		{"{name: c, request: {method: GET}, expect: allow}", `line 11: case "c": request: path is missing`},
		{"{name: c, request: {path: /a, method: 'G T'}, expect: allow}", `line 11: case "c": request: "G T" is no method`},
		{"{name: c, request: {paht: /a, path: /a}, expect: allow}", `line 11: case "c": request: unknown key "paht"; did you mean "path"?`},
		{"{name: c, request: {path: /a}}", `line 11: case "c": expect is missing; write allow or deny`},
		{"{name: c, request: {path: /a}, expect: yes}", `line 11: case "c": expect: "yes" is neither allow nor deny`},
		{"{" + good + ", expct: deny}", `line 11: case #1: unknown key "expct"; did you mean "expect"?`},
		{"{" + good + ", reason: because}", `line 11: case "c": reason: "because" is no reason`},
		{"{" + good + ", reason: no_rule}", `line 11: case "c": reason no_rule is not one of a verdict of allow`},
		{"{" + good + ", principal: nobody}", `line 11: case "c": principal: "nobody"; write anonymous, or {tenant, kind, id, roles}`},
		{"{" + good + ", principal: {roles: [viewer]}}", `line 11: case "c": principal: id is missing`},
		{"{" + good + ", principal: {id: ''}}", `line 11: case "c": principal: id is empty`},
		{"{" + good + ", principal: {id: 12}}", `line 11: case "c": principal: id: YAML reads 12 as something else than a word; put it in quotes`},
		{"{" + good + ", principal: {id: a, kind: robot}}", `line 11: case "c": principal: kind: "robot" is none of user, client and workload`},
		{"{" + good + ", principal: {id: a, tenant: a/b}}", `line 11: case "c": principal: "a/b" is not a tenant name: 1 to 64 letters, digits and _ . -`},
		{"{" + good + ", principal: {id: a, admitted: maybe}}", `line 11: case "c": principal: admitted: "maybe" where true or false is due`},
		{"{" + good + ", principal: {id: a, roles: [viewer, veiwer]}}", `line 11: case "c": principal: roles: "veiwer" is no role of tests roles`},
		{"{" + good + "}\n    - {" + good + "}", `line 12: case "c": the case on line 11 has this name already`},
		{"{" + good + ", rule: veiw}", `line 11: case "c": rule: the policy has no rule "veiw"`},
	}
	for _, test := range tests {
		results, err := policy.RunTests(suiteOf(test.item), nil)
		if results != nil || err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.item, err, test.want)
		}
		if _, err := policy.Compile(suiteOf(test.item)); err == nil || err.Error() != test.want {
			t.Errorf("compile %s: got %v, want %s", test.item, err, test.want)
		}
	}
}

func TestRunTestsFileErrors(t *testing.T) {
	const one = "tests: {cases: [{name: c, request: {path: /}, expect: deny}]}"
	for name, test := range map[string]struct{ src, cases, want string }{
		"no cases":                   {testsPolicy, "", "no test cases; they go under tests: cases:"},
		"an empty list":              {testsPolicy + "tests: {cases: []}", "", "no test cases; they go under tests: cases:"},
		"tests without cases":        {testsPolicy + "tests: {roles: {}}", "", "line 6: tests: cases is missing"},
		"cases are no list":          {testsPolicy + "tests: {cases: {}}", "", "line 6: tests cases: a mapping where a list is due"},
		"bad role name":              {testsPolicy + "tests: {roles: {a b: {}}, cases: []}", "", `line 6: tests roles: "a b" is not a role name: 1 to 64 letters, digits and _ -`},
		"unknown parent":             {testsPolicy + "tests: {roles: {a: {parents: [b]}}, cases: []}", "", `line 6: role "a": parents: "b" is no role of tests roles`},
		"bad permission":             {testsPolicy + "tests: {roles: {a: {permissions: [b c]}}, cases: []}", "", `line 6: role "a": permissions: "b c" is not a permission name: 1 to 128 letters, digits and _ . : / -`},
		"unknown key of role":        {testsPolicy + "tests: {roles: {a: {parent: [a]}}, cases: []}", "", `line 6: role "a": unknown key "parent"; did you mean "parents"?`},
		"bad rules":                  {"version: 1\nrules: [{name: a}]\n" + one, "", "line 2: rule \"a\": path is missing; \"/{rest...}\" matches every path longer than /\nline 2: rule \"a\": neither allow nor require; write require: PERMISSION, allow: authenticated or allow: anonymous"},
		"bad rules, good cases file": {"version: 1\nrules: x", one, `line 2: rules: "x" where a list is due`},
		"no tests in cases file":     {testsPolicy, "{}", "cases: line 1: cases file: tests is missing"},
		"rules in cases file":        {testsPolicy, "rules: []\n" + one, `cases: line 1: cases file: unknown key "rules"; the keys are tests`},
		"empty cases file":           {testsPolicy, "\n", "cases: the file is empty"},
		"unknown rule in cases file": {testsPolicy, "tests: {cases: [{name: c, request: {path: /}, expect: deny, rule: x}]}", `cases: line 1: case "c": rule: the policy has no rule "x"`},
	} {
		var cases []byte
		if test.cases != "" {
			cases = []byte(test.cases)
		}
		if results, err := policy.RunTests([]byte(test.src), cases); results != nil || err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

// Whatever the bytes, Compile answers with a policy or with problems, within
// the bounds, and a policy that compiles can be used.
func FuzzCompile(f *testing.F) {
	f.Add(suiteOf("{name: c, request: {path: /open}, expect: allow, reason: ok, rule: open}", "{name: d, request: {method: PUT, host: h, path: /}, principal: {tenant: t, admitted: false, kind: client, id: i, roles: [chief]}, expect: deny}"))
	f.Add([]byte(policyOf("name: a, hosts: ['*.a.com', b.com], methods: [GET], path: '/a/{b}/{c...}', require: {any: [p, q]}, tenants: any, allow_semicolon: true")))
	f.Add([]byte(policyOf("name: a, path: &x /a, require: {all: [p]}, tenants: [t]", "name: b, path: *x, allow: anonymous, forward_credentials: true")))
	f.Add([]byte("version: 1\nrules: [[[[{a: b, ? c : d}]]]]\n---\n..."))
	f.Add([]byte("%YAML 1.1\n%TAG ! !\n--- !!map {version: !!int 1, rules: !!seq []}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		input := bytes.Clone(src)
		p, err := policy.Compile(src)
		if !bytes.Equal(input, src) {
			t.Fatal("changed its input")
		}
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v, error %v", p, err)
		}
		if err != nil {
			wrong, ok := err.(*policy.CompileError)
			if !ok || len(wrong.Problems) == 0 || len(wrong.Problems) > 500 || err.Error() == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		for _, r := range p.Rules() {
			if p.Rule(r.Name) != r || r.OptIns&unsafe != 0 || r.Access == policy.AccessPermission && len(r.Require.All)+len(r.Require.Any) == 0 ||
				r.Access != policy.AccessAnonymous && !r.AnyTenant && len(r.Tenants) == 0 {
				t.Fatalf("rule %+v", r)
			}
		}
		p.Match("GET", "a.com", "/a/b/c")
		if _, err := policy.RunTests(src, nil); err != nil && !strings.HasPrefix(err.Error(), "no test cases") {
			t.Fatalf("compiles, but its tests do not: %v", err)
		}
	})
}
