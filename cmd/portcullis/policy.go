package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"portcullis/policy"
)

func newPolicyCommand(p *process) *cobra.Command {
	return newGroupCommand("policy", "Policy files: check, test and compare them",
		"A policy file says which requests the gate lets through, and what it asks of the\ncaller. These commands read one without a gate. docs/policy.md is the\nreference of the format.",
		newPolicyCheckCommand(p), newPolicyTestCommand(p), newPolicyDiffCommand(p))
}

const policyCheckLong = `Compiles a policy file as the gate would, and names everything that is wrong with
it by line and rule: a gate that has it in AUTH_POLICY_FILE would not start, or
would keep its last good version.

A good file gets one line, and a warning on standard error for each rule that is
easily walked around: /admin is not /admin/, GET is not HEAD, and where a wider
rule that asks for less takes the other one, you may not have meant it. A
condition that compares the caller's id and does not ask for its kind is told too.

Exit codes: 0 the file is good, 1 it is not, 2 it cannot be read.`

// policyProblem is one problem or warning in JSON.
type policyProblem struct {
	Line    int    `json:"line"`             // 0 where the whole file is meant
	Column  int    `json:"column,omitempty"` // of what is wrong inside a condition
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// policyReport is what `policy check` found.
type policyReport struct {
	File     string          `json:"file"`
	OK       bool            `json:"ok"`
	Rules    int             `json:"rules"`
	Shadows  int             `json:"shadow_rules,omitempty"`
	Digest   string          `json:"digest"`
	Problems []policyProblem `json:"problems"`
	Warnings []policyProblem `json:"warnings"`
}

func newPolicyCheckCommand(p *process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "check FILE",
		Short:   "Compile a policy file and name all that is wrong",
		Long:    policyCheckLong,
		Example: "  portcullis policy check policy.yaml\n  portcullis policy check policy.yaml --json",
		Args:    oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			rules, err := policy.Load(args[0])
			wrong, err := compileError(err)
			if err != nil {
				return err
			}
			if asJSON {
				return answerJSON(p.stdout, newPolicyReport(args[0], rules, wrong), wrong == nil)
			}
			if wrong != nil {
				return answer(p.stdout, wrong.Error()+"\n", false)
			}
			for _, warning := range rules.Warnings() {
				fmt.Fprintf(p.stderr, "%s: warning: %s\n", args[0], warning)
			}
			what := count(rules.Len(), "rule")
			if n := len(rules.Shadows()); n > 0 {
				what += ", " + count(n, "shadow rule")
			}
			return answer(p.stdout, fmt.Sprintf("%s: good: %s, digest %s\n", args[0], what, rules.Digest()), true)
		},
	}
	addJSONFlag(c, &asJSON)
	return c
}

func newPolicyReport(file string, rules *policy.Policy, wrong *policy.CompileError) policyReport {
	r := policyReport{File: file, OK: wrong == nil, Problems: []policyProblem{}, Warnings: []policyProblem{}}
	if wrong != nil {
		r.Problems = policyProblems(wrong.Problems)
		return r
	}
	r.Rules, r.Shadows, r.Digest, r.Warnings = rules.Len(), len(rules.Shadows()), rules.Digest(), policyProblems(rules.Warnings())
	return r
}

func policyProblems(list []policy.Problem) []policyProblem {
	out := make([]policyProblem, 0, len(list))
	for _, problem := range list {
		out = append(out, policyProblem{problem.Line, problem.Column, problem.Rule, problem.Message})
	}
	return out
}

const policyTestLong = `Runs the cases of a policy file's tests section, or those of another file with
--cases: each is a request, a caller with roles, and the verdict that must come
out. Nothing else is asked, no gate and no store.

Exit codes: 0 every case passed, 1 some failed, 2 the policy or the cases are
wrong or cannot be read, or there are none.`

// policyTestReport is what `policy test` found.
type policyTestReport struct {
	File    string           `json:"file"`
	Passed  int              `json:"passed"`
	Failed  int              `json:"failed"`
	Results []policyTestJSON `json:"results"`
}

type policyTestJSON struct {
	Name   string `json:"name"`
	Line   int    `json:"line"`
	Passed bool   `json:"passed"`
	Effect string `json:"effect"`
	Reason string `json:"reason"`
	Rule   string `json:"rule"`
	Wrong  string `json:"wrong"` // empty where it passed
}

func newPolicyTestCommand(p *process) *cobra.Command {
	var asJSON bool
	var cases string
	c := &cobra.Command{
		Use:     "test FILE",
		Short:   "Run the test cases of a policy file",
		Long:    policyTestLong,
		Example: "  portcullis policy test policy.yaml\n  portcullis policy test policy.yaml --cases cases.yaml --json",
		Args:    oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			results, err := policy.LoadAndTest(args[0], cases)
			if err != nil {
				return usagef("%w", err)
			}
			r := newPolicyTestReport(args[0], results)
			if asJSON {
				return answerJSON(p.stdout, r, r.Failed == 0)
			}
			return answer(p.stdout, r.text(), r.Failed == 0)
		},
	}
	c.Flags().StringVar(&cases, "cases", "", "take the cases from this `file`, not from the policy's own tests section")
	addJSONFlag(c, &asJSON)
	return c
}

func newPolicyTestReport(file string, results []policy.TestResult) policyTestReport {
	r := policyTestReport{File: file, Results: make([]policyTestJSON, 0, len(results))}
	for _, result := range results {
		if result.Passed() {
			r.Passed++
		} else {
			r.Failed++
		}
		r.Results = append(r.Results, policyTestJSON{
			Name: result.Name, Line: result.Line, Passed: result.Passed(),
			Effect: result.Effect.String(), Reason: result.Reason.String(), Rule: result.Rule, Wrong: result.Wrong,
		})
	}
	return r
}

// text is one line a case and one that counts them.
func (r policyTestReport) text() string {
	var out []byte
	for _, c := range r.Results {
		if c.Passed {
			out = fmt.Appendf(out, "ok    %s\n", visible(c.Name))
		} else {
			out = fmt.Appendf(out, "FAIL  %s (line %d): %s\n", visible(c.Name), c.Line, c.Wrong)
		}
	}
	return string(fmt.Appendf(out, "%s, %d passed, %d failed\n", count(len(r.Results), "case"), r.Passed, r.Failed))
}

// oneFile takes exactly one argument.
func oneFile(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef("FILE is missing: name the policy file (see `%s --help`)", cmd.CommandPath())
	case len(args) > 1:
		return usagef("%q is one argument too many: %s takes one file", args[1], cmd.CommandPath())
	}
	return nil
}

// compileError splits what is wrong with a policy from every other error.
func compileError(err error) (*policy.CompileError, error) {
	var wrong *policy.CompileError
	if errors.As(err, &wrong) {
		return wrong, nil
	}
	return nil, err
}

// answer writes an answer; no ends the command with exit code 1.
func answer(w io.Writer, text string, yes bool) error {
	if _, err := io.WriteString(w, text); err != nil {
		return unavailablef("write the answer: %w", err)
	}
	if !yes {
		return answerNo()
	}
	return nil
}

// answerJSON is answer for one line of JSON.
func answerJSON(w io.Writer, v any, yes bool) error {
	if err := printJSON(w, v); err != nil {
		return err
	}
	if !yes {
		return answerNo()
	}
	return nil
}
