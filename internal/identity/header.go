package identity

import (
	"encoding/base64"
	"slices"
	"strings"
)

// tokenHeader is what is used of a JOSE header.
type tokenHeader struct {
	keyID     string
	algorithm string
}

// readHeader makes the checks that need no key: the token's size and shape, and
// every parameter of the JOSE header. algorithms are those that may be used.
func readHeader(token string, algorithms ...string) (tokenHeader, *Refusal) {
	var h tokenHeader
	segment, _, refusal := splitToken(token)
	if refusal != nil {
		return h, refusal
	}
	if base64.RawURLEncoding.DecodedLen(len(segment)) > maxHeaderSize {
		return h, refuse("the header is longer than 1 KiB")
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return h, refuse("the header is not base64url")
	}
	members, err := readObject(text)
	if err != nil {
		return h, refuse("header: " + err.Error())
	}
	return headerParameters(members, algorithms)
}

// splitToken returns the first two of exactly three non-empty segments of
// base64url characters. It looks at each byte once, so a token of thousands of
// dots costs no more than any other (CVE-2025-30204).
func splitToken(token string) (header, payload string, _ *Refusal) {
	if len(token) > MaxTokenSize {
		return "", "", refuse("longer than 8 KiB")
	}
	header, payload, ok := segments(token)
	if !ok {
		return "", "", refuse("not three segments of base64url without padding")
	}
	return header, payload, nil
}

func segments(token string) (string, string, bool) {
	dots, header, start := 0, 0, 0
	for i := range len(token) {
		c := token[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.':
			if i == start || dots == 2 {
				return "", "", false
			}
			if dots == 0 {
				header = i
			}
			dots++
			start = i + 1
		default:
			return "", "", false
		}
	}
	if dots != 2 || start == len(token) {
		return "", "", false
	}
	return token[:header], token[header+1 : start-1], true
}

// headerParameters judges the members of a JOSE header. Those that are not named
// here mean nothing to us and, without `crit`, need not.
func headerParameters(members []member, algorithms []string) (tokenHeader, *Refusal) {
	var h tokenHeader
	for _, m := range members {
		switch m.key {
		case "alg":
			alg, ok := stringValue(m.value)
			if !ok || !slices.Contains(algorithms, alg) {
				return h, refuse("`alg` is not the configured algorithm")
			}
			h.algorithm = alg
		case "typ":
			typ, ok := stringValue(m.value)
			if !ok || !acceptedType(typ) {
				return h, refuse("`typ` is neither at+jwt nor JWT")
			}
		case "kid":
			kid, ok := stringValue(m.value)
			if !ok || len(kid) > maxKeyIDSize {
				return h, refuse("`kid` is not a string of at most 256 bytes")
			}
			h.keyID = kid
		case "crit":
			return h, refuse("`crit` names extensions, and we have none")
		case "b64":
			return h, refuse("`b64` changes what is signed")
		case "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256":
			return h, refuse("`" + m.key + "` brings its own key")
		case "enc", "zip", "cty":
			return h, refuse("`" + m.key + "` is of encrypted or nested tokens")
		default:
			if name, ok := respelled(m.key, headerNames); ok {
				return h, refuse("a header parameter is `" + name + "` in another case")
			}
		}
	}
	if h.algorithm == "" {
		return h, refuse("`alg` is missing")
	}
	return h, nil
}

// acceptedType judges a header's `typ`, whose case does not matter (RFC 7515,
// 4.1.9). An access token says at+jwt (RFC 9068), most others JWT.
func acceptedType(typ string) bool {
	switch strings.ToLower(typ) {
	case "jwt", "at+jwt", "application/at+jwt":
		return true
	}
	return false
}
