package identity

import (
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// Token headers and payloads are read by a parser of their own, because
// encoding/json forgives what an authorization decision must not: it takes the
// last of two equal keys, matches struct fields whatever their case, and mends
// invalid UTF-8. This one either returns every member exactly once or an error.

// maxJSONDepth bounds nesting. Real tokens nest three or four levels deep.
const maxJSONDepth = 32

// fewMembers is how many keys are compared one by one before a map takes over,
// which keeps an object of a thousand keys from costing a million comparisons.
const fewMembers = 16

// Errors of readObject.
var (
	errJSONSyntax    = errors.New("malformed JSON")
	errJSONNotObject = errors.New("not a JSON object")
	errJSONDuplicate = errors.New("a JSON key comes twice")
	errJSONDepth     = errors.New("JSON nested too deeply")
	errJSONText      = errors.New("JSON text is not valid UTF-8")
)

// ReadObject reads text as one JSON object, as strictly as a token's: a key that
// comes twice at any depth, a value of another type, invalid UTF-8 and anything
// after the object are errors. The values are JSON text.
func ReadObject(text []byte) (map[string][]byte, error) {
	members, err := readObject(text)
	if err != nil {
		return nil, err
	}
	object := make(map[string][]byte, len(members))
	for _, m := range members {
		object[m.key] = m.value
	}
	return object, nil
}

// ReadString reads a value of ReadObject that must be a string.
func ReadString(value []byte) (string, bool) { return stringValue(value) }

// member is one key of an object with its value's text.
type member struct {
	key   string
	value []byte // the JSON text, without white space around it
}

// readObject reads a JSON object and returns its members in order. Keys that
// come twice are refused at every depth, and so are invalid UTF-8, escapes of
// lone surrogates, and anything after the object but white space.
func readObject(text []byte) ([]member, error) {
	if !utf8.Valid(text) {
		return nil, errJSONText
	}
	s := jsonScanner{text: text}
	s.space()
	if s.peek() != '{' {
		if !json.Valid(text) {
			return nil, errJSONSyntax
		}
		return nil, errJSONNotObject
	}
	members, err := s.object(1)
	if err != nil {
		return nil, err
	}
	s.space()
	if s.pos != len(text) {
		return nil, errJSONSyntax
	}
	return members, nil
}

// jsonScanner walks over JSON text, RFC 8259.
type jsonScanner struct {
	text []byte
	pos  int
}

// peek returns the next byte, or 0 at the end; 0 begins no JSON value.
func (s *jsonScanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *jsonScanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// take consumes c, or reports that something else comes.
func (s *jsonScanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

// object reads an object whose '{' comes next.
func (s *jsonScanner) object(depth int) ([]member, error) {
	if depth > maxJSONDepth {
		return nil, errJSONDepth
	}
	s.pos++
	s.space()
	if s.take('}') {
		return nil, nil
	}
	var members []member
	var seen map[string]struct{}
	for {
		key, err := s.text8()
		if err != nil {
			return nil, err
		}
		if len(members) < fewMembers {
			if slices.ContainsFunc(members, func(m member) bool { return m.key == key }) {
				return nil, errJSONDuplicate
			}
		} else {
			if seen == nil {
				seen = make(map[string]struct{}, 2*fewMembers)
				for _, m := range members {
					seen[m.key] = struct{}{}
				}
			}
			if _, twice := seen[key]; twice {
				return nil, errJSONDuplicate
			}
			seen[key] = struct{}{}
		}
		s.space()
		if !s.take(':') {
			return nil, errJSONSyntax
		}
		s.space()
		start := s.pos
		if err := s.value(depth); err != nil {
			return nil, err
		}
		members = append(members, member{key, s.text[start:s.pos]})
		s.space()
		if s.take('}') {
			return members, nil
		}
		if !s.take(',') {
			return nil, errJSONSyntax
		}
		s.space()
	}
}

// array reads an array whose '[' comes next.
func (s *jsonScanner) array(depth int) error {
	if depth > maxJSONDepth {
		return errJSONDepth
	}
	s.pos++
	s.space()
	if s.take(']') {
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errJSONSyntax
		}
		s.space()
	}
}

// value reads any value; depth is that of the object or array around it.
func (s *jsonScanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '{':
		_, err := s.object(depth + 1)
		return err
	case c == '[':
		return s.array(depth + 1)
	case c == '"':
		_, err := s.text8()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return errJSONSyntax
}

func (s *jsonScanner) word(w string) error {
	if len(s.text)-s.pos < len(w) || string(s.text[s.pos:s.pos+len(w)]) != w {
		return errJSONSyntax
	}
	s.pos += len(w)
	return nil
}

func (s *jsonScanner) digits() bool {
	start := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}

func (s *jsonScanner) number() error {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return errJSONSyntax
	}
	if s.take('.') && !s.digits() {
		return errJSONSyntax
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return errJSONSyntax
		}
	}
	return nil
}

// text8 reads a string whose '"' comes next and returns it as UTF-8. The whole
// text has been found to be valid UTF-8 already.
func (s *jsonScanner) text8() (string, error) {
	if !s.take('"') {
		return "", errJSONSyntax
	}
	start := s.pos
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			out := string(s.text[start:s.pos])
			s.pos++
			return out, nil
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return "", errJSONSyntax
		}
		s.pos++
	}
	return "", errJSONSyntax
}

// escaped goes on with a string that began at start and holds an escape here.
func (s *jsonScanner) escaped(start int) (string, error) {
	out := append(make([]byte, 0, 64), s.text[start:s.pos]...)
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '"':
			return string(out), nil
		case c < 0x20:
			return "", errJSONSyntax
		case c != '\\':
			out = append(out, c)
			continue
		}
		c = s.peek()
		s.pos++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := s.codePoint()
			if !ok {
				return "", errJSONSyntax
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", errJSONSyntax
		}
	}
	return "", errJSONSyntax
}

// codePoint reads what follows \u: four hexadecimal digits, or a pair of
// surrogates. A lone surrogate is no character.
func (s *jsonScanner) codePoint() (rune, bool) {
	hi, ok := s.hex4()
	if !ok || hi < 0xd800 || hi > 0xdfff {
		return hi, ok
	}
	if hi > 0xdbff || !s.take('\\') || !s.take('u') {
		return 0, false
	}
	lo, ok := s.hex4()
	if !ok || lo < 0xdc00 || lo > 0xdfff {
		return 0, false
	}
	return (hi-0xd800)<<10 | (lo - 0xdc00) + 0x10000, true
}

func (s *jsonScanner) hex4() (rune, bool) {
	if len(s.text)-s.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s.text[s.pos : s.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	s.pos += 4
	return r, true
}

// stringValue reads a member's value that must be a string.
func stringValue(value []byte) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	s := jsonScanner{text: value}
	text, err := s.text8()
	return text, err == nil && s.pos == len(value)
}
