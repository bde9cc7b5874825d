package policy

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// matcher finds the rule of a request. It is a trie over the segments of the
// path patterns, parameters without their names; at the end of each pattern
// stand the rules that have it, by host pattern and method. A search goes to the
// literal child first, then to the {name} child, then to the {name...} rules,
// and turns back from a branch without a match.
//
// The first rule that this order meets is the most specific one that matches.
// docs/design/rule-matching.md has the proof; in short: any two rules that match
// one request overlap, and there are no ties, so one lies strictly inside the
// other, and all that match form a chain. Let M be its least and R another. M's
// pattern lies within R's, so where they part, M has the literal or the {name}
// and R the {name} or the {name...}, and the search tries M's side first. Where
// they do not part, both stand at one leaf; there the narrower host comes first,
// and for one host and method the least rule has been chosen in advance.
type matcher struct {
	space
	root       pathNode
	longest    int // bytes of the longest literal segment
	deepest    int // segments of the longest pattern
	mostVisits int // bound of the nodes that one search visits
}

// maxVisits bounds the trie nodes that any one request makes a search visit.
// Only rules with many {name} and literal siblings on many levels come near it;
// Compile refuses those that would pass it, so that no caller can choose a path
// that is slow to match.
const maxVisits = 4096

type pathNode struct {
	literals map[string]*pathNode
	param    *pathNode
	end      *leaf // of the patterns that end here
	rest     *leaf // of the patterns whose {name...} begins here
}

// leaf holds the rules of one path pattern.
type leaf struct {
	any   []choice
	hosts []hostChoices // in order of id
}

type hostChoices struct {
	host    hostID
	choices []choice
}

// choice is a rule and the methods for which it is the most specific one of its
// leaf and host pattern. The methods of a leaf's choices for one host are apart.
type choice struct {
	methods methodSet
	rule    *Rule
}

// query is one search.
type query struct {
	m      *matcher
	host   hostID
	method methodSet
	path   string
	// ends holds where each of the first segments ends, count of them: one more
	// than the deepest pattern has, at most. The path is cut once, so that turning
	// back never scans a long segment again.
	ends  [maxPatternSegments + 1]int32
	count int
}

// Match returns the most specific rule for a request, or nil when none matches.
// Host and path are canonical (CanonHost, CanonPath); the caller refuses a path
// with flags that the rule does not accept (Rule.Accepts). It allocates nothing,
// and its time does not grow with the number of rules.
func (p *Policy) Match(method, host, path string) *Rule {
	return p.matcher.match(method, host, path)
}

// MatchShadow is Match among the shadow rules. It is quick where there are none.
func (p *Policy) MatchShadow(method, host, path string) *Rule {
	if len(p.shadows) == 0 {
		return nil
	}
	return p.shadowing.match(method, host, path)
}

func (m *matcher) match(method, host, path string) *Rule {
	if len(path) == 0 || len(path) > math.MaxInt32 || path[0] != '/' || method == "" {
		return nil
	}
	q := query{m: m, method: m.methods.find(method), path: path}
	if q.method == methodOther && strings.EqualFold(method, "CONNECT") {
		q.method = methodConnect
	}
	if len(m.hosts.names) > 1 {
		q.host = m.hosts.find(host)
	}
	q.cut(m.deepest + 1)
	return q.search(&m.root, 0, 1)
}

// cut finds the ends of the first segments, most of them at the most.
func (q *query) cut(most int) {
	at := 1
	for q.count < most {
		slash := strings.IndexByte(q.path[at:], '/')
		if slash < 0 {
			q.ends[q.count] = int32(len(q.path))
			q.count++
			return
		}
		at += slash
		q.ends[q.count] = int32(at)
		q.count++
		at++
	}
}

// search finds the rule for the path from segment number level on, which begins
// at byte start, in the branch of n.
func (q *query) search(n *pathNode, level, start int) *Rule {
	end := int(q.ends[level])
	segment := q.path[start:end]
	if n.literals != nil && len(segment) <= q.m.longest {
		if next := n.literals[segment]; next != nil {
			if rule := q.enter(next, level, end); rule != nil {
				return rule
			}
		}
	}
	if n.param != nil && segment != "" {
		if rule := q.enter(n.param, level, end); rule != nil {
			return rule
		}
	}
	if n.rest != nil && start < len(q.path) {
		return q.choose(n.rest)
	}
	return nil
}

// enter goes on in the child that took a segment which ends at byte end.
func (q *query) enter(next *pathNode, level, end int) *Rule {
	switch {
	case end == len(q.path):
		if next.end != nil {
			return q.choose(next.end)
		}
	case level+1 < q.count:
		return q.search(next, level+1, end+1)
	}
	return nil
}

// choose finds the rule of a leaf, the narrowest host first.
func (q *query) choose(l *leaf) *Rule {
	if len(l.hosts) > 0 {
		for id := q.host; id != anyHost; id = q.m.hosts.parent[id] {
			at, ok := slices.BinarySearchFunc(l.hosts, id, compareHost)
			if !ok {
				continue
			}
			if rule := chosen(l.hosts[at].choices, q.method); rule != nil {
				return rule
			}
		}
	}
	return chosen(l.any, q.method)
}

func compareHost(c hostChoices, id hostID) int { return int(c.host) - int(id) }

func chosen(choices []choice, method methodSet) *Rule {
	for i := range choices {
		if choices[i].methods&method != 0 {
			return choices[i].rule
		}
	}
	return nil
}

// build fills the matcher. The rules have no ties.
func (m *matcher) build(rules []*Rule) {
	m.space, _ = newSpace(rules)
	// The order in which one leaf and host needs its rules: narrow before wide. Of
	// two rules there, the inner one has fewer methods, or the same and less weight
	// of hosts.
	ordered := slices.Clone(rules)
	slices.SortStableFunc(ordered, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.methods.count(), b.methods.count()), cmp.Compare(a.hostWeight, b.hostWeight))
	})
	for _, r := range ordered {
		l := m.leaf(r.pattern)
		for _, host := range r.hosts {
			if host == anyHost {
				l.any = place(l.any, r)
				continue
			}
			at, ok := slices.BinarySearchFunc(l.hosts, host, compareHost)
			if !ok {
				l.hosts = slices.Insert(l.hosts, at, hostChoices{host: host})
			}
			l.hosts[at].choices = place(l.hosts[at].choices, r)
		}
	}
	m.mostVisits = m.root.visits()
}

// leaf returns the leaf of a pattern, made where needed.
func (m *matcher) leaf(p pattern) *leaf {
	m.deepest = max(m.deepest, len(p))
	at := &m.root
	for _, seg := range p {
		switch seg.kind {
		case segmentRest:
			if at.rest == nil {
				at.rest = &leaf{}
			}
			return at.rest
		case segmentParam:
			if at.param == nil {
				at.param = &pathNode{}
			}
			at = at.param
		default:
			if at.literals == nil {
				at.literals = map[string]*pathNode{}
			}
			if at.literals[seg.text] == nil {
				at.literals[seg.text] = &pathNode{}
			}
			at = at.literals[seg.text]
			m.longest = max(m.longest, len(seg.text))
		}
	}
	if at.end == nil {
		at.end = &leaf{}
	}
	return at.end
}

// place adds r to the choices of one leaf and host pattern, for the methods that
// no rule before it has taken.
func place(choices []choice, r *Rule) []choice {
	left := r.methods
	for _, c := range choices {
		left &^= c.methods
	}
	if left == 0 {
		return choices
	}
	return append(choices, choice{methods: left, rule: r})
}

// visits bounds the nodes that a search from n visits: n itself, one literal
// child at most, and the {name} child.
func (n *pathNode) visits() int {
	most := 0
	for _, next := range n.literals {
		most = max(most, next.visits())
	}
	most++
	if n.param != nil {
		most += n.param.visits()
	}
	return most
}
