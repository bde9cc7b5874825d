package policy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
)

// Bounds of a condition. The cost is CEL's: about one for each operation, and one
// for each ten bytes of text that an operation goes through.
const (
	maxConditionBytes = 4096
	maxConditionCost  = 50_000
	maxConditionNodes = 400
	maxConditionDepth = 32
	maxRegexProgram   = 2000

	maxFactBytes = 8 << 10 // of one text that a condition reads
	maxFactItems = 4096    // of one list: a token has no room for more
)

// condition is the compiled `when` of a rule. It is immutable and safe for
// concurrent use.
type condition struct {
	text    string
	program cel.Program
	reads   conditionReads
}

// conditionCompiler compiles the conditions of one policy file. The environment is
// made with the first of them: a file without conditions pays nothing for it.
type conditionCompiler struct{ env *cel.Env }

// conditionFault is what is wrong with a condition, and where in its text.
type conditionFault struct {
	line, column int // of the text, from 1 and from 0, in characters
	message      string
}

func (cc *conditionCompiler) environment() (*cel.Env, error) {
	if cc.env != nil {
		return cc.env, nil
	}
	texts := cel.MapType(cel.StringType, cel.StringType)
	options := []cel.EnvOption{
		cel.StdLib(),
		// Of the macros only those whose loops end at the first list's end and build no
		// list of their own.
		cel.ClearMacros(),
		cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxConditionBytes),
		cel.ParserRecursionLimit(4 * maxConditionDepth),
		cel.ExpressionNodeLimit(maxConditionNodes),
		cel.ExpressionNestingDepthLimit(maxConditionDepth),
		cel.RegexProgramSizeLimit(maxRegexProgram),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals(),
			cel.ValidateHomogeneousAggregateLiterals()),
		cel.Variable("request.headers", texts),
		cel.Variable("path", texts),
		cel.Variable("query", texts),
		cel.Variable("context", texts),
		cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("principal.roles", cel.ListType(cel.StringType)),
		cel.Variable("now", cel.TimestampType),
	}
	for _, name := range []string{"request.method", "request.host", "request.path", "request.query", "principal.tenant", "principal.kind", "principal.id"} {
		options = append(options, cel.Variable(name, cel.StringType))
	}
	env, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("make the CEL environment: %w", err)
	}
	cc.env = env
	return env, nil
}

// compile compiles a condition of a rule with these path parameters. It returns
// the condition, or all that is wrong with it. A panic is a fault of the condition:
// a policy file is reloaded while requests are served, and must not end the process.
func (cc *conditionCompiler) compile(text string, params pattern) (c *condition, faults []conditionFault) {
	defer func() {
		if r := recover(); r != nil {
			c, faults = nil, []conditionFault{{line: 1, message: oneLine(fmt.Sprintf("the CEL compiler gave up: %v", r))}}
		}
	}()
	return cc.compiled(text, params)
}

func (cc *conditionCompiler) compiled(text string, params pattern) (*condition, []conditionFault) {
	whole := func(format string, args ...any) []conditionFault {
		return []conditionFault{{line: 1, message: fmt.Sprintf(format, args...)}}
	}
	switch {
	case strings.TrimSpace(text) == "":
		return nil, whole("the condition is empty; leave when out")
	case len(text) > maxConditionBytes:
		return nil, whole("%d bytes, more than %d", len(text), maxConditionBytes)
	}
	env, err := cc.environment()
	if err != nil {
		return nil, whole("%v", err)
	}
	parsed, issues := env.Parse(text)
	if faults := celFaults(issues); faults != nil {
		return nil, faults
	}
	reads, faults := readsOf(parsed.NativeRep(), params)
	if faults != nil {
		return nil, faults
	}
	checked, issues := env.Check(parsed)
	if faults := celFaults(issues); faults != nil {
		return nil, faults
	}
	// Validators run in Compile only; it is given the text again for their sake.
	if _, issues = env.Compile(text); issues.Err() != nil {
		return nil, celFaults(issues)
	}
	if kind := checked.OutputType(); !kind.IsExactType(cel.BoolType) {
		hint := ""
		if kind.IsExactType(cel.DynType) {
			hint = "; what a claim is shows with the token, so compare it: claims.admin == true"
		}
		return nil, whole("the condition is of type %s and must be of type bool%s", cel.FormatCELType(kind), hint)
	}
	estimate, err := env.EstimateCost(checked, factSizes{})
	if err != nil {
		return nil, whole("its cost cannot be estimated: %s", oneLine(err.Error()))
	}
	if estimate.Max > maxConditionCost {
		return nil, whole("it could cost %d at worst, more than %d; do without loops inside loops, and without long regular expressions on long texts", estimate.Max, maxConditionCost)
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxConditionCost))
	if err != nil {
		return nil, whole("%s", oneLine(err.Error()))
	}
	return &condition{text: text, program: program, reads: reads}, nil
}

// celFaults takes the faults out of CEL's issues, nil where there are none.
func celFaults(issues *cel.Issues) []conditionFault {
	if issues == nil || issues.Err() == nil {
		return nil
	}
	var faults []conditionFault
	for _, e := range issues.Errors() {
		faults = append(faults, faultAt(e.Location, oneLine(e.Message)))
	}
	if faults == nil {
		faults = []conditionFault{{line: 1, message: oneLine(issues.Err().Error())}}
	}
	return faults
}

func faultAt(at common.Location, message string) conditionFault {
	if at == nil || at.Line() < 1 || at.Column() < 0 {
		return conditionFault{line: 1, message: message}
	}
	return conditionFault{line: at.Line(), column: at.Column(), message: message}
}

// oneLine keeps a message of CEL's within a line and a length.
func oneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// factSizes tells CEL how large a fact can be.
type factSizes struct{}

// EstimateSize bounds texts and lists; a literal's own size is known better.
func (factSizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	if element.ComputedSize() != nil {
		return nil
	}
	switch element.Type().Kind() {
	case types.ListKind, types.MapKind:
		return &cost.SizeEstimate{Max: maxFactItems}
	case types.StringKind, types.BytesKind:
		return &cost.SizeEstimate{Max: factBytes(element.Path())}
	case types.DynKind, types.AnyKind:
		return &cost.SizeEstimate{Max: maxFactBytes}
	}
	return nil
}

// factBytes bounds the text at a path of the environment.
func factBytes(path []string) uint64 {
	if len(path) > 0 {
		switch path[0] {
		case "request.method":
			return maxMethodLength
		case "request.host", "principal.tenant", "principal.kind", "principal.id", "principal.roles":
			return maxNameBytes
		}
	}
	return maxFactBytes
}

// maxNameBytes bounds a host, and every name that the store or a token gives.
const maxNameBytes = 255

// EstimateCallCost leaves the cost of calls to CEL.
func (factSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// When returns the text of the rule's condition, "" where it has none.
func (r *Rule) When() string {
	if r.when == nil {
		return ""
	}
	return r.when.text
}

// ConditionHeaders lists the headers that some condition of the policy reads, in
// lower case, sorted. The gate must be sent them.
func (p *Policy) ConditionHeaders() []string {
	var names []string
	for _, rules := range [][]*Rule{p.rules, p.shadows} {
		for _, r := range rules {
			if r.when != nil {
				names = append(names, r.when.reads.headers...)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
