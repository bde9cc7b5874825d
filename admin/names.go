package admin

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"portcullis/internal/identity"
)

// A name in a path is checked on the whole string, after its percent-encoding
// was decoded once, before anything else sees it: a class of bytes and a length,
// so that no NUL, line break, quote, slash or non-ASCII letter gets further.

// maxEchoed bounds how many bytes of a refused value come back in the message.
const maxEchoed = 128

// nameRule is what one {parameter} of a route admits.
type nameRule struct {
	what    string            // "role name", "key id": the words of the message
	user    bool              // it names a user
	max     int               // bytes
	extra   string            // bytes admitted beside letters, digits, '_' and '-'
	word    bool              // AUTH_STRICT_INPUT refuses SQL keywords in it
	noDots  bool              // refuse "." and "..", which proxies and browsers rewrite
	explain string            // appended to the message
	form    func(string) bool // decides instead of max, extra and noDots where it is there
}

// Membership and workflow routes say what a name may be.
const (
	explainUser = ". User names must be 1-64 characters long and contain only alphanumeric, underscore, hyphen, or email characters (@ . +)."
	explainRole = ". Role names must be 1-64 characters long and contain only alphanumeric, underscore, and hyphen."
)

var (
	ruleRole       = nameRule{what: "role name", word: true, max: 64}
	ruleGroup      = nameRule{what: "group name", word: true, max: 64}
	ruleUser       = nameRule{what: "user name", word: true, user: true, max: 64, extra: ".@+", noDots: true}
	rulePermission = nameRule{what: "permission name", word: true, max: 128}
	ruleWorkflow   = nameRule{what: "workflow name", word: true, max: 128}
	ruleKeyID      = nameRule{what: "key id", form: isUUID4, explain: ". Must be a UUID4."}

	ruleTenant = nameRule{what: "tenant", max: 64, extra: ".", noDots: true}
	ruleEntry  = nameRule{what: "entry", max: 19}

	ruleMemberUser = ruleUser.explained(explainUser)
	ruleMemberRole = ruleRole.explained(explainRole)

	// Rules for what comes in a body.
	ruleLabel = nameRule{max: 64, extra: " ."}
)

// messageLabel is the 400 of a label; it does not repeat what was sent.
const messageLabel = "Invalid label: 1-64 characters of letters, digits, space, underscore, dot, or hyphen."

// explained is the rule with words after its message.
func (n nameRule) explained(words string) nameRule {
	n.explain = words
	return n
}

// isUUID4 reports whether s is a UUID of version 4, in any case.
func isUUID4(s string) bool {
	_, ok := identity.ParseClientKey([]byte(s))
	return ok
}

// check returns "" for an admitted name, else the message of the 400.
func (n nameRule) check(s string) string {
	if n.admits(s) {
		return ""
	}
	return "Invalid " + n.what + ": " + echo(s) + n.explain
}

func (n nameRule) admits(s string) bool {
	if n.form != nil {
		return n.form(s)
	}
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
