package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// tie is two rules that match one request, neither inside the other.
type tie struct{ first, second *Rule }

// findTies returns the ties among rules, at most one more than limit of them.
//
// It enumerates the pairs that overlap in host and path instead of all pairs:
// the rules of each host pattern go into a trie of their paths, and each rule
// asks the tries of its own hosts and of the wider ones for the patterns that
// overlap with its own. Where there are no ties, the rules that contain one rule
// form a chain, so such pairs are few.
func (s *space) findTies(rules []*Rule, limit int) []tie {
	search := tieSearch{space: s, limit: limit, met: make(map[*Rule]*Rule, len(rules)), seen: map[tie]bool{}}
	// Wide patterns first: of two rules of one host pattern the later one searches,
	// and one that begins with literals goes down few branches.
	ordered := slices.Clone(rules)
	slices.SortStableFunc(ordered, func(a, b *Rule) int { return compareWidth(b.pattern, a.pattern) })
	tries := make([]overlapTrie, len(s.hosts.names))
	more := true
	for _, r := range ordered {
		for _, host := range r.hosts {
			more = more && search.compare(r, &tries[host])
			tries[host].add(r.pattern, r)
		}
	}
	for _, r := range ordered {
		for _, host := range r.hosts {
			for id := host; id != anyHost; {
				id = s.hosts.parent[id]
				more = more && search.compare(r, &tries[id])
			}
		}
	}
	slices.SortFunc(search.found, func(a, b tie) int {
		return cmp.Or(cmp.Compare(a.second.Index, b.second.Index), cmp.Compare(a.first.Index, b.first.Index))
	})
	return search.found
}

// compareWidth orders patterns by the kinds of their segments, literals first.
func compareWidth(p, q pattern) int {
	return slices.CompareFunc(p, q, func(a, b segment) int { return cmp.Compare(a.kind, b.kind) })
}

// tieSearch gathers ties.
type tieSearch struct {
	space *space
	limit int
	found []tie
	// met holds, for each rule, which one it was last compared with: two rules with
	// many hosts in common meet once for each.
	met  map[*Rule]*Rule
	seen map[tie]bool
}

// compare adds the ties of r with the rules of a trie, and returns false once
// there are more than the limit.
func (t *tieSearch) compare(r *Rule, trie *overlapTrie) bool {
	return trie.root.overlapping(r.pattern, func(other *Rule) bool {
		if r == other || r.methods&other.methods == 0 || t.met[other] == r {
			return true
		}
		t.met[other] = r
		pair := tie{first: r, second: other}
		if other.Index < r.Index {
			pair = tie{first: other, second: r}
		}
		if t.space.tie(r, other) && !t.seen[pair] {
			t.seen[pair] = true
			t.found = append(t.found, pair)
		}
		return len(t.found) <= t.limit
	})
}

// describeTie words a tie for the rule that comes second.
func (s *space) describeTie(t tie) string {
	a, b := t.first, t.second
	host, _ := s.commonHost(a, b)
	request := s.methods.example(a.methods&b.methods) + " " + s.hosts.example(host) + a.pattern.example(b.pattern)
	if s.within(a, b) {
		return fmt.Sprintf("ties with rule %q (line %d): both match exactly the same requests, such as %s; tenants and requirements do not choose between rules, so make them one, or narrow one of them by hosts, methods or path", a.Name, a.Line, request)
	}
	return fmt.Sprintf("ties with rule %q (line %d): both match %s, and neither lies inside the other; narrow one of them by hosts, methods or path until it does, or until they are apart", a.Name, a.Line, request)
}

// overlapTrie holds the rules of one host pattern by their paths.
type overlapTrie struct{ root overlapNode }

type overlapNode struct {
	literals map[string]*overlapNode
	texts    []string // keys of literals, in order of arrival, so that runs are alike
	children []*overlapNode
	param    *overlapNode
	ends     []*Rule // patterns that end here
	rests    []*Rule // patterns whose {name...} begins here
}

func (t *overlapTrie) add(p pattern, r *Rule) {
	at := &t.root
	for _, seg := range p {
		switch seg.kind {
		case segmentRest:
			at.rests = append(at.rests, r)
			return
		case segmentParam:
			if at.param == nil {
				at.param = &overlapNode{}
			}
			at = at.param
		default:
			if at.literals == nil {
				at.literals = map[string]*overlapNode{}
			}
			next := at.literals[seg.text]
			if next == nil {
				next = &overlapNode{}
				at.literals[seg.text] = next
				at.texts = append(at.texts, seg.text)
				at.children = append(at.children, next)
			}
			at = next
		}
	}
	at.ends = append(at.ends, r)
}

// overlapping calls visit with every rule below n whose pattern overlaps with
// p, until visit returns false; then it returns false as well.
func (n *overlapNode) overlapping(p pattern, visit func(*Rule) bool) bool {
	if len(p) == 0 {
		return all(n.ends, visit)
	}
	if !p.bare() && !all(n.rests, visit) {
		return false
	}
	seg, rest := p[0], p[1:]
	switch {
	case seg.kind == segmentRest:
		return n.everything(false, visit)
	case seg.kind == segmentLiteral:
		if next := n.literals[seg.text]; next != nil && !next.overlapping(rest, visit) {
			return false
		}
	default:
		for i, next := range n.children {
			if n.texts[i] != "" && !next.overlapping(rest, visit) {
				return false
			}
		}
	}
	if n.param != nil && (seg.kind != segmentLiteral || seg.text != "") {
		return n.param.overlapping(rest, visit)
	}
	return true
}

// everything visits the rules below n that a {name...} beginning at n overlaps:
// all but a path that ends with n's slash. The rests of the node where it begins
// have been visited by overlapping.
func (n *overlapNode) everything(inner bool, visit func(*Rule) bool) bool {
	if inner && !(all(n.ends, visit) && all(n.rests, visit)) {
		return false
	}
	for i, next := range n.children {
		if n.texts[i] == "" && !inner {
			// Its own ends are the path that ends here; below it the path goes on.
			if !next.below(visit) {
				return false
			}
			continue
		}
		if !next.everything(true, visit) {
			return false
		}
	}
	return n.param == nil || n.param.everything(true, visit)
}

// below visits every rule beneath n but those that end at it.
func (n *overlapNode) below(visit func(*Rule) bool) bool {
	if !all(n.rests, visit) {
		return false
	}
	for _, next := range n.children {
		if !next.everything(true, visit) {
			return false
		}
	}
	return n.param == nil || n.param.everything(true, visit)
}

func all(rules []*Rule, visit func(*Rule) bool) bool {
	for _, r := range rules {
		if !visit(r) {
			return false
		}
	}
	return true
}
