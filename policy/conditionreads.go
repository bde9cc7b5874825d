package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// conditionReads is what a condition reads, known before any request: only this is
// gathered for an evaluation.
type conditionReads struct {
	params  []string // path parameters
	headers []string // in lower case
	query   []string // parameters by name
	context []string // keys of context_extensions
	claims  []string
	roles   bool

	rawQuery bool // request.query
	id, kind bool // of the principal
}

// The fields of the variables that have a fixed list of them.
var (
	requestFields   = []string{"method", "host", "path", "query", "headers"}
	principalFields = []string{"tenant", "kind", "id", "roles"}
)

// conditionRoots are the names that a loop's variable may not take.
var conditionRoots = []string{"request", "principal", "path", "query", "context", "claims", "now"}

// readsWalk walks an expression before it is checked.
type readsWalk struct {
	tree   *ast.AST
	params []string
	reads  conditionReads
	faults []conditionFault
}

// readsOf finds what an expression reads, or what is wrong with how it reads.
func readsOf(tree *ast.AST, p pattern) (conditionReads, []conditionFault) {
	w := readsWalk{tree: tree}
	for _, seg := range p {
		if seg.kind != segmentLiteral {
			w.params = append(w.params, seg.text)
		}
	}
	w.walk(tree.Expr(), nil)
	for _, list := range []*[]string{&w.reads.params, &w.reads.headers, &w.reads.query, &w.reads.context, &w.reads.claims} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return w.reads, w.faults
}

func (w *readsWalk) fail(at ast.Expr, format string, args ...any) {
	w.faults = append(w.faults, faultAt(w.tree.SourceInfo().GetStartLocation(at.ID()), oneLine(fmt.Sprintf(format, args...))))
}

// walk visits an expression; locals are the variables of the loops around it.
func (w *readsWalk) walk(e ast.Expr, locals []string) {
	switch e.Kind() {
	case ast.IdentKind:
		w.ident(e, locals)
	case ast.SelectKind:
		w.selection(e, locals)
	case ast.CallKind:
		w.call(e, locals)
	case ast.ListKind:
		for _, item := range e.AsList().Elements() {
			w.walk(item, locals)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			w.walk(entry.AsMapEntry().Key(), locals)
			w.walk(entry.AsMapEntry().Value(), locals)
		}
	case ast.ComprehensionKind:
		w.loop(e.AsComprehension(), e, locals)
	case ast.StructKind:
		w.fail(e, "%s{...} makes a message, and a condition has none", shorten(e.AsStruct().TypeName()))
	}
}

func (w *readsWalk) ident(e ast.Expr, locals []string) {
	name := e.AsIdent()
	if slices.Contains(locals, name) {
		return
	}
	switch name {
	case "request":
		w.fail(e, "request is read by field: request.%s", strings.Join(requestFields, ", request."))
	case "principal":
		w.fail(e, "principal is read by field: principal.%s", strings.Join(principalFields, ", principal."))
	case "path", "query", "context", "claims":
		w.fail(e, "%s is read by a name that stands in the condition: %[1]s.name or %[1]s['name']", name)
	default:
		if strings.HasPrefix(name, ".") {
			w.fail(e, "%s: a name does not begin with a dot", shorten(name))
		}
	}
}

// source tells which collection an expression is, "" where it is none that is read
// by name.
func source(e ast.Expr, locals []string) string {
	switch e.Kind() {
	case ast.IdentKind:
		if name := e.AsIdent(); !slices.Contains(locals, name) {
			switch name {
			case "path", "query", "context", "claims":
				return name
			}
		}
	case ast.SelectKind:
		s := e.AsSelect()
		if !s.IsTestOnly() && s.FieldName() == "headers" && isRoot(s.Operand(), "request", locals) {
			return "headers"
		}
	}
	return ""
}

func isRoot(e ast.Expr, name string, locals []string) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == name && !slices.Contains(locals, name)
}

func (w *readsWalk) selection(e ast.Expr, locals []string) {
	s := e.AsSelect()
	name := s.FieldName()
	if from := source(s.Operand(), locals); from != "" {
		w.read(e, from, name)
		return
	}
	for root, known := range map[string][]string{"request": requestFields, "principal": principalFields} {
		if !isRoot(s.Operand(), root, locals) {
			continue
		}
		switch {
		case !slices.Contains(known, name):
			w.fail(e, "%s has no field %s%s", root, shorten(name), orHint(name, known))
		case s.IsTestOnly():
			w.fail(e, "%s.%s is always there; has() asks about path, query, context, claims and request.headers by name", root, name)
		case name == "headers":
			w.fail(e, "request.headers is read by a name that stands in the condition: request.headers['name']")
		case name == "roles":
			w.reads.roles = true
		case name == "id":
			w.reads.id = true
		case name == "kind":
			w.reads.kind = true
		case root == "request" && name == "query":
			w.reads.rawQuery = true
		}
		return
	}
	w.walk(s.Operand(), locals)
}

func orHint(name string, known []string) string {
	if near := nearMiss(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return "; it has " + strings.Join(known, ", ")
}

func (w *readsWalk) call(e ast.Expr, locals []string) {
	c := e.AsCall()
	args := c.Args()
	var from, key ast.Expr
	switch c.FunctionName() {
	case operators.Index:
		from, key = args[0], args[1]
	case operators.In:
		from, key = args[1], args[0]
	}
	if from != nil && source(from, locals) != "" {
		if text, ok := literal(key); ok {
			w.read(e, source(from, locals), text)
			return
		}
	}
	switch name := c.FunctionName(); name {
	case "matches":
		if len(args) == 0 {
			break // the checker says what is missing
		}
		if _, ok := literal(args[len(args)-1]); !ok {
			w.fail(e, "matches: the regular expression must stand in the condition; a request may not bring one")
		}
	case "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds":
		if len(args) > 0 && c.IsMemberFunction() {
			if zone, ok := literal(args[0]); !ok || !zonePattern.MatchString(zone) {
				w.fail(e, "%s: the time zone is 'UTC' or an offset such as '+02:00', and stands in the condition", name)
			}
		}
	}
	if c.IsMemberFunction() {
		w.walk(c.Target(), locals)
	}
	for _, arg := range args {
		w.walk(arg, locals)
	}
}

// zonePattern is a time zone that needs no file of the machine.
var zonePattern = regexp.MustCompile(`^(?:UTC|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])$`)

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

func (w *readsWalk) loop(c ast.ComprehensionExpr, e ast.Expr, locals []string) {
	w.walk(c.IterRange(), locals)
	if slices.Contains(conditionRoots, c.IterVar()) {
		w.fail(e, "a loop's variable may not be named %s", c.IterVar())
		return
	}
	inner := append(slices.Clone(locals), c.IterVar(), c.AccuVar())
	for _, part := range []ast.Expr{c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
		w.walk(part, inner)
	}
}

// read notes one read by name, and refuses a name that is never there or that may
// not be read.
func (w *readsWalk) read(at ast.Expr, from, name string) {
	switch from {
	case "path":
		if !slices.Contains(w.params, name) {
			if len(w.params) == 0 {
				w.fail(at, "path.%s: the rule's path has no parameters", shorten(name))
			} else {
				w.fail(at, "path.%s: the rule's path has no such parameter; it has %s", shorten(name), strings.Join(w.params, ", "))
			}
		}
		w.reads.params = append(w.reads.params, name)
	case "query":
		if name == "" || len(name) > maxNameBytes {
			w.fail(at, "query: a name is 1 to %d bytes", maxNameBytes)
		}
		w.reads.query = append(w.reads.query, name)
	case "context":
		if name == "rule" || name == "permission" {
			w.fail(at, "context.%s is for the gate itself", name)
		}
		w.reads.context = append(w.reads.context, name)
	case "claims":
		w.reads.claims = append(w.reads.claims, name)
	case "headers":
		if wrong := wrongHeader(name); wrong != "" {
			w.fail(at, "%s", wrong)
		}
		w.reads.headers = append(w.reads.headers, name)
	}
}

// wrongHeader says why a condition may not read a header, or "".
func wrongHeader(name string) string {
	lower := strings.ToLower(name)
	switch {
	case lower == "host":
		return "the host is request.host"
	case !isToken(name) || len(name) > maxNameBytes:
		return fmt.Sprintf("%q is no name of a header", shorten(name))
	case lower != name:
		return fmt.Sprintf("%q: write it in lower case, as Envoy does: %q", shorten(name), shorten(lower))
	}
	for _, own := range CredentialHeaders() {
		if IsHeaderTwin([]byte(name), own) {
			return fmt.Sprintf("%q carries a credential, which the gate reads by itself; ask about principal and claims", name)
		}
	}
	for _, own := range ManagedHeaders() {
		if IsHeaderTwin([]byte(name), own) {
			return fmt.Sprintf("%q is what the gate tells the upstream; from a client it proves nothing. Ask about principal", name)
		}
	}
	return ""
}
