package policy

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Request is what conditions may read of a request beside its caller. Texts need
// not outlive the decision; none of them is kept.
type Request struct {
	Method string
	Host   string // canonical
	Path   string // canonical
	Query  string // as it came, without the '?'; "" where there is none
	Facts  Facts  // nil where nothing more is known
}

// Facts finds what conditions read by name. Only names that stand in a condition
// are asked for.
type Facts interface {
	// Header returns a header's value and how many times it came, 0 for never. The
	// name is in lower case.
	Header(name string) (value string, times int)
	// Extension returns a value of Envoy's context_extensions.
	Extension(key string) (value string, ok bool)
	// Claims returns the claims of these names of the caller's JWT: string, int64,
	// float64, bool, or []any of these; other claims and absent ones are left out. It
	// is empty where the caller came without a JWT; ok is false where the claims
	// cannot be read.
	Claims(names []string) (claims map[string]any, ok bool)
}

// NoFacts knows nothing by name: no header, no extension and no claim is there.
type NoFacts struct{}

// Header says that it never came.
func (NoFacts) Header(string) (string, int) { return "", 0 }

// Extension says that there is none.
func (NoFacts) Extension(string) (string, bool) { return "", false }

// Claims are none.
func (NoFacts) Claims([]string) (map[string]any, bool) { return nil, true }

// conditions evaluates the conditions of the demand's rules.
func (in *Input) conditions() Reason {
	for _, r := range [...]*Rule{in.Demand.Path, in.Demand.Named} {
		if !asks(r) || r.when == nil {
			continue
		}
		if reason := r.when.decide(in, r); reason != ReasonOK {
			return reason
		}
	}
	return ReasonOK
}

// decide evaluates one condition: ReasonOK, ReasonConditionFalse or
// ReasonConditionError.
func (c *condition) decide(in *Input, r *Rule) Reason {
	if in.Request == nil {
		return ReasonConditionError
	}
	var facts activation
	if !facts.gather(c, in, r) {
		return ReasonConditionError
	}
	out, _, err := c.program.Eval(&facts)
	if err != nil {
		return ReasonConditionError
	}
	switch out {
	case types.True:
		return ReasonOK
	case types.False:
		return ReasonConditionFalse
	}
	return ReasonConditionError
}

// activation is the variables of one evaluation.
type activation struct {
	in      *Input
	params  map[string]string
	headers map[string]string
	query   map[string]string
	context map[string]string
	claims  map[string]any
	roles   []string
}

// gather finds what the condition reads. It is false where a text has no single
// meaning, or is longer than the bounds that the cost was reckoned with.
func (a *activation) gather(c *condition, in *Input, r *Rule) bool {
	q := in.Request
	a.in = in
	if len(q.Path) > maxFactBytes || len(q.Query) > maxFactBytes || len(q.Host) > maxNameBytes {
		return false
	}
	if len(c.reads.params) > 0 {
		a.params = make(map[string]string, len(c.reads.params))
		if !r.pattern.capture(q.Path, c.reads.params, a.params) {
			return false
		}
	}
	if len(c.reads.query) > 0 {
		a.query = make(map[string]string, len(c.reads.query))
		if !readQuery(q.Query, c.reads.query, a.query) {
			return false
		}
	}
	facts := q.Facts
	if facts == nil {
		facts = NoFacts{}
	}
	if len(c.reads.headers) > 0 {
		a.headers = make(map[string]string, len(c.reads.headers))
		for _, name := range c.reads.headers {
			value, times := facts.Header(name)
			if times > 1 || len(value) > maxFactBytes || !utf8.ValidString(value) {
				return false
			}
			if times == 1 {
				a.headers[name] = value
			}
		}
	}
	if len(c.reads.context) > 0 {
		a.context = make(map[string]string, len(c.reads.context))
		for _, key := range c.reads.context {
			value, ok := facts.Extension(key)
			if len(value) > maxFactBytes {
				return false
			}
			if ok {
				a.context[key] = value
			}
		}
	}
	if len(c.reads.claims) > 0 {
		var ok bool
		if a.claims, ok = facts.Claims(c.reads.claims); !ok {
			return false
		}
	}
	if c.reads.roles {
		a.roles = in.Roles.Names(in.Grant, in.Now)
	}
	return true
}

// Names lists the names of the roles of the memberships that are live at now (Unix
// nanoseconds), sorted, each once.
func (t *RoleTable) Names(g Grant, now int64) []string {
	var names []string
	for _, m := range g {
		if !m.Live(now) {
			continue
		}
		if name, ok := t.RoleName(m.Role); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ResolveName is cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	q, p := a.in.Request, &a.in.Principal
	switch name {
	case "request.method":
		return types.String(q.Method), true
	case "request.host":
		return types.String(q.Host), true
	case "request.path":
		return types.String(q.Path), true
	case "request.query":
		return types.String(q.Query), true
	case "request.headers":
		return texts(a.headers), true
	case "path":
		return texts(a.params), true
	case "query":
		return texts(a.query), true
	case "context":
		return texts(a.context), true
	case "claims":
		return types.NewStringInterfaceMap(types.DefaultTypeAdapter, a.claims), true
	case "principal.tenant":
		return types.String(p.Tenant), true
	case "principal.kind":
		return types.String(p.Kind.String()), true
	case "principal.id":
		return types.String(p.ID), true
	case "principal.roles":
		return types.NewStringList(types.DefaultTypeAdapter, a.roles), true
	case "now":
		return types.Timestamp{Time: time.Unix(0, a.in.Now).UTC()}, true
	}
	return nil, false
}

func texts(m map[string]string) any { return types.NewStringStringMap(types.DefaultTypeAdapter, m) }

// Parent is cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// capture takes the named parameters out of a canonical path that the pattern
// matches; false where it does not, or where a parameter has no single meaning.
//
// An encoded slash, which the canonical path keeps as %2F and which cannot stand
// for anything else there, is decoded in {name}: `a%2Fb` is the segment a/b, and
// must not equal an id that is spelled with a percent sign. In {name...} it could
// not be told from a real slash, so it is refused.
func (p pattern) capture(path string, wanted []string, into map[string]string) bool {
	rest := path
	for _, seg := range p {
		if rest == "" || rest[0] != '/' {
			return false
		}
		rest = rest[1:]
		text := rest
		if slash := strings.IndexByte(rest, '/'); slash >= 0 && seg.kind != segmentRest {
			text = rest[:slash]
		}
		rest = rest[len(text):]
		switch {
		case seg.kind == segmentLiteral:
			if text != seg.text {
				return false
			}
			continue
		case text == "":
			return false
		case !slices.Contains(wanted, seg.text):
			continue
		case strings.Contains(text, "%2F"):
			if seg.kind == segmentRest {
				return false
			}
			text = strings.ReplaceAll(text, "%2F", "/")
		}
		into[seg.text] = text
	}
	return rest == ""
}

// readQuery takes the named parameters out of a query. It is false where one of
// them comes twice, in the same letters or in another case, and where servers
// would read the query in different ways: raw ; and #, and broken encodings.
func readQuery(query string, wanted []string, into map[string]string) bool {
	if query == "" {
		return true
	}
	if strings.ContainsAny(query, ";#") {
		return false
	}
	for more := true; more; {
		var pair string
		pair, query, more = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return false
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return false
		}
		for _, want := range wanted {
			if !strings.EqualFold(name, want) {
				continue
			}
			if _, twice := into[want]; twice || name != want || !utf8.ValidString(value) {
				return false
			}
			into[want] = value
		}
	}
	return true
}
