package policy_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"portcullis/policy"
)

// largePolicy is n rules as a company of many services has them: some for one
// host, with parameters in the middle, wide rules below narrow ones.
func largePolicy(n int) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\nrules:\n")
	for i := range n {
		service := i / 5
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "  - {name: read-%d, methods: [GET], hosts: [api.example.com], path: \"/svc%d/items/{id}\", require: read}\n", i, service)
		case 1:
			fmt.Fprintf(&b, "  - {name: write-%d, methods: [PUT, DELETE], hosts: [api.example.com], path: \"/svc%d/items/{id}\", require: write}\n", i, service)
		case 2:
			fmt.Fprintf(&b, "  - {name: rest-%d, hosts: [api.example.com], path: \"/svc%d/{rest...}\", allow: authenticated}\n", i, service)
		case 3:
			fmt.Fprintf(&b, "  - {name: host-%d, hosts: [svc%d.example.com], path: \"/{any...}\", allow: authenticated}\n", i, service)
		case 4:
			fmt.Fprintf(&b, "  - {name: nested-%d, hosts: [svc%d.example.com], methods: [GET], path: \"/a/{b}/c/{d}\", allow: authenticated}\n", i, service)
		}
	}
	return b.Bytes()
}

func largeRules(tb testing.TB, n int) *policy.Policy {
	tb.Helper()
	p, err := policy.Compile(largePolicy(n))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func largeRequests(n int) []request {
	var all []request
	for i := range 64 {
		service := i * 7919 % max(n/5, 1)
		all = append(all,
			request{"GET", "api.example.com", fmt.Sprintf("/svc%d/items/4711", service)},
			request{"DELETE", "api.example.com", fmt.Sprintf("/svc%d/items/4711", service)},
			request{"GET", "api.example.com", fmt.Sprintf("/svc%d/a/b/c/d/e", service)},
			request{"GET", fmt.Sprintf("svc%d.example.com", service), "/a/b/c/d"},
			request{"GET", "api.example.com", "/nothing/here"},
		)
	}
	return all
}

// naiveMatch scans every rule and keeps the one that all others that match
// contain. It compares patterns with the reference's own means.
func naiveMatch(rules []*policy.Rule, q request) *policy.Rule {
	var best *policy.Rule
	for _, r := range rules {
		if ruleMatches(r, q) && (best == nil || narrower(r, best)) {
			best = r
		}
	}
	return best
}

// narrower compares two rules that match one request, of which one lies inside
// the other: at the first difference the literal is narrower than {name}, and
// {name} than {name...}.
func narrower(a, b *policy.Rule) bool {
	if x, y := patternWeight(a.Path), patternWeight(b.Path); x != y {
		return x < y
	}
	if x, y := hostWeight(a.Hosts), hostWeight(b.Hosts); x != y {
		return x > y
	}
	return b.Methods == nil
}

// The benchmark and the large test use one host a rule at most, for which the
// longest pattern is the narrowest.
func hostWeight(hosts []string) int {
	if hosts == nil {
		return 0
	}
	return len(hosts[0])
}

// patternWeight orders the patterns that match one path: 0 for a literal, 1 for
// {name}, 2 for {name...}, most significant segment first.
func patternWeight(path string) string {
	var weight []byte
	for _, piece := range bytes.Split([]byte(path), []byte("/"))[1:] {
		switch {
		case bytes.HasSuffix(piece, []byte("...}")):
			weight = append(weight, '2')
		case bytes.HasPrefix(piece, []byte("{")):
			weight = append(weight, '1')
		default:
			weight = append(weight, '0')
		}
	}
	return string(weight)
}

func TestMatchInLargePolicy(t *testing.T) {
	p := largeRules(t, 1000)
	found := 0
	for _, q := range largeRequests(1000) {
		got, want := p.Match(q.method, q.host, q.path), naiveMatch(p.Rules(), q)
		if got != want {
			t.Errorf("%v: rule %d, want %d", q, indexOf(got), indexOf(want))
		}
		if got != nil {
			found++
		}
	}
	if found < 200 {
		t.Errorf("only %d requests found a rule", found)
	}
}

var sizes = []int{10, 1_000, 10_000}

func BenchmarkMatch(b *testing.B) {
	for _, n := range sizes {
		p := largeRules(b, n)
		requests := largeRequests(n)
		b.Run(fmt.Sprintf("trie/rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				q := &requests[i%len(requests)]
				p.Match(q.method, q.host, q.path)
			}
		})
		b.Run(fmt.Sprintf("naive/rules=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				naiveMatch(p.Rules(), requests[i%len(requests)])
			}
		})
		b.Run(fmt.Sprintf("ratio/rules=%d", n), func(b *testing.B) {
			var fast, slow time.Duration
			for i := 0; b.Loop(); i++ {
				q := &requests[i%len(requests)]
				start := time.Now()
				for range 100 {
					p.Match(q.method, q.host, q.path)
				}
				fast += time.Since(start) / 100
				start = time.Now()
				naiveMatch(p.Rules(), *q)
				slow += time.Since(start)
			}
			b.ReportMetric(float64(slow)/float64(fast), "naive/trie")
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range sizes {
		src := largePolicy(n)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := policy.Compile(src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
