package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"portcullis/policy"
)

// request is what a rule is matched against, in canonical form.
type request struct{ method, host, path string }

func (r request) String() string { return fmt.Sprintf("%s %q %s", r.method, r.host, r.path) }

// ruleMatches says in the plainest way whether a rule matches a request.
func ruleMatches(r *policy.Rule, q request) bool {
	return methodMatches(r.Methods, q.method) && hostMatches(r.Hosts, q.host) && pathMatches(r.Path, q.path)
}

func methodMatches(methods []string, method string) bool {
	if len(methods) == 0 {
		return method != "CONNECT"
	}
	return slices.Contains(methods, method)
}

func hostMatches(hosts []string, host string) bool {
	if len(hosts) == 0 {
		return true
	}
	return slices.ContainsFunc(hosts, func(h string) bool {
		if suffix, ok := strings.CutPrefix(h, "*"); ok {
			return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
		}
		return h == host
	})
}

func pathMatches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		if strings.HasSuffix(w, "...}") {
			return i < len(got) && strings.Join(got[i:], "/") != ""
		}
		if i >= len(got) || strings.HasPrefix(w, "{") && got[i] == "" || !strings.HasPrefix(w, "{") && got[i] != w {
			return false
		}
	}
	return len(got) == len(want)
}

// The universe that random rules are compared in: every request made of these
// pieces. It holds a segment, a host label and a method that no rule names, and
// paths longer than any pattern, so that two rules which differ at all differ in
// it.
var (
	universeSegments = []string{"", "a", "b", "a;b", "z"}
	universeHosts    = []string{"", "x", "a.x", "b.x", "a.a.x", "z.a.x", "z.x", "z.b.x", "y", "z.y", "z"}
	universeMethods  = []string{"GET", "PUT", "CONNECT", "FOO"}
	universe         = func() (all []request) {
		paths := []string{""}
		for range 4 {
			var longer []string
			for _, path := range paths {
				for _, segment := range universeSegments {
					longer = append(longer, path+"/"+segment)
				}
			}
			for _, path := range longer {
				for _, host := range universeHosts {
					for _, method := range universeMethods {
						all = append(all, request{method, host, path})
					}
				}
			}
			paths = longer
		}
		return all
	}()
)

// extent is the requests of the universe that a rule matches, by index.
func extent(r *policy.Rule) map[int]bool {
	set := map[int]bool{}
	for i, q := range universe {
		if ruleMatches(r, q) {
			set[i] = true
		}
	}
	return set
}

func subset(a, b map[int]bool) bool {
	for i := range a {
		if !b[i] {
			return false
		}
	}
	return true
}

func disjoint(a, b map[int]bool) bool {
	for i := range a {
		if b[i] {
			return false
		}
	}
	return true
}

// ruleSource is one random rule as it stands in a file.
type ruleSource struct {
	path           string
	hosts, methods []string
}

func drawRule(t *rapid.T) ruleSource {
	var r ruleSource
	depth := rapid.IntRange(1, 3).Draw(t, "depth")
	for i := range depth {
		piece := rapid.SampledFrom([]string{"a", "b", "a;b", "{p}", "{p}", "{p...}", ""}).Draw(t, "segment")
		if piece == "{p...}" && i < depth-1 {
			piece = "{p}"
		}
		r.path += "/" + strings.Replace(piece, "p", fmt.Sprintf("p%d", i), 1)
	}
	r.hosts = rapid.SampledFrom([][]string{nil, nil, {"x"}, {"a.x"}, {"*.x"}, {"*.a.x"}, {"y", "*.x"}, {"a.x", "*.a.x"}, {"a.x", "b.x"}, {"*.y", "x"}}).Draw(t, "hosts")
	r.methods = rapid.SampledFrom([][]string{nil, nil, {"GET"}, {"PUT"}, {"GET", "PUT"}, {"GET", "CONNECT"}, {"CONNECT"}}).Draw(t, "methods")
	return r
}

func writePolicy(rules []ruleSource) []byte {
	var b strings.Builder
	b.WriteString("version: 1\nrules:\n")
	for i, r := range rules {
		fmt.Fprintf(&b, "  - {name: r%d, path: %q, allow: authenticated, allow_semicolon: true, allow_double_slash: true", i, r.path)
		if r.hosts != nil {
			fmt.Fprintf(&b, ", hosts: [%s]", quoted(r.hosts))
		}
		if r.methods != nil {
			fmt.Fprintf(&b, ", methods: [%s]", strings.Join(r.methods, ", "))
		}
		b.WriteString("}\n")
	}
	if len(rules) == 0 {
		b.WriteString("  []\n")
	}
	return []byte(b.String())
}

func quoted(words []string) string {
	var q []string
	for _, w := range words {
		q = append(q, fmt.Sprintf("%q", w))
	}
	return strings.Join(q, ", ")
}

// asRules gives the reference what it compares, without Compile's help.
func asRules(sources []ruleSource) (rules []*policy.Rule) {
	for i, s := range sources {
		rules = append(rules, &policy.Rule{Name: fmt.Sprintf("r%d", i), Index: i, Path: s.path, Hosts: s.hosts, Methods: s.methods})
	}
	return rules
}

// Whatever the rules, Compile refuses exactly the pairs that overlap with
// neither strictly inside the other, over every request of the universe; and
// once such rules are left out, Match finds for every request of it the one
// matching rule that lies inside all the others.
func TestMatchAgreesWithReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sources := rapid.SliceOfN(rapid.Custom(drawRule), 1, 8).Draw(t, "rules")
		rules := asRules(sources)
		extents := make([]map[int]bool, len(rules))
		for i, r := range rules {
			extents[i] = extent(r)
		}
		isTie := func(i, j int) bool {
			inside, outside := subset(extents[i], extents[j]), subset(extents[j], extents[i])
			return !disjoint(extents[i], extents[j]) && inside == outside
		}

		want := map[string]bool{}
		for j := range rules {
			for i := range j {
				if isTie(i, j) {
					want[fmt.Sprintf("%q ties with rule %q", rules[j].Name, rules[i].Name)] = true
				}
			}
		}
		got := tiesOf(t, writePolicy(sources))
		for tie := range want {
			if !got[tie] {
				t.Errorf("not refused: %s", tie)
			}
		}
		for tie := range got {
			if !want[tie] {
				t.Errorf("refused, though no tie: %s", tie)
			}
		}

		// Keep the rules that tie with none kept before them.
		var kept []int
		for j := range rules {
			if !slices.ContainsFunc(kept, func(i int) bool { return isTie(i, j) }) {
				kept = append(kept, j)
			}
		}
		var keptSources []ruleSource
		for _, i := range kept {
			keptSources = append(keptSources, sources[i])
		}
		p, err := policy.Compile(writePolicy(keptSources))
		if err != nil {
			t.Fatalf("without ties: %v", err)
		}
		for at, q := range universe {
			wanted := -1
			for n, i := range kept {
				if extents[i][at] && (wanted < 0 || subset(extents[i], extents[kept[wanted]])) {
					wanted = n
				}
			}
			rule := p.Match(q.method, q.host, q.path)
			if index := indexOf(rule); index != wanted {
				t.Fatalf("%v: rule %d, want %d, of\n%s", q, index, wanted, writePolicy(keptSources))
			}
		}
	})
}

func indexOf(r *policy.Rule) int {
	if r == nil {
		return -1
	}
	return r.Index
}

// tiesOf compiles a policy whose only faults may be ties and returns them.
func tiesOf(t *rapid.T, src []byte) map[string]bool {
	ties := map[string]bool{}
	_, err := policy.Compile(src)
	if err == nil {
		return ties
	}
	for _, problem := range err.(*policy.CompileError).Problems {
		text, _, ok := strings.Cut(problem.Message, " (line ")
		if !ok || !strings.HasPrefix(text, "ties with") {
			t.Fatalf("not a tie: %v", problem)
		}
		ties[fmt.Sprintf("%q %s", problem.Rule, text)] = true
	}
	return ties
}
