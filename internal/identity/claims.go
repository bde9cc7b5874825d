package identity

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// defaultTenant is the tenant of a token that names none.
const defaultTenant = "default"

// maxNumericDate is the year 2261, in seconds since 1970: the last in range of
// Unix nanoseconds with room for a leeway.
const maxNumericDate = 9_200_000_000

// claims is what is used of a payload whose signature is ours. It meets
// jwt.Claims, so that golang-jwt's validator judges the same values.
type claims struct {
	issuer    string
	subject   string
	audience  []string
	id        string
	tenant    string
	kind      policy.Kind
	expires   int64 // Unix nanoseconds, as the next two; these two are 0 where absent
	notBefore int64
	issuedAt  int64
	hasIssued bool     // an `iat` is there, be it rounded to 0
	roles     []string // of an outside token alone
}

// headerNames and claimNames are the names that are read. A name that differs
// from one of them only by case is refused: the gate would overlook it, and a
// parser behind the gate that ignores case would not.
var (
	headerNames = []string{"alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "enc", "zip", "cty"}
	claimNames  = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "tenant", "kind", "typ", "at_hash", "c_hash", "cnf"}
)

// respelled returns the name that key differs from by case alone.
func respelled(key string, names []string) (string, bool) {
	for _, name := range names {
		if key != name && strings.EqualFold(key, name) {
			return name, true
		}
	}
	return "", false
}

// readClaims reads a payload and makes every check that needs neither the
// configuration nor the clock.
func readClaims(payload []byte) (*claims, *Refusal) {
	members, err := readObject(payload)
	if err != nil {
		return nil, refuse("payload: " + err.Error())
	}
	c := &claims{tenant: defaultTenant, kind: policy.KindUser}
	for _, m := range members {
		ok := true
		switch m.key {
		case "sub":
			c.subject, ok = stringValue(m.value)
			ok = ok && validSubject(c.subject)
		case "tenant":
			c.tenant, ok = stringValue(m.value)
			ok = ok && ValidTenant(c.tenant)
		case "kind":
			var word string
			if word, ok = stringValue(m.value); ok {
				c.kind, ok = policy.ParseKind(word)
			}
		default:
			if refusal := c.registered(m, claimNames); refusal != nil {
				return nil, refusal
			}
		}
		if !ok {
			return nil, misfit(m.key)
		}
	}
	switch {
	case c.subject == "":
		return nil, refuse("`sub` is missing")
	case c.expires == 0:
		return nil, refuse("`exp` is missing")
	}
	return c, nil
}

func misfit(claim string) *Refusal {
	return refuse("`" + claim + "` has a wrong type or is out of range")
}

// registered reads a claim that means the same in every token. Others mean
// nothing, but for those that differ from one of names by case alone.
func (c *claims) registered(m member, names []string) *Refusal {
	ok := true
	switch m.key {
	case "iss":
		c.issuer, ok = stringValue(m.value)
	case "aud":
		c.audience, ok = readAudience(m.value)
	case "jti":
		c.id, ok = stringValue(m.value)
		ok = ok && len(c.id) <= maxTokenIDSize
	case "exp":
		c.expires, ok = numericDate(m.value)
	case "nbf":
		c.notBefore, ok = numericDate(m.value)
	case "iat":
		c.issuedAt, ok = numericDate(m.value)
		c.hasIssued = true
	case "typ":
		ok = accessType(m.value)
	case "at_hash", "c_hash":
		return refuse("`" + m.key + "` marks an ID token")
	case "cnf":
		return refuse("`cnf` binds the token to a key that the gate cannot see")
	default:
		if name, found := respelled(m.key, names); found {
			return refuse("a claim is `" + name + "` in another case")
		}
	}
	if !ok {
		return misfit(m.key)
	}
	return nil
}

// accessType judges a payload's `typ`, which some issuers use to tell an ID or
// refresh token from an access token.
func accessType(value []byte) bool {
	typ, ok := stringValue(value)
	return ok && !strings.EqualFold(typ, "ID") && !strings.EqualFold(typ, "Refresh")
}

// validSubject holds a subject to 1 to 255 visible ASCII characters, so that it
// can be copied to a header as it is.
func validSubject(s string) bool { return visibleASCII(s, MaxSubjectSize) }

// visibleASCII reports whether s is 1 to most visible ASCII characters.
func visibleASCII(s string, most int) bool {
	if len(s) < 1 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// ValidTenant reports whether a tenant may have this name: 1 to 64 of
// [a-zA-Z0-9_.-].
func ValidTenant(s string) bool {
	if len(s) < 1 || len(s) > MaxTenantSize {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// readAudience reads `aud`: a string or an array of strings.
func readAudience(value []byte) ([]string, bool) {
	if one, ok := stringValue(value); ok {
		return []string{one}, true
	}
	if value[0] != '[' {
		return nil, false
	}
	var out []string
	s := jsonScanner{text: value, pos: 1}
	for s.space(); !s.take(']'); s.space() {
		one, err := s.text8()
		if err != nil {
			return nil, false
		}
		out = append(out, one)
		s.space()
		s.take(',')
	}
	return out, true
}

// numericDate reads seconds since 1970, with or without a fraction, as Unix
// nanoseconds. What is not above 0 or lies past maxNumericDate is out of range.
func numericDate(value []byte) (int64, bool) {
	if whole, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return whole * int64(time.Second), 0 < whole && whole <= maxNumericDate
	}
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return 0, false
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > maxNumericDate {
		return 0, false
	}
	whole, fraction := math.Modf(seconds)
	return int64(whole)*int64(time.Second) + int64(fraction*1e9), true
}

// date turns one of our times into golang-jwt's.
func date(ns int64) (*jwt.NumericDate, error) {
	if ns == 0 {
		return nil, nil
	}
	return &jwt.NumericDate{Time: time.Unix(0, ns)}, nil
}

// GetExpirationTime and the methods below are jwt.Claims.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.expires) }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.issuedAt) }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.notBefore) }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }
