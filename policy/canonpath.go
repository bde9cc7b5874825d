package policy

import (
	"strings"
	"unicode/utf8"
)

// PathFlags says what is ambiguous about a raw request path: two servers may
// read it differently. A rule takes a flagged path only if it opts in to every
// flag that is set.
type PathFlags uint16

// The ambiguities.
const (
	// FlagEncodedSlash: %2f in any case. A rule opts in with allow_encoded_slash.
	FlagEncodedSlash PathFlags = 1 << iota
	// FlagDoubleSlash: an empty segment before the last, the slashes being raw or
	// encoded. A rule opts in with allow_double_slash.
	FlagDoubleSlash
	// FlagSemicolon: a semicolon, raw or encoded. A rule opts in with
	// allow_semicolon.
	FlagSemicolon
	// FlagUnsafe: what no rule can opt in to (see CanonPath).
	FlagUnsafe
)

// flagNames are the words of the flags, in the order of their bits.
var flagNames = [...]string{"encoded_slash", "double_slash", "semicolon", "unsafe"}

// String returns the words of the flags joined with "|", or "" for none.
func (f PathFlags) String() string {
	var words []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, "|")
}

// What a byte means in a raw path.
const (
	bytePlain uint8 = iota
	byteSlash
	byteDot
	bytePercent
	byteSemicolon
	byteUnsafe
)

// rawClass holds the meaning of every byte of a raw path.
var rawClass = func() (t [256]uint8) {
	for c := range t {
		if c <= 0x20 || c >= 0x7f {
			t[c] = byteUnsafe
		}
	}
	t['#'], t['\\'] = byteUnsafe, byteUnsafe
	t['/'], t['.'], t['%'], t[';'] = byteSlash, byteDot, bytePercent, byteSemicolon
	return t
}()

// CanonPath appends to dst the canonical form of a raw request path and says
// what is ambiguous about it. It cuts the query at the first '?', then decodes
// every percent-encoding exactly once, except %2f in any case, which becomes
// "%2F" and stays a part of its segment. It cleans and merges nothing: a path
// that a cleaner would change is flagged instead.
//
// FlagUnsafe is set for a path that does not begin with '/'; a raw '#' or '\',
// a raw byte up to 0x20 or from 0x7f; a '%' without two hex digits after it; an
// encoded control byte or backslash; an encoded '%' before two hex digits, they
// too being raw or encoded; a segment "." or "..", raw or encoded, alone, before
// a ';' or between encoded slashes; and decoded bytes that are not UTF-8.
//
// A flagged path is still returned, so that its rule can be found and named,
// but only a rule that opts in to every flag may allow it. Nothing is allocated
// when dst has room for len(raw) more bytes; raw is not changed.
func CanonPath(dst, raw []byte) (path []byte, flags PathFlags) {
	start := len(dst)
	if len(raw) == 0 || raw[0] != '/' {
		flags |= FlagUnsafe
	}
	dots := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '?' {
			break
		}
		switch rawClass[c] {
		case byteSlash:
			if endsInSlash(dst[start:]) {
				flags |= FlagDoubleSlash
			}
		case byteDot:
			dots = true
		case byteSemicolon:
			flags |= FlagSemicolon
		case byteUnsafe:
			flags |= FlagUnsafe
		case bytePercent:
			decoded, ok := percentByte(raw, i)
			if !ok {
				flags |= FlagUnsafe
				break
			}
			i += 2
			c = decoded
			switch {
			case c == '/':
				if endsInSlash(dst[start:]) {
					flags |= FlagDoubleSlash
				}
				flags |= FlagEncodedSlash
				dst = append(dst, '%', '2')
				c = 'F'
			case c == '.':
				dots = true
			case c == ';':
				flags |= FlagSemicolon
			case c == '%':
				if encodesTwice(raw, i+1) {
					flags |= FlagUnsafe
				}
			case c < 0x20, c == 0x7f, c == '\\':
				flags |= FlagUnsafe
			}
		}
		dst = append(dst, c)
	}
	path = dst[start:]
	if dots && hasDotSegment(path) || !utf8.Valid(path) {
		flags |= FlagUnsafe
	}
	return dst, flags
}

// endsInSlash reports whether the canonical bytes so far end in a slash, raw or
// kept encoded. A '%' can stand before "2F" in them only as an encoded slash,
// or in a path that is flagged unsafe already.
func endsInSlash(path []byte) bool {
	n := len(path)
	return n > 0 && path[n-1] == '/' ||
		n >= 3 && path[n-3] == '%' && path[n-2] == '2' && path[n-1] == 'F'
}

// percentByte decodes the percent-encoding at raw[i].
func percentByte(raw []byte, i int) (byte, bool) {
	if i+2 >= len(raw) {
		return 0, false
	}
	hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
	if hi > 15 || lo > 15 {
		return 0, false
	}
	return hi<<4 | lo, true
}

// encodesTwice reports whether the two characters from raw[i], each decoded
// once, are hex digits: after a decoded '%' they would read as another encoding.
func encodesTwice(raw []byte, i int) bool {
	for range 2 {
		if i >= len(raw) {
			return false
		}
		c := raw[i]
		if c == '%' {
			decoded, ok := percentByte(raw, i)
			if !ok {
				return false
			}
			c, i = decoded, i+2
		}
		if unhex(c) > 15 {
			return false
		}
		i++
	}
	return true
}

// unhex returns the value of a hex digit, or 0xff.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// hasDotSegment reports whether a piece of the canonical path between slashes,
// raw or kept encoded, is "." or "..", what follows a ';' in it left aside:
// some servers drop path parameters before they resolve dot segments.
func hasDotSegment(path []byte) bool {
	begin := 0
	for i := 0; i <= len(path); i++ {
		width := 0
		switch {
		case i == len(path) || path[i] == '/':
			width = 1
		case path[i] == '%' && i+2 < len(path) && path[i+1] == '2' && path[i+2] == 'F':
			width = 3
		default:
			continue
		}
		segment := path[begin:i]
		for j, c := range segment {
			if c == ';' {
				segment = segment[:j]
				break
			}
		}
		if s := string(segment); s == "." || s == ".." {
			return true
		}
		i += width - 1
		begin = i + 1
	}
	return false
}
