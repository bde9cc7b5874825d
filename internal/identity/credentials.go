package identity

import (
	"bytes"

	"portcullis/policy"
)

// HeaderValue is what a request carried under one header name.
type HeaderValue struct {
	Value []byte // the first value, as it was sent; borrowed
	Count int    // how many values there were; 0 is absent
}

// Presence says which kinds of credential a request carried, usable or not.
type Presence uint8

// The kinds of credential.
const (
	PresentBearer    Presence = 1 << iota // an Authorization that is no user API key
	PresentClientKey                      // x-client-key
	PresentAPIKey                         // x-api-key, or a Bearer that begins with rak_
)

// Credentials is what a request offers as proof of who is calling. Its slices
// are borrowed from the request.
type Credentials struct {
	Bearer    []byte // the JWT, unverified; nil where there is none
	ClientKey []byte // x-client-key as it was sent; nil where there is none
	APIKey    []byte // the user API key as it was sent; nil where there is none

	// Key is ClientKey in canonical form, valid if it is present and Reason is OK.
	Key [ClientKeySize]byte

	Present Presence

	// Reason is ReasonOK if every credential that is present has the right form;
	// else why the request is unauthenticated: ReasonMissingCredential,
	// ReasonConflictingCredentials, ReasonInvalidToken or ReasonBadKey.
	Reason policy.Reason
}

// apiKeyPrefix begins every user API key.
const apiKeyPrefix = "rak_"

// ReadCredentials sorts the values of `authorization`, `x-client-key` and
// `x-api-key` into credentials, and refuses what has no single meaning. It
// verifies nothing and allocates nothing.
//
// A conflict comes before every other reason: more than one value of a kind, a
// comma in one (which is how a proxy joins two), or a user API key both as Bearer
// and in x-api-key. Then Authorization is judged, then the client key, then the
// user API key.
func ReadCredentials(authorization, clientKey, apiKey HeaderValue) Credentials {
	var c Credentials
	var bearer policy.Reason = policy.ReasonOK
	if authorization.Count > 0 {
		token, ok := BearerToken(authorization.Value)
		switch {
		case ok && bytes.HasPrefix(token, []byte(apiKeyPrefix)):
			c.Present |= PresentAPIKey
			c.APIKey = token
		default:
			c.Present |= PresentBearer
			c.Bearer = token
			if !ok {
				bearer = policy.ReasonInvalidToken
			}
		}
	}
	twice := apiKey.Count > 0 && c.Present&PresentAPIKey != 0
	if apiKey.Count > 0 {
		c.Present |= PresentAPIKey
		c.APIKey = apiKey.Value
	}
	keyOK := true
	if clientKey.Count > 0 {
		c.Present |= PresentClientKey
		c.ClientKey = clientKey.Value
		c.Key, keyOK = ParseClientKey(clientKey.Value)
	}

	switch {
	case twice, authorization.ambiguous(), clientKey.ambiguous(), apiKey.ambiguous():
		c.Reason = policy.ReasonConflictingCredentials
	case c.Present == 0:
		c.Reason = policy.ReasonMissingCredential
	case bearer != policy.ReasonOK:
		c.Reason = bearer
	case !keyOK:
		c.Reason = policy.ReasonBadKey
	case c.Present&PresentAPIKey != 0:
		// No user API key exists in this version, so each of them is unknown.
		c.Reason = policy.ReasonBadKey
	default:
		c.Reason = policy.ReasonOK
	}
	return c
}

// ambiguous reports whether the header may hold more than one value.
func (h HeaderValue) ambiguous() bool {
	return h.Count > 1 || h.Count == 1 && bytes.IndexByte(h.Value, ',') >= 0
}

// BearerToken returns the token of an Authorization value: the scheme Bearer in
// any case, one space, and one token68 of RFC 9110 (letters, digits and -._~+/,
// then any number of =). The result is borrowed from value, nil if !ok.
func BearerToken(value []byte) (token []byte, ok bool) {
	const scheme = "bearer "
	if len(value) <= len(scheme) {
		return nil, false
	}
	for i := range len(scheme) {
		c := value[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != scheme[i] {
			return nil, false
		}
	}
	token = value[len(scheme):]
	n := 0
	for n < len(token) && token68[token[n]] {
		n++
	}
	if n == 0 {
		return nil, false
	}
	for _, c := range token[n:] {
		if c != '=' {
			return nil, false
		}
	}
	return token, true
}

// token68 are the bytes of a token68 before its padding.
var token68 = func() (set [256]bool) {
	for c := byte('a'); c <= 'z'; c++ {
		set[c], set[c-'a'+'A'] = true, true
	}
	for c := byte('0'); c <= '9'; c++ {
		set[c] = true
	}
	for _, c := range []byte("-._~+/") {
		set[c] = true
	}
	return set
}()
