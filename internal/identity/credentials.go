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

	// Reason is ReasonOK if every credential that is present is fit to be verified;
	// else why the request is unauthenticated: ReasonMissingCredential,
	// ReasonConflictingCredentials, ReasonInvalidToken or ReasonBadKey.
	Reason policy.Reason
}

// ReadCredentials sorts the values of `authorization`, `x-client-key` and
// `x-api-key` into credentials, and refuses what has no single meaning. It
// verifies nothing and allocates nothing.
//
// A conflict comes before every other reason: more than one value of a kind, a
// comma in one (which is how a proxy joins two), or a user API key both as Bearer
// and in x-api-key. Then Authorization is judged, which must be Bearer, one space and
// one token; then the client key, then the user API key.
func ReadCredentials(authorization, clientKey, apiKey HeaderValue) Credentials {
	var c Credentials
	bearer := policy.ReasonOK
	if authorization.Count > 0 {
		token, ok := bearerToken(authorization.Value)
		switch {
		case ok && bytes.HasPrefix(token, []byte(userKeyPrefix)):
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
	case c.Present&PresentAPIKey != 0 && !IsUserKey(c.APIKey):
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

// bearerToken returns what follows the scheme Bearer, in any case, and one space;
// !ok if that is nothing or holds another space. Which other bytes a token may have
// is left to the verifier, which refuses with the same reason and looks at them
// only once, not on every request.
func bearerToken(value []byte) (token []byte, ok bool) {
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
	if bytes.IndexByte(token, ' ') >= 0 {
		return nil, false
	}
	return token, true
}
