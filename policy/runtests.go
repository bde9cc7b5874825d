package policy

import (
	"fmt"
	"strings"
	"time"
)

// TestResult is what became of one case of a tests section.
type TestResult struct {
	Name   string // the case's
	Line   int    // where the case begins in its file, from 1
	Effect Effect // what the policy decided
	Reason Reason
	Rule   string // the rule that matched, "" for none
	Wrong  string // why the case failed; "" when it passed
}

// Passed reports whether the policy decided as the case expects.
func (r TestResult) Passed() bool { return r.Wrong == "" }

// casesFile stands for the cases file in an error of RunTests, which does not
// know its name.
const casesFile = "cases"

// RunTests compiles the policy src and runs the cases of its tests section, or
// those of a cases file where cases is not nil: a file whose only key is tests.
// The error is a *CompileError when either file is bad, with File "cases" when
// it is the cases file; there is no result then. Without any case it is an
// error too, since a run that tests nothing proves nothing.
func RunTests(src, cases []byte) ([]TestResult, error) {
	var y yamlReader
	p, f := y.compile(src)
	var own *suite
	if f.tests != nil {
		own = y.readSuite(f.tests, f.rules)
	}
	if err := y.err(); err != nil {
		return nil, err
	}
	if cases != nil {
		var err error
		if own, err = readCases(cases, f.rules); err != nil {
			return nil, err
		}
	}
	if own == nil || len(own.cases) == 0 {
		none := &CompileError{Problems: []Problem{{Message: "no test cases; they go under tests: cases:"}}}
		if cases != nil {
			none.File = casesFile
		}
		return nil, none
	}
	results := make([]TestResult, 0, len(own.cases))
	for i := range own.cases {
		results = append(results, p.run(own.roles, &own.cases[i]))
	}
	return results, nil
}

// readCases reads a cases file for a policy of these rules.
func readCases(src []byte, rules []*Rule) (*suite, error) {
	var y yamlReader
	var s *suite
	if top := y.document(src); top != nil {
		if f, ok := y.mapping(top, "cases file", "tests"); ok {
			if f["tests"] == nil {
				y.fail(top, "cases file: tests is missing")
			} else {
				s = y.readSuite(f["tests"], rules)
			}
		}
	}
	err := y.err()
	if wrong, ok := err.(*CompileError); ok {
		wrong.File = casesFile
	}
	return s, err
}

// run decides one case as the gate decides a request whose credentials have
// been verified, and compares.
func (p *Policy) run(roles *RoleTable, c *testCase) TestResult {
	result := TestResult{Name: c.name, Line: c.line}
	c.caller.principal = p.principalOf(&c.caller)
	rule, reason := p.decideRequest(roles, c)
	result.Reason, result.Effect = reason, reason.Effect()
	if rule != nil {
		result.Rule = rule.Name
	}
	switch {
	case result.Effect != c.effect:
		result.Wrong = fmt.Sprintf("expected %s, got %s (%s)", c.effect, result.Effect, reason)
	case c.reason != ReasonInternal && reason != c.reason:
		result.Wrong = fmt.Sprintf("expected reason %s, got %s", c.reason, reason)
	case c.rule != "" && result.Rule != c.rule:
		result.Wrong = fmt.Sprintf("expected rule %s, got %s", c.rule, orNone(result.Rule))
	}
	if result.Wrong != "" && result.Rule != "" && c.rule == "" {
		result.Wrong += fmt.Sprintf("; the rule was %s", result.Rule)
	}
	return result
}

// principalOf is who a case's caller is: by certificate, whom the policy says, or
// nobody.
func (p *Policy) principalOf(c *testCaller) Principal {
	if c.spiffe == "" {
		return c.principal
	}
	if w := p.Workload(c.spiffe); w != nil {
		return w.Principal
	}
	return Principal{}
}

func orNone(rule string) string {
	if rule == "" {
		return "none"
	}
	return rule
}

// decideRequest is one check without credentials, caches and a store.
func (p *Policy) decideRequest(roles *RoleTable, c *testCase) (*Rule, Reason) {
	path, flags := CanonPath(nil, []byte(c.request.path))
	host, ok := CanonHost(nil, []byte(c.request.host))
	switch {
	case !ok, c.request.method != strings.ToUpper(c.request.method):
		return nil, ReasonAmbiguousRequest
	case c.request.method == "CONNECT" && c.request.path == "":
		return nil, ReasonNoRule
	case flags&FlagUnsafe != 0:
		return nil, ReasonAmbiguousRequest
	}
	rule := p.Match(c.request.method, string(host), string(path))
	if rule == nil {
		return nil, ReasonNoRule
	}
	if !rule.Accepts(flags) {
		return rule, ReasonAmbiguousRequest
	}
	now := c.request.now
	if now == 0 {
		now = time.Now().UnixNano()
	}
	_, query, _ := strings.Cut(c.request.path, "?")
	return rule, Decide(&Input{
		Now:            now,
		Request:        &Request{Method: c.request.method, Host: string(host), Path: string(path), Query: query, Facts: caseFacts{c}},
		Demand:         Demand{Path: rule},
		Principal:      c.caller.principal,
		TenantAdmitted: c.caller.admitted,
		Roles:          roles,
		Grant:          c.caller.grant,
	})
}
