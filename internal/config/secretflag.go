package config

import (
	"net/url"
	"strings"
)

// withoutPassword reports whether a database URL may stand on a command line.
func withoutPassword(databaseURL string) bool { return !HoldsPassword(databaseURL) }

// HoldsPassword reports whether a database URL holds a password, or might: what
// cannot be told apart counts as one.
func HoldsPassword(databaseURL string) bool {
	_, rest, ok := strings.Cut(databaseURL, "://")
	if !ok {
		return true
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 && strings.Contains(rest[:at], ":") {
		return true
	}
	_, query, _ := strings.Cut(rest, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return true
	}
	for name := range params {
		// password and sslpassword; passfile names a file.
		if strings.Contains(strings.ToLower(name), "password") {
			return true
		}
	}
	return false
}
