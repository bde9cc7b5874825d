package admin

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The error codes of RFC 6749 (5.2), RFC 8693 and RFC 6750 that this API gives.
const (
	oauthInvalidRequest   = "invalid_request"
	oauthInvalidClient    = "invalid_client"
	oauthInvalidGrant     = "invalid_grant"
	oauthUnauthorized     = "unauthorized_client"
	oauthUnsupportedGrant = "unsupported_grant_type"
	oauthInvalidScope     = "invalid_scope"
	oauthInvalidTarget    = "invalid_target"
	oauthUnavailable      = "temporarily_unavailable"
	oauthServerError      = "server_error"
)

// oauth reports whether the call's errors have OAuth's form.
func (c *call) oauth() bool { return strings.HasPrefix(c.pattern, "/oauth/") }

// oauthFailure is a 400 with an error code.
func oauthFailure(code, message string) *failure {
	return &failure{status: http.StatusBadRequest, oauth: code, message: message}
}

// invalidGrant is what every refresh token that opens nothing gets: unknown, another
// client's, used, revoked, or past its time.
func invalidGrant(cause error) *failure {
	f := oauthFailure(oauthInvalidGrant, "The refresh token is not valid.")
	f.cause, f.badGrant = cause, true
	return f
}

type oauthErrorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// encodeOAuthError returns the body of an error under /oauth.
func encodeOAuthError(f *failure) []byte {
	code := f.oauth
	switch {
	case code != "":
	case f.status == http.StatusServiceUnavailable, f.status == http.StatusTooManyRequests:
		code = oauthUnavailable
	case f.status >= http.StatusInternalServerError:
		code = oauthServerError
	case f.status == http.StatusUnauthorized:
		code = oauthInvalidClient
	default:
		code = oauthInvalidRequest
	}
	// RFC 6749 admits printable ASCII without the quote and the backslash.
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, f.message)
	body, err := json.Marshal(oauthErrorBody{code, text})
	if err != nil {
		return []byte(`{"error":"server_error"}` + "\n")
	}
	return append(body, '\n')
}
