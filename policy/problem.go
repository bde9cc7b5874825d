package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems bounds what one compilation reports, so that a file of junk
// cannot answer with a larger one.
const maxProblems = 500

// Problem is one thing that is wrong with a policy file.
type Problem struct {
	Line    int    // from 1; 0 where the file as a whole is meant
	Column  int    // from 1, in characters, for what is wrong inside a condition; else 0
	Rule    string // the rule's name, or "#3" for the third one when it has no good name; "" outside the rules
	Message string // what is wrong and how to mend it
}

// String writes the problem as `line 12: rule "read-post": ...`.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Line > 0 && p.Column > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", p.Line, p.Column)
	case p.Line > 0:
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	switch {
	case strings.HasPrefix(p.Rule, "#"):
		fmt.Fprintf(&b, "rule %s: ", p.Rule)
	case p.Rule != "":
		fmt.Fprintf(&b, "rule %q: ", p.Rule)
	}
	b.WriteString(p.Message)
	return b.String()
}

// CompileError is everything that is wrong with a policy file, in the order of
// its lines. It is the error of Compile, Load and RunTests for a bad file.
type CompileError struct {
	File     string // "" when the source did not come from a file
	Problems []Problem
	Omitted  int // problems found past the first 500, which are not kept; the search may have ended there
}

// Error lists the problems, one a line, each with the file's name before it
// where that is known.
func (e *CompileError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if e.File != "" {
			b.WriteString(e.File + ": ")
		}
		b.WriteString(p.String())
	}
	if e.Omitted > 0 {
		fmt.Fprintf(&b, "\nand at least %d more", e.Omitted)
	}
	return b.String()
}

// problems gathers what is wrong while a file is read.
type problems struct {
	list    []Problem
	omitted int
}

func (ps *problems) add(line int, rule, format string, args ...any) {
	ps.addAt(line, 0, rule, format, args...)
}

func (ps *problems) addAt(line, column int, rule, format string, args ...any) {
	if len(ps.list) == maxProblems {
		ps.omitted++
		return
	}
	ps.list = append(ps.list, Problem{Line: line, Column: column, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// err returns what was gathered as one error, or nil.
func (ps *problems) err() error {
	if len(ps.list) == 0 {
		return nil
	}
	slices.SortStableFunc(ps.list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &CompileError{Problems: ps.list, Omitted: ps.omitted}
}
