package policy

import "slices"

// space is what the rules of one policy are compared in: the host patterns and
// the methods that they name between them.
type space struct {
	hosts   *hostTree
	methods methodTable
}

// newSpace gathers the hosts and methods of rules and gives each rule its ids
// and bits. It returns the rules for whose methods there were no bits left.
func newSpace(rules []*Rule) (s space, tooMany []*Rule) {
	var patterns []string
	for _, r := range rules {
		patterns = append(patterns, r.Hosts...)
	}
	hosts, ids := newHostTree(patterns)
	s = space{hosts: hosts, methods: newMethodTable()}
	for _, r := range rules {
		r.hosts = []hostID{anyHost}
		if len(r.Hosts) > 0 {
			r.hosts = make([]hostID, len(r.Hosts))
			for i, host := range r.Hosts {
				r.hosts[i] = ids[host]
			}
			slices.Sort(r.hosts)
		}
		r.hostWeight = 0
		for _, id := range r.hosts {
			r.hostWeight += hosts.weight[id]
		}
		r.methods = 0
		if len(r.Methods) == 0 {
			r.methods = methodsAll
		}
		for _, method := range r.Methods {
			bit, ok := s.methods.add(method)
			if !ok {
				tooMany = append(tooMany, r)
				break
			}
			r.methods |= bit
		}
	}
	return s, tooMany
}

// within reports whether b matches every request that a matches.
func (s *space) within(a, b *Rule) bool {
	return a.methods&^b.methods == 0 && s.hostsWithin(a, b) && a.pattern.within(b.pattern)
}

// hostsWithin reports whether each host pattern of a lies within one of b. That
// is inclusion of the sets as well: no finite number of narrower patterns adds
// up to a wider one, which matches hosts that none of them names.
func (s *space) hostsWithin(a, b *Rule) bool {
	if a.hostWeight > b.hostWeight {
		return false
	}
	for _, inner := range a.hosts {
		if _, ok := s.covering(inner, b); !ok {
			return false
		}
	}
	return true
}

// covering returns the host pattern of r that the given one lies within, if any.
// There is one at most, since none of a rule's patterns lies within another.
func (s *space) covering(inner hostID, r *Rule) (hostID, bool) {
	for id := inner; ; id = s.hosts.parent[id] {
		if _, ok := slices.BinarySearch(r.hosts, id); ok {
			return id, true
		}
		if id == anyHost {
			return anyHost, false
		}
	}
}

// commonHost returns the narrower of two overlapping host patterns of a and b.
func (s *space) commonHost(a, b *Rule) (hostID, bool) {
	for _, id := range a.hosts {
		if _, ok := s.covering(id, b); ok {
			return id, true
		}
	}
	for _, id := range b.hosts {
		if _, ok := s.covering(id, a); ok {
			return id, true
		}
	}
	return anyHost, false
}

// tie reports whether overlapping rules are a tie: neither lies strictly inside
// the other.
func (s *space) tie(a, b *Rule) bool { return s.within(a, b) == s.within(b, a) }
