package policy

import "go.yaml.in/yaml/v3"

func (y *yamlReader) readMode(rule *Rule, at *yaml.Node) {
	if at == nil {
		return
	}
	switch word, ok := y.word(at, "mode"); {
	case !ok:
	case word == "shadow":
		rule.Shadow = true
	default:
		y.fail(at, "mode: %q; write shadow, or leave mode out for a rule that decides", shorten(word))
	}
}

// readWhen compiles the rule's condition. Its path and access have been read.
func (y *yamlReader) readWhen(rule *Rule, at *yaml.Node) {
	if at == nil {
		return
	}
	text, ok := y.word(at, "when")
	if !ok {
		return
	}
	if rule.Access == AccessAnonymous {
		y.fail(at, "when: an anonymous rule asks nobody anything; write allow: authenticated, or leave when out")
		return
	}
	if rule.pattern == nil {
		return // the path is what is wrong
	}
	compiled, faults := y.conditions.compile(text, rule.pattern)
	for _, f := range faults {
		line, column := scalarPosition(y.lines, at, valueOffset(at.Value, f.line, f.column))
		y.addAt(line, column, y.rule, "when: %s", f.message)
	}
	rule.when = compiled
}
