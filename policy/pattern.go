package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a path pattern. They keep the matcher's work for one request small
// whatever the file says.
const (
	maxPatternBytes    = 2048
	maxPatternSegments = 32
)

// segmentKind is what one segment of a pattern matches.
type segmentKind uint8

const (
	segmentLiteral segmentKind = iota // itself; the empty one ends a path in '/'
	segmentParam                      // {name}: one non-empty segment
	segmentRest                       // {name...}: one or more bytes, slashes included
)

// segment is one piece of a pattern between slashes.
type segment struct {
	kind segmentKind
	text string // the literal, or the parameter's name
}

// pattern is a path pattern: never empty, a segmentRest only at its end.
type pattern []segment

// parsePattern reads a pattern and says everything that is wrong with it. The
// pattern is nil when anything is.
func parsePattern(text string) (pattern, []string) {
	if !strings.HasPrefix(text, "/") {
		return nil, []string{fmt.Sprintf("%q does not begin with /", text)}
	}
	if len(text) > maxPatternBytes {
		return nil, []string{fmt.Sprintf("longer than %d bytes", maxPatternBytes)}
	}
	pieces := strings.Split(text[1:], "/")
	if len(pieces) > maxPatternSegments {
		return nil, []string{fmt.Sprintf("more than %d segments", maxPatternSegments)}
	}
	var wrong []string
	names := map[string]bool{}
	result := make(pattern, 0, len(pieces))
	for i, piece := range pieces {
		seg, problem := parseSegment(piece)
		switch {
		case problem != "":
		case seg.kind == segmentRest && i != len(pieces)-1:
			problem = fmt.Sprintf("%s takes the rest of the path and must stand last", piece)
		case seg.kind != segmentLiteral && names[seg.text]:
			problem = fmt.Sprintf("parameter %q comes twice", seg.text)
		}
		if problem != "" {
			wrong = append(wrong, problem)
		}
		if seg.kind != segmentLiteral {
			names[seg.text] = true
		}
		result = append(result, seg)
	}
	if wrong != nil {
		return nil, wrong
	}
	return result, nil
}

// parseSegment reads one piece of a pattern; problem is "" when it is good.
func parseSegment(piece string) (seg segment, problem string) {
	if inner, ok := strings.CutPrefix(piece, "{"); ok && strings.HasSuffix(inner, "}") {
		inner = strings.TrimSuffix(inner, "}")
		seg = segment{kind: segmentParam, text: inner}
		if name, ok := strings.CutSuffix(inner, "..."); ok {
			seg = segment{kind: segmentRest, text: name}
		}
		if !validParam(seg.text) {
			return seg, fmt.Sprintf("%s is no parameter: its name is a letter or _, then letters, digits and _, at most 32 in all", piece)
		}
		return seg, ""
	}
	seg = segment{kind: segmentLiteral, text: piece}
	switch {
	case strings.ContainsAny(piece, "{}"):
		return seg, fmt.Sprintf("in %q a parameter is not the whole segment; write {name} between slashes", piece)
	case strings.Contains(piece, "*"):
		return seg, fmt.Sprintf("%q has a *, which means nothing here; write {name} for one segment or {name...} for the rest", piece)
	case strings.ContainsAny(piece, "?#"):
		return seg, fmt.Sprintf("%q has a query or fragment; only the path is matched", piece)
	case strings.Contains(piece, `\`):
		return seg, fmt.Sprintf("%q has a backslash, and a path with one is always refused", piece)
	case strings.ContainsFunc(piece, func(r rune) bool { return r < 0x20 || r == 0x7f || r == utf8.RuneError }):
		return seg, fmt.Sprintf("%q has a control character or is not UTF-8, and such a path is always refused", piece)
	}
	for i := 0; i < len(piece); i++ {
		if piece[i] != '%' || strings.HasPrefix(piece[i:], "%2F") {
			continue
		}
		if decoded, ok := percentByte([]byte(piece), i); ok && decoded == '/' {
			return seg, fmt.Sprintf("%q has %s; write it as %%2F", piece, piece[i:i+3])
		} else if ok {
			return seg, fmt.Sprintf("%q has %s; patterns match the decoded path, so write the character itself", piece, piece[i:i+3])
		}
	}
	return seg, ""
}

// validParam reports whether name can name a path parameter: an identifier of
// at most 32 characters.
func validParam(name string) bool {
	if name == "" || len(name) > 32 || '0' <= name[0] && name[0] <= '9' {
		return false
	}
	for _, c := range []byte(name) {
		if !isAlnum(c) && c != '_' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// flags returns the ambiguities that every path which the pattern matches has,
// found by running one such path through CanonPath.
func (p pattern) flags() PathFlags {
	const upperHex = "0123456789ABCDEF"
	var raw []byte
	for _, seg := range p {
		raw = append(raw, '/')
		if seg.kind != segmentLiteral {
			raw = append(raw, 'x')
			continue
		}
		for i := 0; i < len(seg.text); i++ {
			c := seg.text[i]
			switch {
			case strings.HasPrefix(seg.text[i:], "%2F"), isAlnum(c):
				raw = append(raw, c)
			default:
				raw = append(raw, '%', upperHex[c>>4], upperHex[c&15])
			}
		}
	}
	_, flags := CanonPath(nil, raw)
	return flags
}

// bare reports whether what is left of a pattern is the empty literal alone,
// the one remainder that no {name...} matches.
func (p pattern) bare() bool {
	return len(p) == 1 && p[0].kind == segmentLiteral && p[0].text == ""
}

// within reports whether q matches every path that p matches.
func (p pattern) within(q pattern) bool {
	for {
		if len(p) == 0 || len(q) == 0 {
			return len(p) == len(q)
		}
		a, b := p[0], q[0]
		switch {
		case b.kind == segmentRest:
			return !p.bare()
		case a.kind == segmentRest:
			return false
		case b.kind == segmentLiteral && (a.kind != segmentLiteral || a.text != b.text):
			return false
		case b.kind == segmentParam && a.kind == segmentLiteral && a.text == "":
			return false
		}
		p, q = p[1:], q[1:]
	}
}

// example returns a path that both of two overlapping patterns match.
func (p pattern) example(q pattern) string {
	var path strings.Builder
	for i := 0; i < max(len(p), len(q)); i++ {
		path.WriteByte('/')
		switch {
		case i < len(p) && p[i].kind == segmentLiteral:
			path.WriteString(p[i].text)
		case i < len(q) && q[i].kind == segmentLiteral:
			path.WriteString(q[i].text)
		default:
			path.WriteByte('x')
		}
	}
	return path.String()
}
