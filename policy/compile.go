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
	matcher
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
func Empty() *Policy { return newPolicy(nil, nil) }

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
func newPolicy(src []byte, rules []*Rule) *Policy {
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
	return p
}

// compile reads a policy file and builds the policy, nil after any problem.
func (y *yamlReader) compile(src []byte) (*Policy, file) {
	f := y.readPolicy(src)
	space, tooMany := newSpace(f.matchable)
	for _, r := range tooMany {
		y.add(r.Line, r.Name, "methods: the file names more than %d different methods", maxMethods)
	}
	for _, t := range space.findTies(f.matchable, maxProblems) {
		y.add(t.second.Line, t.second.Name, "%s", space.describeTie(t))
	}
	if y.err() != nil {
		return nil, f
	}
	p := newPolicy(src, f.rules)
	p.issuers = f.issuers
	if p.mostVisits > maxVisits {
		y.add(0, "", "one request path could lead the matcher through %d branches, more than %d: too many rules have {name} beside literal segments on many levels; spell some of the parameters out or move them to the end of the path", p.mostVisits, maxVisits)
		return nil, f
	}
	return p, f
}
