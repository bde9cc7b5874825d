package policy

import (
	"bytes"
	"net/netip"
)

// maxHost is the longest host name that DNS knows, in bytes.
const maxHost = 253

// CanonHost appends to dst the canonical form of a request's host: lower case,
// without its port and without one trailing dot. An IPv6 literal keeps its
// brackets and is written in its shortest form. An empty host is fine and stays
// empty; a rule that names hosts does not match it.
//
// ok is false, and dst comes back as it was, for anything that is not plainly a
// host: user information, commas, spaces, control bytes, '%', bytes beyond
// ASCII and whatever else is not a letter, a digit, '-', '_' or '.'; empty
// labels; a port that is not a number from 1 to 65535; more than 253 bytes.
//
// Nothing is allocated when dst has room, except for an IPv6 literal.
func CanonHost(dst, raw []byte) (host []byte, ok bool) {
	if len(raw) == 0 {
		return dst, true
	}
	if raw[0] == '[' {
		return canonIPv6(dst, raw)
	}
	if colon := bytes.IndexByte(raw, ':'); colon >= 0 {
		if !validPort(raw[colon+1:]) {
			return dst, false
		}
		raw = raw[:colon]
	}
	if n := len(raw); n > 0 && raw[n-1] == '.' {
		raw = raw[:n-1]
	}
	if len(raw) == 0 || len(raw) > maxHost {
		return dst, false
	}
	start := len(dst)
	label := 0
	for _, c := range raw {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && label > 0:
			label = -1
		default:
			return dst[:start], false
		}
		label++
		dst = append(dst, c)
	}
	if label == 0 {
		return dst[:start], false
	}
	return dst, true
}

// canonIPv6 is CanonHost for a host that begins with a bracket.
func canonIPv6(dst, raw []byte) ([]byte, bool) {
	end := bytes.IndexByte(raw, ']')
	if end < 0 {
		return dst, false
	}
	if after := raw[end+1:]; len(after) > 0 && (after[0] != ':' || !validPort(after[1:])) {
		return dst, false
	}
	const longest = 45 // an IPv6 address that ends in an IPv4 one
	if end-1 > longest {
		return dst, false
	}
	address, err := netip.ParseAddr(string(raw[1:end]))
	if err != nil || !address.Is6() || address.Zone() != "" {
		return dst, false
	}
	dst = append(dst, '[')
	dst = address.AppendTo(dst)
	return append(dst, ']'), true
}

// validPort reports whether text is a number from 1 to 65535 of at most five
// digits.
func validPort(text []byte) bool {
	if len(text) == 0 || len(text) > 5 {
		return false
	}
	port := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
		port = port*10 + int(c-'0')
	}
	return 1 <= port && port <= 65535
}
