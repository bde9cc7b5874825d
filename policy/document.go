package policy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ruleKeys are the keys of one rule, in the order in which messages list them.
var ruleKeys = []string{
	"name", "hosts", "methods", "path", "allow", "require", "tenants",
	"allow_encoded_slash", "allow_double_slash", "allow_semicolon", "forward_credentials", "mtls",
	"when", "mode",
}

// fewTenants is how many tenants of a rule are searched one by one: that is as
// fast as a map.
const fewTenants = 8

// maxRequired bounds the permissions that one rule asks about, and so the time
// of a decision.
const maxRequired = 64

// file is a policy file as it was read.
type file struct {
	rules []*Rule
	// matchable leaves out the rules whose name, path, hosts or methods could not be
	// read. Everything else about them has been checked all the same, so that one
	// run names every problem.
	matchable []*Rule
	workloads []*Workload
	issuers   []Issuer
	tests     *yaml.Node // the tests section, or nil
}

// readPolicy reads a policy file.
func (y *yamlReader) readPolicy(src []byte) (f file) {
	top := y.document(src)
	if top == nil {
		return f
	}
	keys, ok := y.mapping(top, "policy", "version", "issuers", "workloads", "rules", "tests")
	if !ok {
		return f
	}
	f.tests = keys["tests"]
	y.readVersion(top, keys["version"])
	f.issuers = y.readIssuers(keys["issuers"])
	f.workloads = y.readWorkloads(keys["workloads"])
	rules := keys["rules"]
	if rules == nil {
		y.fail(top, "policy: rules is missing; an empty list, rules: [], denies every request")
		return f
	}
	if !y.isKind(rules, yaml.SequenceNode, "rules", "a list") {
		return f
	}
	named := make(map[string]*Rule, len(rules.Content))
	decided, shadowed := 0, 0
	for i, at := range rules.Content {
		y.rule = fmt.Sprintf("#%d", i+1)
		rule, whole := y.readRule(at)
		if rule == nil {
			continue
		}
		if first := named[rule.Name]; first != nil {
			y.fail(at, "the rule on line %d has this name already", first.Line)
		} else if rule.Name != "" {
			named[rule.Name] = rule
		}
		rule.Index = decided
		if rule.Shadow {
			rule.Index = shadowed
			shadowed++
		} else {
			decided++
		}
		f.rules = append(f.rules, rule)
		if whole && rule.Name != "" {
			f.matchable = append(f.matchable, rule)
		}
	}
	y.rule = ""
	return f
}

func (y *yamlReader) readVersion(top, at *yaml.Node) {
	switch {
	case at == nil:
		y.fail(top, "policy: version is missing; this program reads version: 1")
	case at.Kind != yaml.ScalarNode || at.ShortTag() != "!!int" || at.Value != "1":
		y.fail(at, "version: %s; this program reads version: 1", describe(at))
	}
}

// readRule reads one rule. whole is false when the matcher cannot place it; the
// rule is nil when at is no mapping.
func (y *yamlReader) readRule(at *yaml.Node) (rule *Rule, whole bool) {
	// The name first, so that everything else can be told by it.
	if at.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(at.Content); i += 2 {
			if key, value := at.Content[i], at.Content[i+1]; key.Value == "name" && value.Kind == yaml.ScalarNode && checkRuleName(value.Value) == "" {
				y.rule = value.Value
				break
			}
		}
	}
	f, ok := y.mapping(at, "rule", ruleKeys...)
	if !ok {
		return nil, false
	}
	rule = &Rule{Line: at.Line}
	if name := f["name"]; name == nil {
		y.fail(at, "name is missing")
	} else if text, ok := y.word(name, "name"); ok {
		if wrong := checkRuleName(text); wrong != "" {
			y.fail(name, "name: %s", wrong)
		} else {
			rule.Name = text
		}
	}
	y.readOptIns(rule, f)
	whole = y.readHosts(rule, f["hosts"])
	whole = y.readMethods(rule, f["methods"]) && whole
	whole = y.readPath(rule, at, f["path"]) && whole
	y.readAccess(rule, at, f)
	y.readTenants(rule, f["tenants"])
	y.readMTLS(rule, f["mtls"])
	y.readMode(rule, f["mode"])
	y.readWhen(rule, f["when"])
	return rule, whole
}

func (y *yamlReader) readOptIns(rule *Rule, f fields) {
	for _, opt := range []struct {
		key  string
		flag PathFlags
	}{
		{"allow_encoded_slash", FlagEncodedSlash},
		{"allow_double_slash", FlagDoubleSlash},
		{"allow_semicolon", FlagSemicolon},
	} {
		if at := f[opt.key]; at != nil && y.boolean(at, opt.key) {
			rule.OptIns |= opt.flag
		}
	}
	if at := f["forward_credentials"]; at != nil {
		rule.ForwardCredentials = y.boolean(at, "forward_credentials")
	}
}

func (y *yamlReader) readHosts(rule *Rule, at *yaml.Node) bool {
	if at == nil {
		return true
	}
	hosts, ok := y.words(at, "hosts", parseHost)
	rule.Hosts = hosts
	if covered, by := coveredHost(hosts); covered != "" {
		y.fail(at, "hosts: %q lies within %q; leave it out", covered, by)
		return false
	}
	return ok
}

// coveredHost returns a host pattern that lies within another one of the list,
// which says nothing, and which the matcher relies on not to be there (see
// match.go).
func coveredHost(hosts []string) (covered, by string) {
	wild := map[string]bool{}
	for _, host := range hosts {
		if suffix, ok := strings.CutPrefix(host, "*."); ok {
			wild[suffix] = true
		}
	}
	for _, host := range hosts {
		name := strings.TrimPrefix(host, "*.")
		for {
			_, suffix, more := strings.Cut(name, ".")
			if !more {
				break
			}
			if wild[suffix] {
				return host, "*." + suffix
			}
			name = suffix
		}
	}
	return "", ""
}

func (y *yamlReader) readMethods(rule *Rule, at *yaml.Node) bool {
	if at == nil {
		return true
	}
	methods, ok := y.words(at, "methods", func(text string) string {
		switch {
		case validMethod(text):
			return ""
		case validMethod(strings.ToUpper(text)):
			return fmt.Sprintf("%q: methods are exact; write %s", text, strings.ToUpper(text))
		}
		return fmt.Sprintf("%q is no method; leave methods out to match all but CONNECT", shorten(text))
	})
	rule.Methods = methods
	return ok
}

func (y *yamlReader) readPath(rule *Rule, ruleAt, at *yaml.Node) bool {
	if at == nil {
		y.fail(ruleAt, `path is missing; "/{rest...}" matches every path longer than /`)
		return false
	}
	text, ok := y.word(at, "path")
	if !ok {
		return false
	}
	parsed, wrong := parsePattern(text)
	for _, message := range wrong {
		y.fail(at, "path: %s", message)
	}
	if wrong != nil {
		return false
	}
	rule.Path, rule.pattern = text, parsed
	flags := parsed.flags()
	if flags&FlagUnsafe != 0 {
		y.fail(at, "path: %q has a segment that no request may have, such as . or ..", text)
		return false
	}
	for _, opt := range []struct {
		flag PathFlags
		what string
	}{
		{FlagEncodedSlash, "an encoded slash; that takes allow_encoded_slash: true"},
		{FlagDoubleSlash, "an empty segment; that takes allow_double_slash: true"},
		{FlagSemicolon, "a semicolon; that takes allow_semicolon: true"},
	} {
		if flags&^rule.OptIns&opt.flag != 0 {
			y.fail(at, "path: %q has %s", text, opt.what)
		}
	}
	return true
}

func (y *yamlReader) readAccess(rule *Rule, ruleAt *yaml.Node, f fields) {
	allow, require := f["allow"], f["require"]
	switch {
	case allow != nil && require != nil:
		y.fail(allow, "allow and require exclude each other; require already asks for an authenticated caller")
	case allow == nil && require == nil:
		y.fail(ruleAt, "neither allow nor require; write require: PERMISSION, allow: authenticated or allow: anonymous")
	}
	if allow != nil {
		if word, ok := y.word(allow, "allow"); ok {
			switch word {
			case "anonymous":
				rule.Access = AccessAnonymous
			case "authenticated":
				rule.Access = AccessAuthenticated
			default:
				y.fail(allow, "allow: %q is neither anonymous nor authenticated; a permission goes under require", shorten(word))
			}
		}
	}
	if require != nil {
		y.readRequirement(rule, require)
	}
}

func (y *yamlReader) readRequirement(rule *Rule, at *yaml.Node) {
	switch at.Kind {
	case yaml.ScalarNode:
		name, ok := y.word(at, "require")
		if !ok {
			return
		}
		if wrong := checkPermission(name); wrong != "" {
			y.fail(at, "require: %s", wrong)
			return
		}
		rule.Require.All = []string{name}
	case yaml.SequenceNode:
		y.fail(at, "require: a list; write {any: [...]} when one of them is enough, {all: [...]} when every one is needed")
	default:
		f, ok := y.mapping(at, "require", "any", "all")
		if !ok {
			return
		}
		switch one, every := f["any"], f["all"]; {
		case one != nil && every != nil:
			y.fail(at, "require: any and all exclude each other")
		case one != nil:
			rule.Require.Any = y.readPermissions(one, "require any")
		case every != nil:
			rule.Require.All = y.readPermissions(every, "require all")
		default:
			y.fail(at, "require: neither any nor all")
		}
	}
}

func (y *yamlReader) readPermissions(at *yaml.Node, what string) []string {
	names, _ := y.words(at, what, checkPermission)
	if len(names) > maxRequired {
		y.fail(at, "%s: %d permissions, more than %d; one role or permission could stand for them", what, len(names), maxRequired)
	}
	return names
}

func (y *yamlReader) readTenants(rule *Rule, at *yaml.Node) {
	switch {
	case at == nil && rule.Access == AccessAnonymous:
	case at == nil:
		rule.Tenants = []string{DefaultTenant}
	case rule.Access == AccessAnonymous:
		y.fail(at, "tenants: an anonymous rule asks nobody for a tenant; leave tenants out")
	case at.Kind == yaml.ScalarNode:
		word, ok := y.word(at, "tenants")
		switch {
		case !ok:
		case word == "any":
			rule.AnyTenant = true
		default:
			y.fail(at, "tenants: %q; write a list of tenants, or any for every admitted one", shorten(word))
		}
	default:
		rule.Tenants, _ = y.words(at, "tenants", func(text string) string {
			if text == "any" {
				return "any in a list would be a tenant of that name; write tenants: any for every admitted one"
			}
			return checkTenant(text)
		})
		if len(rule.Tenants) > fewTenants {
			rule.tenantSet = make(map[string]bool, len(rule.Tenants))
			for _, tenant := range rule.Tenants {
				rule.tenantSet[tenant] = true
			}
		}
	}
}
