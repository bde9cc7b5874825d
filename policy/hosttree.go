package policy

import (
	"fmt"
	"strings"
)

// hostID is a host pattern of one policy; anyHost is the absent one, which
// matches every host, the empty one included.
type hostID int32

const anyHost hostID = 0

// hostTree holds the host patterns of one policy. Two patterns are apart or one
// lies within the other, so they form a tree under inclusion, anyHost at its
// root; the patterns that match one host are the path from the narrowest of
// them up to the root.
type hostTree struct {
	root   hostLabel
	names  []string // pattern of each id; "" for anyHost
	parent []hostID // the next wider pattern of each id
	weight []int    // how many patterns lie within each id, itself included
}

// hostLabel is one label of the hosts, read from the right.
type hostLabel struct {
	next  map[string]*hostLabel
	exact hostID // the host that ends here, or anyHost
	wild  hostID // "*." before what is read so far, or anyHost
}

// parseHost checks a host pattern and returns what is wrong with it, or "".
func parseHost(text string) string {
	if text == "*" || text == "" {
		return fmt.Sprintf("%q is no host; leave hosts out to match every host", text)
	}
	name, wild := strings.CutPrefix(text, "*.")
	if strings.Contains(name, "*") {
		return fmt.Sprintf("%q: a * may only be the whole first label, as in *.example.com", text)
	}
	canonical, ok := CanonHost(nil, []byte(name))
	switch {
	case !ok || len(canonical) == 0:
		return fmt.Sprintf("%q is no host name", text)
	case wild && canonical[0] == '[':
		return fmt.Sprintf("%q: a * cannot stand before an IP address", text)
	case string(canonical) != name:
		prefix := ""
		if wild {
			prefix = "*."
		}
		return fmt.Sprintf("%q: write it as %q; requests are compared in lower case, without port and trailing dot", text, prefix+string(canonical))
	}
	return ""
}

// newHostTree takes the patterns of all rules; duplicates are fine.
func newHostTree(patterns []string) (*hostTree, map[string]hostID) {
	t := &hostTree{names: []string{""}}
	ids := map[string]hostID{}
	for _, text := range patterns {
		if _, ok := ids[text]; ok {
			continue
		}
		id := hostID(len(t.names))
		ids[text] = id
		t.names = append(t.names, text)
		name, wild := strings.CutPrefix(text, "*.")
		at := &t.root
		for rest, more := name, true; more; {
			var label string
			label, rest, more = lastLabel(rest)
			if at.next == nil {
				at.next = map[string]*hostLabel{}
			}
			if at.next[label] == nil {
				at.next[label] = &hostLabel{}
			}
			at = at.next[label]
		}
		if wild {
			at.wild = id
		} else {
			at.exact = id
		}
	}
	t.parent = make([]hostID, len(t.names))
	for id, text := range t.names[1:] {
		name, _ := strings.CutPrefix(text, "*.")
		t.parent[id+1] = t.enclosing(name)
	}
	t.weight = make([]int, len(t.names))
	t.weight[anyHost] = len(t.names)
	for id := range t.names {
		for at := hostID(id); at != anyHost; at = t.parent[at] {
			t.weight[at]++
		}
	}
	return t, ids
}

// lastLabel splits off the last label of a host.
func lastLabel(host string) (label, rest string, more bool) {
	if dot := strings.LastIndexByte(host, '.'); dot >= 0 {
		return host[dot+1:], host[:dot], true
	}
	return host, "", false
}

// find returns the narrowest pattern that matches a canonical host.
func (t *hostTree) find(host string) hostID {
	id, exact := t.walk(host)
	if exact != anyHost {
		return exact
	}
	return id
}

// enclosing returns the narrowest "*." pattern that matches a host, or anyHost.
func (t *hostTree) enclosing(host string) hostID {
	id, _ := t.walk(host)
	return id
}

// walk reads host from the right, only as far as some pattern goes.
func (t *hostTree) walk(host string) (wild, exact hostID) {
	at := &t.root
	for more := true; more && at.next != nil; {
		var label string
		label, host, more = lastLabel(host)
		at = at.next[label]
		if at == nil {
			return wild, anyHost
		}
		if !more {
			return wild, at.exact
		}
		if at.wild != anyHost {
			wild = at.wild
		}
	}
	return wild, anyHost
}

// example returns a host that the pattern matches.
func (t *hostTree) example(id hostID) string {
	if suffix, ok := strings.CutPrefix(t.names[id], "*."); ok {
		return "x." + suffix
	}
	return t.names[id]
}
