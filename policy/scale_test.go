package policy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// manyRules writes a policy of n rules with the given line for each.
func manyRules(n int, line func(i int) string) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\nrules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, allow: authenticated, %s}\n", i, line(i))
	}
	return b.Bytes()
}

// shapes are policies of n rules that are hard on the search for ties, each in
// its own way. ties says whether there are any.
var shapes = []struct {
	name string
	ties bool
	line func(i int) string
}{
	{"one literal each", false, func(i int) string { return fmt.Sprintf("path: /a/b/c%d", i) }},
	{"one host each, all paths", false, func(i int) string {
		return fmt.Sprintf("hosts: [h%d.example.com], path: '/{rest...}'", i)
	}},
	{"parameters beside literals, no overlap", false, func(i int) string {
		if i%2 == 0 {
			return fmt.Sprintf("path: '/{x}/{y}/p%d'", i)
		}
		return fmt.Sprintf("path: /l%d/m%d/q%d", i, i, i)
	}},
	{"crossing parameters, no overlap", false, func(i int) string {
		if i%2 == 0 {
			return fmt.Sprintf("path: '/{x}/l%d/e%d'", i, i)
		}
		return fmt.Sprintf("path: '/l%d/{y}/e%d'", i, i)
	}},
	{"a narrow rule for each wide one", false, func(i int) string {
		if i%2 == 0 {
			return fmt.Sprintf("path: '/s%d/{rest...}'", i)
		}
		return fmt.Sprintf("hosts: [h%d.example.com], path: '/s%d/x/{id}'", i, i-1)
	}},
	{"methods apart", false, func(i int) string {
		return fmt.Sprintf("methods: [M%d], path: '/s%d/{rest...}'", i%60, i/60)
	}},
	{"every rule ties with half of the others", true, func(i int) string {
		if i%2 == 0 {
			return fmt.Sprintf("hosts: [h%d.example.com], path: '/{rest...}'", i)
		}
		return fmt.Sprintf("path: /p%d", i)
	}},
	{"all the same", true, func(int) string { return "path: /p" }},
}

// Compiling stays fast for 10,000 rules of any shape. The bound is that of the
// design, wide enough for a busy machine and -race.
func TestCompileLargeShapes(t *testing.T) {
	const n = 10_000
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			src := manyRules(n, shape.line)
			start := time.Now()
			_, err := Compile(src)
			took := time.Since(start)
			t.Logf("%v", took)
			if took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if shape.ties != (err != nil) {
				t.Errorf("ties %v, got error %.300v", shape.ties, err)
			}
			if wrong, ok := err.(*CompileError); ok && (len(wrong.Problems) != maxProblems || wrong.Omitted == 0) {
				t.Errorf("%d problems and %d omitted", len(wrong.Problems), wrong.Omitted)
			}
		})
	}
}

func BenchmarkFindTies(b *testing.B) {
	for _, shape := range shapes {
		b.Run(strings.ReplaceAll(shape.name, " ", "_"), func(b *testing.B) {
			var y yamlReader
			rules := y.readPolicy(manyRules(10_000, shape.line)).rules
			for b.Loop() {
				space, _ := newSpace(rules)
				space.findTies(rules, maxProblems)
			}
		})
	}
}

// Long lists of hosts in many rules do not multiply.
func TestCompileLongHostLists(t *testing.T) {
	var hosts []string
	for i := range 5000 {
		hosts = append(hosts, fmt.Sprintf("h%d.example.com", i))
	}
	src := manyRules(40, func(i int) string {
		return fmt.Sprintf("hosts: [%s], path: '/{rest...}'", strings.Join(hosts[:len(hosts)-i], ", "))
	})
	start := time.Now()
	p, err := Compile(src)
	took := time.Since(start)
	t.Logf("%v", took)
	if err != nil || took > 10*time.Second {
		t.Fatalf("took %v: %v", took, err)
	}
	for i, want := range map[int]string{0: "r39", 4960: "r39", 4961: "r38", 4999: "r0"} {
		if got := p.Match("GET", hosts[i], "/x"); got == nil || got.Name != want {
			t.Errorf("%s: %v, want %s", hosts[i], got, want)
		}
	}
}

// branching is 2^levels rules, {x} or a literal on each level, all of them apart
// by their last segment: a path of the literals alone visits every node.
func branching(levels int) []byte {
	return manyRules(1<<levels, func(i int) string {
		path := ""
		for level := range levels {
			if i>>level&1 == 0 {
				path += "/a"
			} else {
				path += fmt.Sprintf("/{x%d}", level)
			}
		}
		return fmt.Sprintf("path: '%s/end%d'", path, i)
	})
}

// The bound that is checked at compile time is the number of nodes that the
// worst request really visits.
func TestVisitsAreBounded(t *testing.T) {
	p, err := Compile(branching(10))
	if err != nil {
		t.Fatal(err)
	}
	if p.mostVisits < 1<<10 || p.mostVisits > maxVisits {
		t.Errorf("bound is %d", p.mostVisits)
	}
	if got := countVisits(&p.root, strings.Split(strings.Repeat("a/", 10)+"nowhere", "/")); got < 1<<10 || got > p.mostVisits {
		t.Errorf("visits %d nodes, bound is %d", got, p.mostVisits)
	}
	if r := p.Match("GET", "", strings.Repeat("/a", 10)+"/nowhere"); r != nil {
		t.Errorf("matched %s", r.Name)
	}
	for _, i := range []int{0, 1, 511, 1023} {
		if r := p.Match("GET", "", strings.Repeat("/a", 10)+fmt.Sprintf("/end%d", i)); r == nil || r.Index != i {
			t.Errorf("end%d: %v", i, r)
		}
	}
}

// countVisits walks the trie as a search without success does.
func countVisits(n *pathNode, segments []string) int {
	visits := 1
	if len(segments) == 0 {
		return visits
	}
	if next := n.literals[segments[0]]; next != nil {
		visits += countVisits(next, segments[1:])
	}
	if n.param != nil {
		visits += countVisits(n.param, segments[1:])
	}
	return visits
}

// Policies as people write them stay far below the bound.
func TestVisitsOfUsualPolicies(t *testing.T) {
	p, err := Load("testdata/blog.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if p.mostVisits > 10 {
		t.Errorf("the blog's bound is %d", p.mostVisits)
	}
	forms := []string{"/api/r%d", "/api/r%d/{id}", "/{org}/r%d/{id}", "/{org}/r%d/{id}/edit", "/{org}/{repo}/tree/{branch}/r%d/{rest...}"}
	p, err = Compile(manyRules(300, func(i int) string {
		return fmt.Sprintf("path: '"+forms[i%len(forms)]+"'", i)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if p.mostVisits > 50 {
		t.Errorf("the bound of 300 rules is %d", p.mostVisits)
	}
	t.Logf("bound of 300 rules: %d", p.mostVisits)
}

func TestTooManyBranches(t *testing.T) {
	_, err := Compile(branching(12))
	if err == nil || !strings.Contains(err.Error(), "more than 4096") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkMatchWorst is the slowest request for the worst policy allowed.
func BenchmarkMatchWorst(b *testing.B) {
	p, err := Compile(branching(10))
	if err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{
		"short":        strings.Repeat("/a", 10) + "/nowhere",
		"long_segment": strings.Repeat("/a", 10) + "/" + strings.Repeat("x", 60_000),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(p.mostVisits), "nodes")
			for b.Loop() {
				p.Match("GET", "", path)
			}
		})
	}
}
