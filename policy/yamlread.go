package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFileBytes is the largest policy or cases file that is read.
const MaxFileBytes = 8 << 20

// yamlReader walks YAML nodes and gathers every problem with its line. It
// refuses what makes a policy mean something else than it seems to: unknown and
// repeated keys, aliases and merges, and scalars that YAML reads as numbers or
// booleans where a word is due.
type yamlReader struct {
	problems
	rule       string   // label of the rule that is being read
	lines      []string // of the document, for columns
	conditions conditionCompiler
}

func (y *yamlReader) fail(at *yaml.Node, format string, args ...any) {
	y.add(at.Line, y.rule, format, args...)
}

// document parses one YAML document and returns its top node, or nil after a
// problem.
func (y *yamlReader) document(src []byte) *yaml.Node {
	if len(src) > MaxFileBytes {
		y.add(0, "", "%d bytes, more than the %d that are read", len(src), MaxFileBytes)
		return nil
	}
	y.lines = strings.Split(string(src), "\n")
	var first, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(src))
	err := decodeNode(decoder, &first)
	if errors.Is(err, io.EOF) {
		y.add(0, "", "the file is empty")
		return nil
	}
	if err == nil {
		if err = decodeNode(decoder, &second); err == nil {
			y.add(second.Line, "", "a second YAML document; a policy is one document")
			return nil
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		line, message := yamlErrorLine(err)
		y.add(line, "", "not valid YAML: %s", message)
		return nil
	}
	if first.Kind != yaml.DocumentNode || len(first.Content) != 1 {
		y.add(first.Line, "", "the file is empty")
		return nil
	}
	return first.Content[0]
}

// decodeNode reads one document. A panic of the YAML library becomes an error:
// a policy file is reloaded while requests are served, and a fault in the
// parser must not end the process.
func decodeNode(decoder *yaml.Decoder, node *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	return decoder.Decode(node)
}

var yamlErrorPattern = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

// yamlErrorLine takes the line number out of a YAML error's text.
func yamlErrorLine(err error) (line int, message string) {
	m := yamlErrorPattern.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, err.Error()
	}
	line, _ = strconv.Atoi(m[1]) // "" is 0: the whole file
	return line, m[2]
}

// fields are the values of a mapping by key.
type fields map[string]*yaml.Node

// mapping reads a mapping with known keys. Unknown and repeated keys are
// problems, and left out. ok is false when at is no mapping at all.
func (y *yamlReader) mapping(at *yaml.Node, what string, known ...string) (result fields, ok bool) {
	if !y.isKind(at, yaml.MappingNode, what, "a mapping of keys to values") {
		return nil, false
	}
	result = make(fields, len(at.Content)/2)
	for i := 0; i+1 < len(at.Content); i += 2 {
		key, value := at.Content[i], at.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			y.fail(key, "%s: a key is not a plain word", what)
			continue
		}
		if result[key.Value] != nil {
			y.fail(key, "%s: key %q comes twice", what, key.Value)
			continue
		}
		if known != nil && !slices.Contains(known, key.Value) {
			if near := nearMiss(key.Value, known); near != "" {
				y.fail(key, "%s: unknown key %q; did you mean %q?", what, key.Value, near)
			} else {
				y.fail(key, "%s: unknown key %q; the keys are %s", what, key.Value, strings.Join(known, ", "))
			}
			continue
		}
		if value.Line == 0 {
			value.Line = key.Line
		}
		result[key.Value] = value
	}
	return result, true
}

// isKind checks a node's kind, and names what it is when it is another.
func (y *yamlReader) isKind(at *yaml.Node, kind yaml.Kind, what, wanted string) bool {
	switch {
	case at.Kind == kind:
		return true
	case at.Kind == yaml.AliasNode:
		y.fail(at, "%s: a YAML alias (*%s); write the value out", what, at.Value)
	default:
		y.fail(at, "%s: %s where %s is due", what, describe(at), wanted)
	}
	return false
}

// describe names a node for a message.
func describe(at *yaml.Node) string {
	switch at.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch at.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return strconv.Quote(shorten(at.Value))
	case "!!bool":
		return "the boolean " + shorten(at.Value)
	case "!!int", "!!float":
		return "the number " + shorten(at.Value)
	case "!!timestamp":
		return "the date " + shorten(at.Value)
	}
	return "a value tagged " + shorten(at.Tag)
}

// shorten keeps a message readable whatever the file holds.
func shorten(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// word reads a string.
func (y *yamlReader) word(at *yaml.Node, what string) (string, bool) {
	if !y.isKind(at, yaml.ScalarNode, what, "a word") {
		return "", false
	}
	switch at.ShortTag() {
	case "!!str":
		return at.Value, true
	case "!!bool", "!!int", "!!float", "!!timestamp":
		y.fail(at, "%s: YAML reads %s as something else than a word; put it in quotes", what, shorten(at.Value))
	default:
		y.fail(at, "%s: %s where a word is due", what, describe(at))
	}
	return "", false
}

// boolean reads true or false.
func (y *yamlReader) boolean(at *yaml.Node, what string) bool {
	if at.Kind == yaml.ScalarNode && at.ShortTag() == "!!bool" {
		return strings.EqualFold(at.Value, "true")
	}
	if y.isKind(at, yaml.ScalarNode, what, "true or false") {
		y.fail(at, "%s: %s where true or false is due", what, describe(at))
	}
	return false
}

// words reads a list of strings without repetitions, each of which check
// accepts: it returns what is wrong with one, or "". An empty list is a
// problem. ok is false after any.
func (y *yamlReader) words(at *yaml.Node, what string, check func(string) string) (result []string, ok bool) {
	if !y.isKind(at, yaml.SequenceNode, what, "a list") {
		return nil, false
	}
	if len(at.Content) == 0 {
		y.fail(at, "%s: the list is empty", what)
		return nil, false
	}
	ok = true
	seen := make(map[string]bool, len(at.Content))
	for _, item := range at.Content {
		text, good := y.word(item, what)
		switch {
		case !good:
		case seen[text]:
			y.fail(item, "%s: %q comes twice", what, shorten(text))
			good = false
		default:
			if wrong := check(text); wrong != "" {
				y.fail(item, "%s: %s", what, wrong)
				good = false
			}
		}
		if !good {
			ok = false
			continue
		}
		seen[text] = true
		result = append(result, text)
	}
	return result, ok
}
