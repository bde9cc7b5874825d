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
// server tells them apart, nothing is wrong. Then come the rules with mtls: true
// that no workload can use, the workloads that no rule takes, and conditions that
// ask for an id and not for its kind. They are in the order of the lines.
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
	list = append(list, p.workloadWarnings()...)
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return list[:min(len(list), maxProblems)]
}

// workloadWarnings says where workloads and the rules that take them miss each other.
func (p *Policy) workloadWarnings() []Problem {
	var list []Problem
	has := make(map[string]bool, len(p.workloads)) // tenants that have a workload
	for _, w := range p.workloads {
		has[w.Principal.Tenant] = true
	}
	taken, allTaken := map[string]bool{}, false // tenants for which a rule takes workloads
	for _, r := range p.rules {
		if !r.MTLS {
			continue
		}
		if r.AnyTenant && len(has) == 0 || !r.AnyTenant && !slices.ContainsFunc(r.Tenants, func(tenant string) bool { return has[tenant] }) {
			list = append(list, Problem{Line: r.Line, Rule: r.Name, Message: "mtls: true, but the file has no workload of the rule's tenants"})
		}
		allTaken = allTaken || r.AnyTenant
		for _, tenant := range r.Tenants {
			taken[tenant] = true
		}
	}
	for i, w := range p.workloads {
		if !allTaken && !taken[w.Principal.Tenant] {
			list = append(list, Problem{Line: w.Line, Message: fmt.Sprintf("workload #%d: no rule for tenant %q has mtls: true, so it passes nowhere", i+1, w.Principal.Tenant)})
		}
	}
	return list[:min(len(list), maxProblems)]
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
