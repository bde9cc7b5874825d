package admin

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A name in a path is checked on the whole string, after its percent-encoding
// was decoded once, before anything else sees it: a class of bytes and a length,
// so that no NUL, line break, quote, slash or non-ASCII letter gets further.

// maxEchoed bounds how many bytes of a refused value come back in the message.
const maxEchoed = 128

// nameRule is what one {parameter} of a route admits.
type nameRule struct {
	what    string // "role", "group", "user", "permission": the word of the message
	max     int    // bytes
	extra   string // bytes admitted beside letters, digits, '_' and '-'
	noDots  bool   // refuse "." and "..", which proxies and browsers rewrite
	explain string // appended to the message
}

var (
	ruleRole       = nameRule{what: "role", max: 64}
	ruleGroup      = nameRule{what: "group", max: 64}
	ruleUser       = nameRule{what: "user", max: 64, extra: ".@+", noDots: true}
	rulePermission = nameRule{what: "permission", max: 128}

	ruleTenant = nameRule{what: "tenant", max: 64, extra: ".", noDots: true}
	ruleEntry  = nameRule{what: "entry", max: 19}

	// Membership routes say what a name may be.
	ruleMemberUser = nameRule{what: "user", max: 64, extra: ".@+", noDots: true,
		explain: ". User names must be 1-64 characters long and contain only alphanumeric, underscore, hyphen, or email characters (@ . +)."}
	ruleMemberRole = nameRule{what: "role", max: 64,
		explain: ". Role names must be 1-64 characters long and contain only alphanumeric, underscore, and hyphen."}
)

// check returns "" for an admitted name, else the message of the 400.
func (n nameRule) check(s string) string {
	if n.admits(s) {
		return ""
	}
	return "Invalid " + n.what + " name: " + echo(s) + n.explain
}

func (n nameRule) admits(s string) bool {
	if s == "" || len(s) > n.max {
		return false
	}
	if n.noDots && (s == "." || s == "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !plainByte(s[i]) && strings.IndexByte(n.extra, s[i]) < 0 {
			return false
		}
	}
	return true
}

// plainByte reports whether b is an ASCII letter, a digit, '_' or '-'.
func plainByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-'
}

// echo is a refused value as a message may show it: bounded, valid UTF-8, and
// without what a terminal or a reader's eye would obey (delete, C1 controls,
// direction marks, zero-width characters). The C0 controls and what is special in
// HTML are escaped where the message is encoded as JSON.
func echo(s string) string {
	more := ""
	if len(s) > maxEchoed {
		s, more = s[:maxEchoed], "..."
	}
	return strings.Map(func(r rune) rune {
		if r >= 0x7f && r <= 0x9f || unicode.Is(unicode.Cf, r) {
			return utf8.RuneError
		}
		return r // an invalid byte comes as RuneError already
	}, s) + more
}
