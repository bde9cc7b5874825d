package admin

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Bounds of a form: the longest token twice over, percent-encoded.
const (
	maxForm       = 64 << 10 // bytes
	maxParameters = 64
)

// form is the body of a request to an OAuth endpoint: each parameter once, none
// empty.
type form map[string]string

// readForm reads the body. Of the query only what a write waits for is admitted:
// parameters there end up in logs, and RFC 6749 forbids them.
func readForm(c *call) (form, error) {
	query, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, oauthFailure(oauthInvalidRequest, "Invalid query string.")
	}
	for name := range query {
		if !c.route.writes || name != "wait" && name != "timeout" {
			return nil, oauthFailure(oauthInvalidRequest, "Parameters go into the body, not into the query.")
		}
	}
	kinds := c.Header["Content-Type"]
	if len(kinds) != 1 {
		return nil, oauthFailure(oauthInvalidRequest, "Send one Content-Type: application/x-www-form-urlencoded.")
	}
	kind, _, err := mime.ParseMediaType(kinds[0])
	if err != nil || kind != "application/x-www-form-urlencoded" || c.Header.Get("Content-Encoding") != "" {
		return nil, oauthFailure(oauthInvalidRequest, "The body must be application/x-www-form-urlencoded.")
	}
	text, err := io.ReadAll(io.LimitReader(c.Body, maxForm+1))
	switch {
	case err != nil:
		f := oauthFailure(oauthInvalidRequest, "The body could not be read to its end.")
		f.cause = errors.Join(errors.New("read the form"), err)
		return nil, f
	case len(text) > maxForm:
		return nil, &failure{status: http.StatusRequestEntityTooLarge, message: "The body is larger than 64 KiB."}
	}
	return parseForm(string(text))
}

// parseForm refuses a parameter that comes twice, as RFC 6749 (3.2) asks: two
// readers might take different ones. An empty one is left out, as if it were not
// there; it counts for coming twice. Values are visible ASCII and blanks, which is
// all that OAuth knows.
func parseForm(text string) (form, error) {
	if strings.Count(text, "&") >= maxParameters {
		return nil, oauthFailure(oauthInvalidRequest, "Too many parameters.")
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, oauthFailure(oauthInvalidRequest, "The body is not a form: a broken escape, or a semicolon.")
	}
	f := make(form, len(values))
	for name, given := range values {
		if len(given) > 1 {
			return nil, oauthFailure(oauthInvalidRequest, "A parameter comes twice.")
		}
		if !printable(given[0]) {
			return nil, oauthFailure(oauthInvalidRequest, "A parameter holds what is not printable ASCII.")
		}
		if given[0] != "" {
			f[name] = given[0]
		}
	}
	return f, nil
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// required returns a parameter, or the error that names it.
func (f form) required(name string) (string, error) {
	if f[name] == "" {
		return "", oauthFailure(oauthInvalidRequest, "The parameter "+name+" is missing.")
	}
	return f[name], nil
}
