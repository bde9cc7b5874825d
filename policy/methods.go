package policy

import (
	"math/bits"
	"strings"
)

// methodSet is a set of HTTP methods as bits. One bit stands for CONNECT, one
// for every method that no rule names, and one for each method that a rule
// does. So a rule without methods is a set like any other, and inclusion and
// overlap are one instruction each.
type methodSet uint64

const (
	methodConnect methodSet = 1 << 0
	methodOther   methodSet = 1 << 1
	methodsAll              = ^methodConnect // what a rule without methods matches

	maxMethods      = 62 // distinct methods beside CONNECT that one file may name
	maxMethodLength = 32 // bytes
)

// count returns the number of methods in the set.
func (s methodSet) count() int { return bits.OnesCount64(uint64(s)) }

// methodTable gives each method that the rules name its bit.
type methodTable map[string]methodSet

func newMethodTable() methodTable { return methodTable{"CONNECT": methodConnect} }

// add returns the method's bit, a new one where needed; false when there are no
// bits left.
func (t methodTable) add(method string) (methodSet, bool) {
	if bit, ok := t[method]; ok {
		return bit, true
	}
	if len(t) > maxMethods {
		return 0, false
	}
	bit := methodOther << len(t)
	t[method] = bit
	return bit, true
}

// find returns the bit of a request's method.
func (t methodTable) find(method string) methodSet {
	if bit, ok := t[method]; ok {
		return bit
	}
	return methodOther
}

// example returns the name of a method in the set.
func (t methodTable) example(set methodSet) string {
	if set == methodsAll || set&methodOther != 0 {
		return "GET"
	}
	lowest := methodSet(1) << bits.TrailingZeros64(uint64(set))
	for name, bit := range t {
		if bit == lowest {
			return name
		}
	}
	return ""
}

// validMethod reports whether text can be a method in a rule: capital letters,
// digits, '-' and '_'. Methods are case-sensitive, and a lower-case one in a
// rule would match nothing that a client sends.
func validMethod(text string) bool {
	if text == "" || len(text) > maxMethodLength {
		return false
	}
	for _, c := range []byte(text) {
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// isToken reports whether a request may have the method at all: it is a token of
// RFC 9110.
func isToken(text string) bool {
	for _, c := range []byte(text) {
		if !isAlnum(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}
