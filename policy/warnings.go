package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Warnings lists what a policy allows that its author may not have meant: for
// each rule that asks for something, the requests a hair away from it (a slash
// at the end more or less, HEAD for GET) that find a rule which asks for less.
// Many servers answer both in the same way. A warning is no error: where the
// server tells them apart, nothing is wrong. And a condition that asks for an id
// and not for its kind. They are in the order of the lines.
func (p *Policy) Warnings() []Problem {
	var list []Problem
	for _, r := range p.rules {
		if r.Access == AccessAnonymous {
			continue
		}
		host := p.hosts.example(r.hosts[0])
		method := p.methods.example(r.methods)
		near := func(method, path, how string) {
			other := p.Match(method, host, path)
			if other == nil || other == r || rank(other) >= rank(r) || len(list) == maxProblems {
				return
			}
			list = append(list, Problem{Line: r.Line, Rule: r.Name, Message: fmt.Sprintf(
				"%s %s%s, %s, finds rule %q (line %d), which asks for less (%s); if your server answers both alike, write a rule for it",
				method, host, path, how, other.Name, other.Line, asksFor(other))})
		}
		path := r.pattern.example(nil)
		switch last := r.pattern[len(r.pattern)-1]; {
		case last.kind == segmentRest:
			base := strings.TrimSuffix(path, "/x")
			near(method, base+"/", "without anything after the slash")
			if base != "" {
				near(method, base, "without the slash")
			}
		case last.kind == segmentLiteral && last.text == "":
			if base := strings.TrimSuffix(path, "/"); base != "" {
				near(method, base, "without the slash at the end")
			}
		default:
			near(method, path+"/", "with a slash at the end")
		}
		if slices.Contains(r.Methods, "GET") && !slices.Contains(r.Methods, "HEAD") {
			near("HEAD", path, "HEAD instead of GET")
		}
	}
	for _, r := range slices.Concat(p.rules, p.shadows) {
		if r.when != nil && r.when.reads.id && !r.when.reads.kind && len(list) < maxProblems {
			list = append(list, Problem{Line: r.Line, Rule: r.Name, Message: "when: asks about principal.id and not about principal.kind; a client key may be named like a user: principal.kind == 'user' && ..."})
		}
	}
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return list
}

// rank orders rules by how much they ask for.
func rank(r *Rule) int {
	switch r.Access {
	case AccessAnonymous:
		return 0
	case AccessAuthenticated:
		return 1
	}
	return 2
}

func asksFor(r *Rule) string {
	if r.Access == AccessAnonymous {
		return "nothing"
	}
	return "any caller of its tenants"
}
