package identity

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// ClaimsOf reads the claims of these names out of a token that has been verified
// before: it checks no signature. Strings are string, whole numbers within 64 bits
// int64, other numbers float64, true and false bool, and arrays of these []any.
// Every other claim, null and objects, is left out, as an absent one is. It
// is false for a text that is no token.
func ClaimsOf(token string, names []string) (map[string]any, bool) {
	_, rest, ok := strings.Cut(token, ".")
	if !ok {
		return nil, false
	}
	encoded, _, ok := strings.Cut(rest, ".")
	if !ok || len(encoded) > MaxTokenSize {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, false
	}
	members, err := readObject(payload)
	if err != nil {
		return nil, false
	}
	claims := make(map[string]any, len(names))
	for _, m := range members {
		for _, name := range names {
			if m.key != name {
				continue
			}
			if value, ok := claimValue(m.value); ok {
				claims[name] = value
			}
			break
		}
	}
	return claims, true
}

// claimValue reads a scalar or an array of scalars.
func claimValue(text []byte) (any, bool) {
	if len(text) == 0 || text[0] != '[' {
		return scalarValue(text)
	}
	list := []any{}
	s := jsonScanner{text: text, pos: 1}
	for s.space(); !s.take(']'); s.space() {
		start := s.pos
		if err := s.value(1); err != nil {
			return nil, false
		}
		item, ok := scalarValue(text[start:s.pos])
		if !ok {
			return nil, false
		}
		list = append(list, item)
		s.space()
		s.take(',')
	}
	return list, true
}

func scalarValue(text []byte) (any, bool) {
	if len(text) == 0 {
		return nil, false
	}
	switch c := text[0]; {
	case c == '"':
		value, ok := stringValue(text)
		return value, ok
	case c == 't':
		return true, true
	case c == 'f':
		return false, true
	case c == '-' || '0' <= c && c <= '9':
		if whole, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return whole, true
		}
		number, err := strconv.ParseFloat(string(text), 64)
		return number, err == nil
	}
	return nil, false
}
