package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// suite is the tests section of a policy file.
type suite struct {
	roles *RoleTable
	cases []testCase
}

// testCase is one request and what must become of it.
type testCase struct {
	name    string
	line    int
	request testRequest
	caller  testCaller
	effect  Effect
	reason  Reason // ReasonInternal when any will do
	rule    string // "" when any will do, or none
}

type testRequest struct {
	method, host, path string
	headers, context   map[string]string
	now                int64 // Unix nanoseconds; 0 is the time of the run
}

// testCaller is the principal of a case; the zero one is nobody.
type testCaller struct {
	principal Principal
	admitted  bool
	grant     Grant
	spiffe    string // of a caller by certificate, whose principal the policy has, or not
	claims    map[string]any
}

// readSuite reads the tests section for a policy of these rules.
func (y *yamlReader) readSuite(at *yaml.Node, rules []*Rule) *suite {
	f, ok := y.mapping(at, "tests", "roles", "cases")
	if !ok {
		return nil
	}
	s := &suite{}
	ids := map[string]RoleID{}
	s.roles = NewRoleTable(y.readRoles(f["roles"], ids))
	if f["cases"] == nil {
		y.fail(at, "tests: cases is missing")
		return s
	}
	if !y.isKind(f["cases"], yaml.SequenceNode, "tests cases", "a list") {
		return s
	}
	known := make(map[string]bool, len(rules))
	for _, r := range rules {
		known[r.Name] = r.Name != ""
	}
	names := map[string]int{}
	for i, item := range f["cases"].Content {
		c, ok := y.readCase(item, ids, fmt.Sprintf("case #%d", i+1))
		if c.rule != "" && !known[c.rule] {
			y.fail(item, "case %q: rule: the policy has no rule %q", shorten(c.name), shorten(c.rule))
		}
		if !ok {
			continue
		}
		if first := names[c.name]; first > 0 {
			y.fail(item, "case %q: the case on line %d has this name already", shorten(c.name), first)
		}
		names[c.name] = c.line
		s.cases = append(s.cases, c)
	}
	return s
}

// readRoles reads the roles of the tests and gives each one an id.
func (y *yamlReader) readRoles(at *yaml.Node, ids map[string]RoleID) []RoleSpec {
	if at == nil {
		return nil
	}
	roles, ok := y.mapping(at, "tests roles")
	if !ok {
		return nil
	}
	var names []string
	for name := range roles {
		if wrong := checkRole(name); wrong != "" {
			y.fail(roles[name], "tests roles: %s", wrong)
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		ids[name] = RoleID(i + 1)
	}
	var specs []RoleSpec
	for _, name := range names {
		spec := RoleSpec{ID: ids[name], Name: name}
		what := fmt.Sprintf("role %q", name)
		f, ok := y.mapping(roles[name], what, "permissions", "parents")
		if !ok {
			continue
		}
		if p := f["permissions"]; p != nil {
			spec.Permissions, _ = y.words(p, what+": permissions", checkPermission)
		}
		if p := f["parents"]; p != nil {
			parents, _ := y.words(p, what+": parents", func(text string) string { return unknownRole(text, ids) })
			for _, parent := range parents {
				spec.Parents = append(spec.Parents, ids[parent])
			}
		}
		specs = append(specs, spec)
	}
	return specs
}

// unknownRole returns what is wrong with a role that the tests name, or "".
func unknownRole(text string, ids map[string]RoleID) string {
	if _, ok := ids[text]; ok {
		return ""
	}
	return fmt.Sprintf("%q is no role of tests roles", shorten(text))
}

// readCase reads one case.
func (y *yamlReader) readCase(at *yaml.Node, ids map[string]RoleID, what string) (c testCase, ok bool) {
	f, ok := y.mapping(at, what, "name", "request", "principal", "expect", "reason", "rule")
	if !ok {
		return c, false
	}
	c.line = at.Line
	before := len(y.list) + y.omitted
	if f["name"] == nil {
		y.fail(at, "%s: name is missing", what)
	} else if c.name, ok = y.word(f["name"], what+": name"); ok {
		what = fmt.Sprintf("case %q", shorten(c.name))
	}
	if f["request"] == nil {
		y.fail(at, "%s: request is missing", what)
	} else {
		c.request = y.readRequest(f["request"], what)
	}
	if f["principal"] != nil {
		c.caller = y.readCaller(f["principal"], ids, what)
	}
	y.readVerdict(&c, at, f, what)
	return c, len(y.list)+y.omitted == before
}

func (y *yamlReader) readRequest(at *yaml.Node, what string) testRequest {
	r := testRequest{method: "GET"}
	f, ok := y.mapping(at, what+": request", "method", "host", "path", "headers", "context", "now")
	if !ok {
		return r
	}
	for key, to := range map[string]*string{"method": &r.method, "host": &r.host, "path": &r.path} {
		if f[key] != nil {
			if text, ok := y.word(f[key], what+": request "+key); ok {
				*to = text
			}
		}
	}
	if f["path"] == nil {
		y.fail(at, "%s: request: path is missing", what)
	}
	r.headers = y.readTexts(f["headers"], what+": request headers", func(name string) string {
		if !isToken(name) || strings.ToLower(name) != name {
			return fmt.Sprintf("%q is no header's name in lower case", shorten(name))
		}
		return ""
	})
	r.context = y.readTexts(f["context"], what+": request context", func(string) string { return "" })
	if f["now"] != nil {
		r.now = y.readTime(f["now"], what+": request now")
	}
	if !isToken(r.method) {
		y.fail(at, "%s: request: %q is no method", what, shorten(r.method))
	}
	return r
}

func (y *yamlReader) readCaller(at *yaml.Node, ids map[string]RoleID, what string) (c testCaller) {
	what += ": principal"
	if at.Kind == yaml.ScalarNode {
		if word, ok := y.word(at, what); ok && word != "anonymous" {
			y.fail(at, "%s: %q; write anonymous, or {tenant, kind, id, roles}", what, shorten(word))
		}
		return c
	}
	f, ok := y.mapping(at, what, "tenant", "admitted", "kind", "id", "spiffe", "roles", "claims")
	if !ok {
		return c
	}
	c.admitted = true
	c.principal = Principal{Tenant: DefaultTenant, Kind: KindUser}
	if f["tenant"] != nil {
		if tenant, ok := y.word(f["tenant"], what+": tenant"); ok {
			if wrong := checkTenant(tenant); wrong != "" {
				y.fail(f["tenant"], "%s: %s", what, wrong)
			}
			c.principal.Tenant = tenant
		}
	}
	if f["admitted"] != nil {
		c.admitted = y.boolean(f["admitted"], what+": admitted")
	}
	if f["kind"] != nil {
		if word, ok := y.word(f["kind"], what+": kind"); ok {
			kind, known := ParseKind(word)
			if !known {
				y.fail(f["kind"], "%s: kind: %q is none of user, client and workload", what, shorten(word))
			}
			c.principal.Kind = kind
		}
	}
	if f["claims"] != nil {
		c.claims = y.readClaims(f["claims"], what+": claims")
	}
	if f["spiffe"] != nil {
		c.spiffe = y.readCallerSPIFFE(f, what)
	} else if f["id"] == nil {
		y.fail(at, "%s: id is missing", what)
	} else if id, ok := y.word(f["id"], what+": id"); ok {
		if id == "" {
			y.fail(f["id"], "%s: id is empty", what)
		}
		c.principal.ID = id
	}
	if f["roles"] != nil && !(f["roles"].Kind == yaml.SequenceNode && len(f["roles"].Content) == 0) {
		roles, _ := y.words(f["roles"], what+": roles", func(text string) string { return unknownRole(text, ids) })
		for _, role := range roles {
			c.grant = append(c.grant, Membership{Role: ids[role]})
		}
	}
	return c
}

// readCallerSPIFFE reads the SPIFFE id of a caller by certificate.
func (y *yamlReader) readCallerSPIFFE(f fields, what string) string {
	for _, key := range []string{"tenant", "kind", "id"} {
		if f[key] != nil {
			y.fail(f[key], "%s: %s: the workloads of the policy say who a spiffe id is; leave %[2]s out", what, key)
		}
	}
	text, ok := y.word(f["spiffe"], what+": spiffe")
	if wrong := checkSPIFFE(text); ok && wrong != "" {
		y.fail(f["spiffe"], "%s: spiffe: %s", what, wrong)
	}
	return text
}

func (y *yamlReader) readVerdict(c *testCase, at *yaml.Node, f fields, what string) {
	if f["expect"] == nil {
		y.fail(at, "%s: expect is missing; write allow or deny", what)
	} else if word, ok := y.word(f["expect"], what+": expect"); ok {
		switch word {
		case "allow":
			c.effect = Allow
		case "deny":
			c.effect = Deny
		default:
			y.fail(f["expect"], "%s: expect: %q is neither allow nor deny", what, shorten(word))
		}
	}
	if f["reason"] != nil {
		if word, ok := y.word(f["reason"], what+": reason"); ok {
			reason, known := ParseReason(word)
			switch {
			case !known:
				y.fail(f["reason"], "%s: reason: %q is no reason", what, shorten(word))
			case reason.Effect() != c.effect:
				y.fail(f["reason"], "%s: reason %s is not one of a verdict of %s", what, word, c.effect)
			}
			c.reason = reason
		}
	}
	if f["rule"] != nil {
		c.rule, _ = y.word(f["rule"], what+": rule")
	}
}
