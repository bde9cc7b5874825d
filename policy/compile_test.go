package policy_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"portcullis/policy"
)

// policyOf is a policy of the given rules, one a line, the first on line 3.
func policyOf(rules ...string) string {
	var b strings.Builder
	b.WriteString("version: 1\nrules:\n")
	for _, r := range rules {
		b.WriteString("  - {" + r + "}\n")
	}
	return b.String()
}

func mustCompile(t testing.TB, src string) *policy.Policy {
	t.Helper()
	p, err := policy.Compile([]byte(src))
	if err != nil {
		t.Fatalf("compile:\n%v\n%s", err, src)
	}
	return p
}

// Each policy has exactly the problems that stand beside it.
func TestCompileErrors(t *testing.T) {
	const tail = "allow: authenticated"
	tests := []struct {
		name string
		src  string
		want string // one problem a line
	}{
		// The file as a whole.
		{"empty file", "", "the file is empty"},
		{"only a comment", "# nothing\n", "the file is empty"},
		{"a word", "hello", `line 1: policy: "hello" where a mapping of keys to values is due`},
		{"a list", "- a", "line 1: policy: a list where a mapping of keys to values is due"},
		{"no YAML", "version: 1\nrules: [\n", "line 2: not valid YAML: did not find expected node content"},
		{"two documents", "version: 1\nrules: []\n---\nversion: 1\n", "line 3: a second YAML document; a policy is one document"},
		{"no version", "rules: []", "line 1: policy: version is missing; this program reads version: 1"},
		{"another version", "version: 2\nrules: []", "line 1: version: the number 2; this program reads version: 1"},
		{"version in quotes", "version: \"1\"\nrules: []", `line 1: version: "1"; this program reads version: 1`},
		{"no rules", "version: 1", "line 1: policy: rules is missing; an empty list, rules: [], denies every request"},
		{"rules are no list", "version: 1\nrules: {}", "line 2: rules: a mapping where a list is due"},
		{"unknown top key", "version: 1\nruels: []\nrules: []", `line 2: policy: unknown key "ruels"; did you mean "rules"?`},
		{"key twice", "version: 1\nrules: []\nrules: []", `line 3: policy: key "rules" comes twice`},
		{"a key that is a list", "version: 1\n? [a]\n: b\nrules: []", "line 2: policy: a key is not a plain word"},
		{"an alias", "version: 1\nrules:\n  - {name: a, path: &p /a, allow: authenticated}\n  - {name: b, path: *p, allow: anonymous}", `line 4: rule "b": path: a YAML alias (*p); write the value out`},
		{"a merge", "version: 1\nrules:\n  - &r {name: a, path: /a, allow: authenticated}\n  - {<<: *r, name: b}", `line 4: rule "b": rule: unknown key "<<"; the keys are name, hosts, methods, path, allow, require, tenants, allow_encoded_slash, allow_double_slash, allow_semicolon, forward_credentials, mtls, when, mode
line 4: rule "b": path is missing; "/{rest...}" matches every path longer than /
line 4: rule "b": neither allow nor require; write require: PERMISSION, allow: authenticated or allow: anonymous`},

		// Keys and names.
		{"a rule that is a word", policyOf() + "  - health\n", `line 3: rule #1: rule: "health" where a mapping of keys to values is due`},
		{"misspelt key", policyOf("name: a, path: /a, method: [GET], " + tail), `line 3: rule "a": rule: unknown key "method"; did you mean "methods"?`},
		{"unknown key of a rule", policyOf("name: a, path: /a, when: 'true', mtls: true, mode: x, " + tail), `line 3: rule "a": mode: "x"; write shadow, or leave mode out for a rule that decides`},
		{"rule key twice", policyOf("name: a, path: /a, path: /b, " + tail), `line 3: rule "a": rule: key "path" comes twice`},
		{"no name", policyOf("path: /a, "+tail, "path: /b, "+tail), "line 3: rule #1: name is missing\nline 4: rule #2: name is missing"},
		{"bad name", policyOf("name: 'a b', path: /a, " + tail), `line 3: rule #1: name: "a b" is not a rule name: 1 to 64 letters, digits and _ -`},
		{"long name", policyOf("name: " + strings.Repeat("a", 65) + ", path: /a, " + tail), `line 3: rule #1: name: "` + strings.Repeat("a", 65) + `" is not a rule name: 1 to 64 letters, digits and _ -`},
		{"a number for a name", policyOf("name: 12, path: /a, " + tail), `line 3: rule "12": name: YAML reads 12 as something else than a word; put it in quotes`},
		{"name twice", policyOf("name: a, path: /a, "+tail, "name: a, path: /b, "+tail), `line 4: rule "a": the rule on line 3 has this name already`},

		// Paths.
		{"no path", policyOf("name: a, " + tail), `line 3: rule "a": path is missing; "/{rest...}" matches every path longer than /`},
		{"relative path", policyOf("name: a, path: a/b, " + tail), `line 3: rule "a": path: "a/b" does not begin with /`},
		{"empty path", policyOf("name: a, path: '', " + tail), `line 3: rule "a": path: "" does not begin with /`},
		{"blank path", policyOf("name: a, path: , " + tail), `line 3: rule "a": path: nothing where a word is due`},
		{"half a parameter", policyOf("name: a, path: '/v{n}', " + tail), `line 3: rule "a": path: in "v{n}" a parameter is not the whole segment; write {name} between slashes`},
		{"nameless parameter", policyOf("name: a, path: '/{}', " + tail), `line 3: rule "a": path: {} is no parameter: its name is a letter or _, then letters, digits and _, at most 32 in all`},
		{"nameless rest", policyOf("name: a, path: '/{...}', " + tail), `line 3: rule "a": path: {...} is no parameter: its name is a letter or _, then letters, digits and _, at most 32 in all`},
		{"parameter that is no name", policyOf("name: a, path: '/{1a}', " + tail), `line 3: rule "a": path: {1a} is no parameter: its name is a letter or _, then letters, digits and _, at most 32 in all`},
		{"rest in the middle", policyOf("name: a, path: '/{r...}/x', " + tail), `line 3: rule "a": path: {r...} takes the rest of the path and must stand last`},
		{"two rests", policyOf("name: a, path: '/{r...}/{s...}', " + tail), `line 3: rule "a": path: {r...} takes the rest of the path and must stand last`},
		{"parameter twice", policyOf("name: a, path: '/{id}/x/{id}', " + tail), `line 3: rule "a": path: parameter "id" comes twice`},
		{"parameter and rest of one name", policyOf("name: a, path: '/{id}/{id...}', " + tail), `line 3: rule "a": path: parameter "id" comes twice`},
		{"star", policyOf("name: a, path: '/static/*', " + tail), `line 3: rule "a": path: "*" has a *, which means nothing here; write {name} for one segment or {name...} for the rest`},
		{"two double stars", policyOf("name: a, path: '/**/x/**', " + tail), `line 3: rule "a": path: "**" has a *, which means nothing here; write {name} for one segment or {name...} for the rest
line 3: rule "a": path: "**" has a *, which means nothing here; write {name} for one segment or {name...} for the rest`},
		{"query", policyOf("name: a, path: '/a?b=c', " + tail), `line 3: rule "a": path: "a?b=c" has a query or fragment; only the path is matched`},
		{"fragment", policyOf("name: a, path: '/a#b', " + tail), `line 3: rule "a": path: "a#b" has a query or fragment; only the path is matched`},
		{"backslash", policyOf(`name: a, path: '/a\b', ` + tail), `line 3: rule "a": path: "a\\b" has a backslash, and a path with one is always refused`},
		{"control character", policyOf(`name: a, path: "/a\tb", ` + tail), `line 3: rule "a": path: "a\tb" has a control character or is not UTF-8, and such a path is always refused`},
		{"percent-encoded letter", policyOf("name: a, path: '/%61', " + tail), `line 3: rule "a": path: "%61" has %61; patterns match the decoded path, so write the character itself`},
		{"encoded slash in lower case", policyOf("name: a, path: '/a%2fb', allow_encoded_slash: true, " + tail), `line 3: rule "a": path: "a%2fb" has %2f; write it as %2F`},
		{"encoded slash without the opt-in", policyOf("name: a, path: '/a%2Fb', " + tail), `line 3: rule "a": path: "/a%2Fb" has an encoded slash; that takes allow_encoded_slash: true`},
		{"empty segment without the opt-in", policyOf("name: a, path: //a, " + tail), `line 3: rule "a": path: "//a" has an empty segment; that takes allow_double_slash: true`},
		{"semicolon without the opt-in", policyOf("name: a, path: /a;v=1, allow_semicolon: false, " + tail), `line 3: rule "a": path: "/a;v=1" has a semicolon; that takes allow_semicolon: true`},
		{"dot segment", policyOf("name: a, path: /a/../b, " + tail), `line 3: rule "a": path: "/a/../b" has a segment that no request may have, such as . or ..`},
		{"dot segment with a semicolon", policyOf("name: a, path: /..;/b, allow_semicolon: true, " + tail), `line 3: rule "a": path: "/..;/b" has a segment that no request may have, such as . or ..`},
		{"too long", policyOf("name: a, path: /" + strings.Repeat("a", 2048) + ", " + tail), `line 3: rule "a": path: longer than 2048 bytes`},
		{"too deep", policyOf("name: a, path: " + strings.Repeat("/a", 33) + ", " + tail), `line 3: rule "a": path: more than 32 segments`},
		{"everything wrong with one path", policyOf("name: a, path: '/a*/{b/{c...}/{d}/{d}', " + tail), `line 3: rule "a": path: "a*" has a *, which means nothing here; write {name} for one segment or {name...} for the rest
line 3: rule "a": path: in "{b" a parameter is not the whole segment; write {name} between slashes
line 3: rule "a": path: {c...} takes the rest of the path and must stand last
line 3: rule "a": path: parameter "d" comes twice`},

		// Hosts.
		{"no hosts", policyOf("name: a, path: /a, hosts: [], " + tail), `line 3: rule "a": hosts: the list is empty`},
		{"a host that is no list", policyOf("name: a, path: /a, hosts: x.com, " + tail), `line 3: rule "a": hosts: "x.com" where a list is due`},
		{"any host", policyOf("name: a, path: /a, hosts: ['*'], " + tail), `line 3: rule "a": hosts: "*" is no host; leave hosts out to match every host`},
		{"star inside", policyOf("name: a, path: /a, hosts: ['a.*.com'], " + tail), `line 3: rule "a": hosts: "a.*.com": a * may only be the whole first label, as in *.example.com`},
		{"star and letters", policyOf("name: a, path: /a, hosts: ['*a.com'], " + tail), `line 3: rule "a": hosts: "*a.com": a * may only be the whole first label, as in *.example.com`},
		{"star alone with a dot", policyOf("name: a, path: /a, hosts: ['*.'], " + tail), `line 3: rule "a": hosts: "*." is no host name`},
		{"host with a space", policyOf("name: a, path: /a, hosts: ['a b'], " + tail), `line 3: rule "a": hosts: "a b" is no host name`},
		{"host in capitals", policyOf("name: a, path: /a, hosts: [A.com], " + tail), `line 3: rule "a": hosts: "A.com": write it as "a.com"; requests are compared in lower case, without port and trailing dot`},
		{"host with a port", policyOf("name: a, path: /a, hosts: ['*.a.com:443'], " + tail), `line 3: rule "a": hosts: "*.a.com:443": write it as "*.a.com"; requests are compared in lower case, without port and trailing dot`},
		{"long IPv6 literal", policyOf("name: a, path: /a, hosts: ['[0:0::1]'], " + tail), `line 3: rule "a": hosts: "[0:0::1]": write it as "[::1]"; requests are compared in lower case, without port and trailing dot`},
		{"star before an address", policyOf("name: a, path: /a, hosts: ['*.[::1]'], " + tail), `line 3: rule "a": hosts: "*.[::1]": a * cannot stand before an IP address`},
		{"host twice", policyOf("name: a, path: /a, hosts: [a.com, a.com], " + tail), `line 3: rule "a": hosts: "a.com" comes twice`},
		{"host within another", policyOf("name: a, path: /a, hosts: [x.a.com, '*.a.com'], " + tail), `line 3: rule "a": hosts: "x.a.com" lies within "*.a.com"; leave it out`},
		{"star within another", policyOf("name: a, path: /a, hosts: ['*.com', '*.x.a.com'], " + tail), `line 3: rule "a": hosts: "*.x.a.com" lies within "*.com"; leave it out`},

		// Methods.
		{"no methods", policyOf("name: a, path: /a, methods: [], " + tail), `line 3: rule "a": methods: the list is empty`},
		{"method in lower case", policyOf("name: a, path: /a, methods: [get], " + tail), `line 3: rule "a": methods: "get": methods are exact; write GET`},
		{"bad method", policyOf("name: a, path: /a, methods: ['*'], " + tail), `line 3: rule "a": methods: "*" is no method; leave methods out to match all but CONNECT`},
		{"method twice", policyOf("name: a, path: /a, methods: [GET, GET], " + tail), `line 3: rule "a": methods: "GET" comes twice`},

		// Access.
		{"neither allow nor require", policyOf("name: a, path: /a"), `line 3: rule "a": neither allow nor require; write require: PERMISSION, allow: authenticated or allow: anonymous`},
		{"both allow and require", policyOf("name: a, path: /a, allow: authenticated, require: p"), `line 3: rule "a": allow and require exclude each other; require already asks for an authenticated caller`},
		{"unknown access", policyOf("name: a, path: /a, allow: everyone"), `line 3: rule "a": allow: "everyone" is neither anonymous nor authenticated; a permission goes under require`},
		{"allow true", policyOf("name: a, path: /a, allow: true"), `line 3: rule "a": allow: YAML reads true as something else than a word; put it in quotes`},
		{"blank require", policyOf("name: a, path: /a, require: "), `line 3: rule "a": require: nothing where a word is due`},
		{"empty permission", policyOf("name: a, path: /a, require: ''"), `line 3: rule "a": require: "" is not a permission name: 1 to 128 letters, digits and _ . : / -`},
		{"bad permission", policyOf("name: a, path: /a, require: 'a b'"), `line 3: rule "a": require: "a b" is not a permission name: 1 to 128 letters, digits and _ . : / -`},
		{"a bare list", policyOf("name: a, path: /a, require: [p]"), `line 3: rule "a": require: a list; write {any: [...]} when one of them is enough, {all: [...]} when every one is needed`},
		{"empty any", policyOf("name: a, path: /a, require: {any: []}"), `line 3: rule "a": require any: the list is empty`},
		{"any and all", policyOf("name: a, path: /a, require: {any: [p], all: [q]}"), `line 3: rule "a": require: any and all exclude each other`},
		{"neither any nor all", policyOf("name: a, path: /a, require: {}"), `line 3: rule "a": require: neither any nor all`},
		{"unknown under require", policyOf("name: a, path: /a, require: {one: [p], any: [p]}"), `line 3: rule "a": require: unknown key "one"; the keys are any, all`},
		{"permission twice", policyOf("name: a, path: /a, require: {all: [p, p]}"), `line 3: rule "a": require all: "p" comes twice`},
		{"boolean for a word", policyOf("name: a, path: /a, allow_semicolon: 'yes', forward_credentials: [true], " + tail), `line 3: rule "a": allow_semicolon: "yes" where true or false is due
line 3: rule "a": forward_credentials: a list where true or false is due`},

		// Tenants.
		{"no tenants", policyOf("name: a, path: /a, tenants: [], " + tail), `line 3: rule "a": tenants: the list is empty`},
		{"tenant that is no list", policyOf("name: a, path: /a, tenants: acme, " + tail), `line 3: rule "a": tenants: "acme"; write a list of tenants, or any for every admitted one`},
		{"any in a list", policyOf("name: a, path: /a, tenants: [any], " + tail), `line 3: rule "a": tenants: any in a list would be a tenant of that name; write tenants: any for every admitted one`},
		{"bad tenant", policyOf("name: a, path: /a, tenants: [a/b], " + tail), `line 3: rule "a": tenants: "a/b" is not a tenant name: 1 to 64 letters, digits and _ . -`},
		{"a number for a tenant", policyOf("name: a, path: /a, tenants: [12], " + tail), `line 3: rule "a": tenants: YAML reads 12 as something else than a word; put it in quotes`},
		{"tenants of an anonymous rule", policyOf("name: a, path: /a, tenants: any, allow: anonymous"), `line 3: rule "a": tenants: an anonymous rule asks nobody for a tenant; leave tenants out`},

		// Ties.
		{"the same twice", policyOf("name: a, path: '/{x}', "+tail, "name: b, path: '/{y}', allow: anonymous"),
			`line 4: rule "b": ties with rule "a" (line 3): both match exactly the same requests, such as GET /x; tenants and requirements do not choose between rules, so make them one, or narrow one of them by hosts, methods or path`},
		{"only tenants differ", policyOf("name: a, path: /a, tenants: [acme], "+tail, "name: b, path: /a, tenants: [globex], "+tail),
			`line 4: rule "b": ties with rule "a" (line 3): both match exactly the same requests, such as GET /a; tenants and requirements do not choose between rules, so make them one, or narrow one of them by hosts, methods or path`},
		{"narrower path, wider methods", policyOf("name: a, path: '/posts/{id}', methods: [PUT], "+tail, "name: b, path: /posts/new, "+tail),
			`line 4: rule "b": ties with rule "a" (line 3): both match PUT /posts/new, and neither lies inside the other; narrow one of them by hosts, methods or path until it does, or until they are apart`},
		{"crossing paths", policyOf("name: a, path: '/{x}/b', "+tail, "name: b, path: '/a/{y}', "+tail),
			`line 4: rule "b": ties with rule "a" (line 3): both match GET /a/b, and neither lies inside the other; narrow one of them by hosts, methods or path until it does, or until they are apart`},
		{"crossing hosts and paths", policyOf("name: a, path: '/{x...}', hosts: ['*.a.com'], "+tail, "name: b, path: /b, "+tail),
			`line 4: rule "b": ties with rule "a" (line 3): both match GET x.a.com/b, and neither lies inside the other; narrow one of them by hosts, methods or path until it does, or until they are apart`},
		{"crossing lists of hosts", policyOf("name: a, path: /a, hosts: [a.com, b.com], "+tail, "name: b, path: /a, hosts: [b.com, c.com], "+tail),
			`line 4: rule "b": ties with rule "a" (line 3): both match GET b.com/a, and neither lies inside the other; narrow one of them by hosts, methods or path until it does, or until they are apart`},
		{"CONNECT is not in every method", policyOf("name: a, path: /a, methods: [GET, CONNECT], "+tail, "name: b, path: /a, "+tail),
			`line 4: rule "b": ties with rule "a" (line 3): both match GET /a, and neither lies inside the other; narrow one of them by hosts, methods or path until it does, or until they are apart`},
		{"a tie beside other errors", policyOf("name: a, path: /a, allow: nobody", "name: b, path: /a, tenants: [], "+tail), `line 3: rule "a": allow: "nobody" is neither anonymous nor authenticated; a permission goes under require
line 4: rule "b": tenants: the list is empty
line 4: rule "b": ties with rule "a" (line 3): both match exactly the same requests, such as GET /a; tenants and requirements do not choose between rules, so make them one, or narrow one of them by hosts, methods or path`},

		// Tests.
		{"tests are no mapping", "version: 1\nrules: []\ntests: []", "line 3: tests: a list where a mapping of keys to values is due"},
		{"unknown key in tests", "version: 1\nrules: []\ntests: {case: [], cases: []}", `line 3: tests: unknown key "case"; did you mean "cases"?`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := policy.Compile([]byte(test.src))
			if p != nil || err == nil {
				t.Fatalf("compiled:\n%s", test.src)
			}
			if err.Error() != test.want {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

// One run names everything that is wrong, in the order of the lines.
func TestCompileReportsEverything(t *testing.T) {
	_, err := policy.Compile([]byte("version: 3\nrules:\n  - {name: a, path: b, allow: x, tenants: []}\n  - {paht: /c}\nextra: 1\n"))
	var wrong *policy.CompileError
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	var got []string
	for _, p := range wrong.Problems {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Rule))
	}
	want := []string{"1 ", "3 a", "3 a", "3 a", "4 #2", "4 #2", "4 #2", "4 #2", "5 "}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q\n%v", got, want, err)
	}
}

func TestCompileRefusesBombs(t *testing.T) {
	t.Run("aliases", func(t *testing.T) {
		var b strings.Builder
		b.WriteString("version: 1\nx0: &x0 [a, a, a, a, a, a, a, a, a]\n")
		for i := 1; i < 30; i++ {
			fmt.Fprintf(&b, "x%d: &x%d [%s*x%d]\n", i, i, strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 8), i-1)
		}
		b.WriteString("rules: *x29\n")
		_, err := policy.Compile([]byte(b.String()))
		if err == nil || !strings.Contains(err.Error(), "rules: a YAML alias (*x29); write the value out") {
			t.Errorf("got %.300v", err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		_, err := policy.Compile(make([]byte, policy.MaxFileBytes+1))
		if err == nil || err.Error() != "8388609 bytes, more than the 8388608 that are read" {
			t.Errorf("got %.300v", err)
		}
	})
	t.Run("a file of junk", func(t *testing.T) {
		src := append([]byte("version: 1\nrules:\n"), bytes.Repeat([]byte("  - x\n"), 100_000)...)
		_, err := policy.Compile(src)
		var wrong *policy.CompileError
		if !errors.As(err, &wrong) || len(wrong.Problems) != 500 || wrong.Omitted != 100_000-500 {
			t.Errorf("got %.300v", err)
		}
	})
	t.Run("deep nesting", func(t *testing.T) {
		_, err := policy.Compile([]byte("version: 1\nrules: " + strings.Repeat("[", 100_000)))
		if err == nil || !strings.Contains(err.Error(), "not valid YAML") {
			t.Errorf("got %.300v", err)
		}
	})
	t.Run("too many methods", func(t *testing.T) {
		var rules []string
		for i := range 63 {
			rules = append(rules, fmt.Sprintf("name: r%d, path: /a, methods: [M%d], allow: anonymous", i, i))
		}
		mustCompile(t, policyOf(rules[:62]...))
		_, err := policy.Compile([]byte(policyOf(rules...)))
		if err == nil || err.Error() != `line 65: rule "r62": methods: the file names more than 62 different methods` {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too many permissions", func(t *testing.T) {
		list := "p0"
		for i := 1; i < 64; i++ {
			list += fmt.Sprintf(", p%d", i)
		}
		mustCompile(t, policyOf("name: a, path: /a, require: {any: ["+list+"]}"))
		_, err := policy.Compile([]byte(policyOf("name: a, path: /a, require: {any: [" + list + ", more]}")))
		if err == nil || !strings.Contains(err.Error(), "require any: 65 permissions, more than 64") {
			t.Errorf("got %v", err)
		}
	})
}

// What the file says is what the rule holds.
func TestCompiledRule(t *testing.T) {
	p := mustCompile(t, `version: 1
rules:
  - {name: open, path: /healthz, allow: anonymous, forward_credentials: true}
  - {name: mine, path: /me, allow: authenticated}
  - name: full
    hosts: ["*.example.com", "[::1]"]
    methods: [GET, M-SEARCH]
    path: "/a/{b}/{c...}"
    require: {any: [x, "y:z/w.v-u"]}
    tenants: [acme, globex]
    allow_encoded_slash: true
    allow_double_slash: true
    allow_semicolon: true
  - {name: all, path: /all, require: {all: [x, y]}, tenants: any}
  - {name: one, path: /one, require: x}
`)
	if p.Len() != 5 || len(p.Rules()) != 5 || p.Rule("nobody") != nil {
		t.Fatalf("%d rules", p.Len())
	}
	for i, r := range p.Rules() {
		if r.Index != i || p.Rule(r.Name) != r {
			t.Errorf("rule %d: %+v", i, r)
		}
	}
	open, mine, full, all, one := p.Rule("open"), p.Rule("mine"), p.Rule("full"), p.Rule("all"), p.Rule("one")
	if open.Access != policy.AccessAnonymous || !open.ForwardCredentials || open.Tenants != nil || open.AnyTenant || open.AdmitsTenant("default") {
		t.Errorf("%+v", open)
	}
	if mine.Access != policy.AccessAuthenticated || mine.ForwardCredentials || !reflect.DeepEqual(mine.Tenants, []string{"default"}) || mine.OptIns != 0 {
		t.Errorf("%+v", mine)
	}
	if full.Access != policy.AccessPermission || full.Line != 5 || full.Path != "/a/{b}/{c...}" ||
		full.OptIns != policy.FlagEncodedSlash|policy.FlagDoubleSlash|policy.FlagSemicolon ||
		!reflect.DeepEqual(full.Hosts, []string{"*.example.com", "[::1]"}) ||
		!reflect.DeepEqual(full.Methods, []string{"GET", "M-SEARCH"}) ||
		!reflect.DeepEqual(full.Require, policy.Requirement{Any: []string{"x", "y:z/w.v-u"}}) ||
		!full.AdmitsTenant("acme") || full.AdmitsTenant("default") || full.AdmitsTenant("") {
		t.Errorf("%+v", full)
	}
	if !all.AnyTenant || !all.AdmitsTenant("whoever") || all.AdmitsTenant("") || !reflect.DeepEqual(all.Require, policy.Requirement{All: []string{"x", "y"}}) {
		t.Errorf("%+v", all)
	}
	if !reflect.DeepEqual(one.Require, policy.Requirement{All: []string{"x"}}) {
		t.Errorf("%+v", one)
	}
}

func TestManyTenants(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("t%d", i))
	}
	r := mustCompile(t, policyOf("name: a, path: /a, allow: authenticated, tenants: ["+strings.Join(names, ", ")+"]")).Rule("a")
	for _, name := range names {
		if !r.AdmitsTenant(name) {
			t.Errorf("does not admit %s", name)
		}
	}
	for _, name := range []string{"", "t", "t100", "T1", "default"} {
		if r.AdmitsTenant(name) {
			t.Errorf("admits %q", name)
		}
	}
}

// No rule can be made to accept an unsafe path.
func TestAccepts(t *testing.T) {
	r := &policy.Rule{OptIns: policy.FlagSemicolon | policy.FlagUnsafe}
	for flags, want := range map[policy.PathFlags]bool{
		0: true, policy.FlagSemicolon: true, policy.FlagDoubleSlash: false, policy.FlagUnsafe: false,
		policy.FlagSemicolon | policy.FlagUnsafe: false, policy.FlagSemicolon | policy.FlagEncodedSlash: false,
	} {
		if got := r.Accepts(flags); got != want {
			t.Errorf("%v: %v", flags, got)
		}
	}
}

func TestEmptyPolicyMatchesNothing(t *testing.T) {
	for name, p := range map[string]*policy.Policy{"Empty": policy.Empty(), "rules: []": mustCompile(t, "version: 1\nrules: []")} {
		for _, path := range []string{"/", "/a", "", "//"} {
			if r := p.Match("GET", "a.com", path); r != nil {
				t.Errorf("%s: %s matches %v", name, path, r)
			}
		}
		if p.Len() != 0 || p.Rule("") != nil {
			t.Errorf("%s has rules", name)
		}
	}
}

func TestDigest(t *testing.T) {
	if got := mustCompile(t, "version: 1\nrules: []\n").Digest(); got != "7f2c43106364" {
		t.Errorf("digest %s", got)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for path, text := range map[string]string{good: policyOf("name: a, path: /a, allow: anonymous"), bad: policyOf("name: a, path: a, allow: none")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := policy.Load(good); err != nil || p.Len() != 1 {
		t.Errorf("%v", err)
	}
	p, err := policy.Load(bad)
	want := bad + `: line 3: rule "a": path: "a" does not begin with /` + "\n" + bad + `: line 3: rule "a": allow: "none" is neither anonymous nor authenticated; a permission goes under require`
	if p != nil || err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := policy.Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v", err)
	}
	if _, err := policy.Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than the 8388608") {
		t.Errorf("got %v", err)
	}
}
