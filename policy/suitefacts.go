package policy

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// readTexts reads a mapping of names to words; nil where at is.
func (y *yamlReader) readTexts(at *yaml.Node, what string, wrong func(name string) string) map[string]string {
	if at == nil {
		return nil
	}
	f, ok := y.mapping(at, what)
	if !ok {
		return nil
	}
	out := make(map[string]string, len(f))
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if message := wrong(name); message != "" {
			y.fail(f[name], "%s: %s", what, message)
		}
		if text, ok := y.word(f[name], what+": "+shorten(name)); ok {
			out[name] = text
		}
	}
	return out
}

// readTime reads a moment as Unix nanoseconds.
func (y *yamlReader) readTime(at *yaml.Node, what string) int64 {
	if at.Kind != yaml.ScalarNode {
		y.isKind(at, yaml.ScalarNode, what, "a time")
		return 0
	}
	moment, err := time.Parse(time.RFC3339, at.Value)
	if err != nil || moment.Year() < 1970 || moment.Year() > 2261 {
		y.fail(at, "%s: %q is no time such as 2026-03-01T09:30:00Z", what, shorten(at.Value))
		return 0
	}
	return moment.UnixNano()
}

// readClaims reads the claims of a case's token, as the gate gives them to a
// condition.
func (y *yamlReader) readClaims(at *yaml.Node, what string) map[string]any {
	f, ok := y.mapping(at, what)
	if !ok {
		return nil
	}
	out := make(map[string]any, len(f))
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if f[name].Kind != yaml.SequenceNode {
			out[name] = y.readClaim(f[name], what+": "+shorten(name))
			continue
		}
		list := make([]any, 0, len(f[name].Content))
		for _, item := range f[name].Content {
			list = append(list, y.readClaim(item, what+": "+shorten(name)))
		}
		out[name] = list
	}
	return out
}

// readClaim reads a text, a number or a boolean.
func (y *yamlReader) readClaim(at *yaml.Node, what string) any {
	if !y.isKind(at, yaml.ScalarNode, what, "a text, a number, a boolean or a list of these") {
		return nil
	}
	switch at.ShortTag() {
	case "!!str":
		return at.Value
	case "!!bool":
		return y.boolean(at, what)
	case "!!int":
		if n, err := strconv.ParseInt(at.Value, 10, 64); err == nil {
			return n
		}
	case "!!float":
		if n, err := strconv.ParseFloat(at.Value, 64); err == nil {
			return n
		}
	}
	y.fail(at, "%s: %s where a text, a number, a boolean or a list of these is due", what, describe(at))
	return nil
}

// caseFacts answers a condition from a case.
type caseFacts struct{ c *testCase }

func (f caseFacts) Header(name string) (string, int) {
	value, ok := f.c.request.headers[name]
	if !ok {
		return "", 0
	}
	return value, 1
}

func (f caseFacts) Extension(key string) (string, bool) {
	value, ok := f.c.request.context[key]
	return value, ok
}

func (f caseFacts) Claims(names []string) (map[string]any, bool) {
	out := make(map[string]any, len(names))
	for _, name := range names {
		if value, ok := f.c.caller.claims[name]; ok {
			out[name] = value
		}
	}
	return out, true
}
