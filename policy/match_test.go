package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"portcullis/policy"
)

// routes is a policy and the rule that each request must find, "" for none.
type routes struct {
	policy string
	want   map[string]string // "GET host/path" -> rule
}

func TestMatch(t *testing.T) {
	tests := map[string]routes{
		"a literal beats a parameter beats the rest": {
			policyOf(
				"name: new, path: /posts/new, allow: authenticated",
				"name: post, path: '/posts/{id}', allow: authenticated",
				"name: under, path: '/posts/{rest...}', allow: authenticated",
				"name: all, path: '/{rest...}', allow: authenticated",
			),
			map[string]string{
				"GET a/posts/new": "new", "GET a/posts/newer": "post", "GET a/posts/1": "post", "GET a/posts/1/2": "under",
				"GET a/posts/new/": "under", "GET a/posts/": "all", "GET a/posts": "all", "GET a/": "", "GET a//": "all", "GET a/x": "all",
				"GET a/posts//": "under", "GET a/posts//x": "under", "GET a/Posts/new": "all",
			},
		},
		"a trailing slash matches only itself": {
			policyOf(
				"name: with, path: /a/, allow: authenticated",
				"name: without, path: /b, allow: authenticated",
				"name: root, path: /, allow: authenticated",
				"name: param, path: '/c/{x}/', allow: authenticated",
			),
			map[string]string{
				"GET h/a/": "with", "GET h/a": "", "GET h/a//": "", "GET h/a/b": "",
				"GET h/b": "without", "GET h/b/": "", "GET h/": "root", "GET h//": "",
				"GET h/c/1/": "param", "GET h/c/1": "", "GET h/c//": "", "GET h/c/": "",
			},
		},
		"a parameter is one segment, and never empty": {
			policyOf(
				"name: one, path: '/u/{a}', allow: authenticated",
				"name: two, path: '/u/{a}/p/{b}', allow: authenticated",
				"name: rest, path: '/files/{name}/{path...}', allow: authenticated",
			),
			map[string]string{
				"GET h/u/x": "one", "GET h/u/a%2Fb": "one", "GET h/u/": "", "GET h/u": "", "GET h/u/x/": "", "GET h/u/x/p/y": "two",
				"GET h/u//p/y": "", "GET h/u/x/p/": "", "GET h/u/x/q/y": "",
				"GET h/files/a/b": "rest", "GET h/files/a/b/c/d/": "rest", "GET h/files/a//": "rest", "GET h/files/a/": "", "GET h/files//b": "",
			},
		},
		"the search turns back": {
			policyOf(
				"name: lit, path: /a/b/c, allow: authenticated",
				"name: par, path: '/a/{x}/d', allow: authenticated",
				"name: top, path: '/{x}/b/e', allow: authenticated",
				"name: rest, path: '/r/s/{x...}', allow: authenticated",
				"name: in, path: '/r/s/{y}/t', allow: authenticated",
				"name: deep, path: '/a/b/{y}/f', allow: authenticated",
			),
			map[string]string{
				"GET h/a/b/c": "lit", "GET h/a/b/d": "par", "GET h/a/b/e": "top", "GET h/a/b/x/f": "deep", "GET h/a/b/x/g": "",
				"GET h/z/b/e": "top", "GET h/z/b/d": "", "GET h/r/s/u/t": "in", "GET h/r/s/u/v": "rest", "GET h/r/s/u": "rest", "GET h/r/s//t": "rest", "GET h/r/b/e": "top",
			},
		},
		"methods are exact": {
			policyOf(
				"name: get, path: /a, methods: [GET], allow: authenticated",
				"name: any, path: /a, allow: authenticated",
				"name: tunnel, path: /t, methods: [CONNECT], allow: authenticated",
				"name: rest, path: '/{x...}', allow: authenticated",
			),
			map[string]string{
				"GET h/a": "get", "HEAD h/a": "any", "get h/a": "any", "FOO h/a": "any", "CONNECT h/a": "", "connect h/a": "", "Connect h/a": "",
				"CONNECT h/t": "tunnel", "connect h/t": "tunnel", "GET h/t": "rest", "GETT h/a": "any",
			},
		},
		"hosts are exact, or everything under a suffix": {
			policyOf(
				"name: exact, path: /a, hosts: [x.a.com], allow: authenticated",
				"name: near, path: /a, hosts: ['*.a.com'], allow: authenticated",
				"name: far, path: /a, hosts: ['*.com'], allow: authenticated",
				"name: six, path: /a, hosts: ['[::1]'], allow: authenticated",
				"name: any, path: /a, allow: authenticated",
			),
			map[string]string{
				"GET x.a.com/a": "exact", "GET y.a.com/a": "near", "GET y.x.a.com/a": "near", "GET a.com/a": "far", "GET com/a": "any",
				"GET b.com/a": "far", "GET /a": "any", "GET xa.com/a": "far", "GET a.com.org/a": "any",
				"GET [::1]/a": "six", "GET [::2]/a": "any", "GET x.a.com/b": "",
			},
		},
		"a narrower host decides only where its rule has the path and the method": {
			policyOf(
				"name: mine, path: '/a/{x}', hosts: [x.com], methods: [GET], allow: authenticated",
				"name: suffix, path: '/a/{x}', hosts: [x.com, '*.x.com'], allow: authenticated",
				"name: any, path: '/{x...}', allow: authenticated",
			),
			map[string]string{
				"GET x.com/a/1": "mine", "PUT x.com/a/1": "suffix", "GET y.x.com/a/1": "suffix", "GET y.com/a/1": "any", "GET x.com/a/1/2": "any",
			},
		},
		"fewer hosts beat more, and fewer methods beat more": {
			policyOf(
				"name: wide, path: /a, hosts: [a.com, b.com, c.com], methods: [GET, PUT], allow: authenticated",
				"name: narrow, path: /a, hosts: [a.com, b.com], methods: [GET, PUT], allow: authenticated",
				"name: least, path: /a, hosts: [a.com], methods: [PUT], allow: authenticated",
			),
			map[string]string{
				"GET a.com/a": "narrow", "PUT a.com/a": "least", "PUT b.com/a": "narrow", "PUT c.com/a": "wide", "POST a.com/a": "",
			},
		},
		"patterns are compared with the decoded path": {
			policyOf(
				"name: accent, path: /caf\u00e9, allow: authenticated",
				"name: space, path: '/a b', allow: authenticated",
				"name: percent, path: '/100%', allow: authenticated",
				"name: slash, path: /a%2Fb, allow_encoded_slash: true, allow: authenticated",
				"name: matrix, path: /a;v=1, allow_semicolon: true, allow: authenticated",
				"name: double, path: //a, allow_double_slash: true, allow: authenticated",
			),
			map[string]string{
				"GET h/caf\u00e9": "accent", "GET h/a b": "space", "GET h/100%": "percent", "GET h/a%2Fb": "slash", "GET h/a/b": "",
				"GET h/a;v=1": "matrix", "GET h/a": "", "GET h//a": "double",
			},
		},
		"what is no canonical path matches nothing": {
			policyOf("name: all, path: '/{x...}', allow: anonymous"),
			map[string]string{"GET h": "", "GET h*": "", "GET hadmin": "", " h/a": "", "GET h/a": "all"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := mustCompile(t, test.policy)
			for text, want := range test.want {
				method, target, _ := strings.Cut(text, " ")
				host, path := target, ""
				if at := strings.IndexByte(target, '/'); at >= 0 {
					host, path = target[:at], target[at:]
				}
				got := ""
				if r := p.Match(method, host, path); r != nil {
					got = r.Name
				}
				if got != want {
					t.Errorf("%s: rule %q, want %q", text, got, want)
				}
			}
		})
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	p := largeRules(t, 1000)
	for _, q := range largeRequests(1000)[:10] {
		if n := testing.AllocsPerRun(100, func() { p.Match(q.method, q.host, q.path) }); n != 0 {
			t.Errorf("%v: %v allocations", q, n)
		}
	}
}

// The deepest pattern allowed is matched, and no deeper path is.
func TestMatchDeepest(t *testing.T) {
	var pattern, path strings.Builder
	for i := range 32 {
		fmt.Fprintf(&pattern, "/{p%d}", i)
		path.WriteString("/x")
	}
	p := mustCompile(t, policyOf("name: deep, path: '"+pattern.String()+"', allow: anonymous"))
	if r := p.Match("GET", "", path.String()); r == nil {
		t.Error("no match")
	}
	for _, suffix := range []string{"/", "/x", "/x/y", strings.Repeat("/", 10_000)} {
		if r := p.Match("GET", "", path.String()+suffix); r != nil {
			t.Errorf("%.10s matches", suffix)
		}
	}
	if r := p.Match("GET", "", strings.TrimSuffix(path.String(), "/x")); r != nil {
		t.Error("a shorter path matches")
	}
}

// FuzzMatch builds a policy from bytes and compares the matcher with the
// reference on a request from the same bytes.
func FuzzMatch(f *testing.F) {
	f.Add("GET a.x /a/b\n* * /a/{p0}\nGET *.x /a/b\n* a.x,y /{p0...}")
	f.Add("PUT  /a//b\n* * /{p0}/{p1...}\nGET,PUT * /a//{p1}")
	f.Add("CONNECT y /z\nCONNECT y /z\n* * /z")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		want := strings.Split(lines[0], " ")
		if len(want) != 3 || len(lines) > 30 || strings.EqualFold(want[0], "CONNECT") && want[0] != "CONNECT" || want[0] == "" || !strings.HasPrefix(want[2], "/") {
			return
		}
		if host, ok := policy.CanonHost(nil, []byte(want[1])); !ok || string(host) != want[1] {
			return
		}
		q := request{want[0], want[1], want[2]}
		var sources []ruleSource
		var p *policy.Policy
		for _, line := range lines[1:] {
			parts := strings.Split(line, " ")
			if len(parts) != 3 {
				continue
			}
			r := ruleSource{path: parts[2]}
			if parts[0] != "*" {
				r.methods = strings.Split(parts[0], ",")
			}
			if parts[1] != "*" {
				r.hosts = strings.Split(parts[1], ",")
			}
			// Rules that are refused, or that tie with an earlier one, are left out.
			if more, err := policy.Compile(writePolicy(append(sources, r))); err == nil {
				sources, p = append(sources, r), more
			}
		}
		if p == nil {
			return
		}
		got, expected := p.Match(q.method, q.host, q.path), referenceMatch(p.Rules(), q)
		if indexOf(got) != indexOf(expected) {
			t.Fatalf("%v: rule %d, want %d, of\n%s", q, indexOf(got), indexOf(expected), writePolicy(sources))
		}
	})
}

// referenceMatch is naiveMatch for any rules: of all that match, the one that
// no other one is narrower than, in each part alone.
func referenceMatch(rules []*policy.Rule, q request) *policy.Rule {
	var best *policy.Rule
	for _, r := range rules {
		if ruleMatches(r, q) && (best == nil || partwiseWithin(r, best)) {
			best = r
		}
	}
	return best
}

// partwiseWithin reports whether a lies within b, both of which match one
// request: each method and host of a is one of b's, and a's path is no wider.
func partwiseWithin(a, b *policy.Rule) bool {
	for _, method := range a.Methods {
		if !methodMatches(b.Methods, method) {
			return false
		}
	}
	for _, host := range a.Hosts {
		if !hostMatches(b.Hosts, strings.Replace(host, "*.", "fresh-label.", 1)) && !slices.Contains(b.Hosts, host) {
			return false
		}
	}
	return (a.Methods != nil || b.Methods == nil) && (a.Hosts != nil || b.Hosts == nil) && patternWeight(a.Path) <= patternWeight(b.Path)
}
