package policy

import (
	"crypto/sha256"
	"encoding/hex"
)

// Policy is a compiled policy file: an immutable set of rules, the matcher
// over them, and the outside issuers. It is safe for concurrent use.
type Policy struct {
	rules   []*Rule
	issuers []Issuer
	byName  map[string]*Rule
	digest  string
	workloadTable
	matcher
	shadows   []*Rule
	shadowing matcher // finds among shadows
}

// Compile reads and checks the text of a policy file. The error is a
// *CompileError that lists everything that is wrong with it, a malformed tests
// section included; then there is no policy. Two rules that match one request,
// neither of them inside the other, are such an error.
func Compile(src []byte) (*Policy, error) {
	var y yamlReader
	p, f := y.compile(src)
	if f.tests != nil {
		y.readSuite(f.tests, f.rules)
	}
	if err := y.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Empty returns the policy without rules, which denies every request.
func Empty() *Policy { return newPolicy(nil, nil, nil) }

// Rules returns the rules in the order of the file. The caller must not change
// them.
func (p *Policy) Rules() []*Rule { return p.rules }

// Rule returns the rule of that name, or nil.
func (p *Policy) Rule(name string) *Rule { return p.byName[name] }

// Len returns the number of rules.
func (p *Policy) Len() int { return len(p.rules) }

// Digest names the policy's source: the first 12 hex digits of its SHA-256.
func (p *Policy) Digest() string { return p.digest }

// newPolicy builds the policy of rules that have no ties between them.
func newPolicy(src []byte, rules, shadows []*Rule) *Policy {
	sum := sha256.Sum256(src)
	p := &Policy{
		rules:  rules,
		byName: make(map[string]*Rule, len(rules)),
		digest: hex.EncodeToString(sum[:6]),
	}
	for _, r := range rules {
		p.byName[r.Name] = r
	}
	p.matcher.build(rules)
	if len(shadows) > 0 {
		p.shadows = shadows
		p.shadowing.build(shadows)
	}
	return p
}

// compile reads a policy file and builds the policy, nil after any problem.
func (y *yamlReader) compile(src []byte) (*Policy, file) {
	f := y.readPolicy(src)
	// Shadow rules are matched by themselves, so they tie with one another alone.
	live, shadows := apart(f.matchable)
	for _, rules := range [][]*Rule{live, shadows} {
		space, tooMany := newSpace(rules)
		for _, r := range tooMany {
			y.add(r.Line, r.Name, "methods: the file names more than %d different methods", maxMethods)
		}
		for _, t := range space.findTies(rules, maxProblems) {
			y.add(t.second.Line, t.second.Name, "%s", space.describeTie(t))
		}
	}
	if y.err() != nil {
		return nil, f
	}
	live, shadows = apart(f.rules)
	p := newPolicy(src, live, shadows)
	p.issuers = f.issuers
	p.workloadTable = newWorkloadTable(f.workloads)
	if max(p.mostVisits, p.shadowing.mostVisits) > maxVisits {
		y.add(0, "", "one request path could lead the matcher through %d branches, more than %d: too many rules have {name} beside literal segments on many levels; spell some of the parameters out or move them to the end of the path", max(p.mostVisits, p.shadowing.mostVisits), maxVisits)
		return nil, f
	}
	return p, f
}

// apart divides rules into those that decide and those that do not, and numbers
// each sort from 0.
func apart(rules []*Rule) (live, shadows []*Rule) {
	for _, r := range rules {
		if r.Shadow {
			shadows = append(shadows, r)
		} else {
			live = append(live, r)
		}
	}
	return live, shadows
}

// Shadows returns the shadow rules in the order of the file. They are not among
// Rules, and Rule does not find them: nothing may let one decide.
func (p *Policy) Shadows() []*Rule { return p.shadows }
