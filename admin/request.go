package admin

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"portcullis/internal/input"
)

// Limits of what a request may hold. Beyond them it is answered 413 or 414.
const (
	maxBody      = 1 << 20 // bytes
	maxPath      = 8 << 10 // bytes as sent, without the query
	maxQuery     = 8 << 10 // bytes as sent
	maxUserAgent = 256     // bytes kept for the audit
)

// splitPath cuts an escaped path at its slashes and decodes each segment once.
// Nothing is cleaned: "." and ".." and empty segments stay, and %2F is a byte of
// its segment. ok is false for a path that does not begin with a slash or holds
// a broken escape.
func splitPath(escaped string) (segments []string, ok bool) {
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return nil, false
	}
	segments = strings.Split(rest, "/")
	for i, s := range segments {
		if !strings.Contains(s, "%") {
			continue
		}
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, false
		}
		segments[i] = decoded
	}
	return segments, true
}

// requestID returns the caller's X-Request-Id where it is one value of
// [A-Za-z0-9._-]{1,64}, else a random one.
func requestID(h http.Header) string {
	if values := h["X-Request-Id"]; len(values) == 1 && validRequestID(values[0]) {
		return values[0]
	}
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func validRequestID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !plainByte(s[i]) && s[i] != '.' {
			return false
		}
	}
	return true
}

// userAgent is the header as the audit keeps it: bounded, valid UTF-8, no
// control or invisible characters, nothing that begins a tag. Databases and pages
// take some of these for more than text, and a header must not be able to stop a
// write.
func userAgent(h http.Header) string {
	s := h.Get("User-Agent")
	if len(s) > maxUserAgent {
		s = s[:maxUserAgent]
	}
	return strings.Map(func(r rune) rune {
		if input.Unseen(r) || r == utf8.RuneError || r == '<' || r == '>' {
			return '?'
		}
		return r
	}, s)
}

// oneValue returns a query parameter that may be given once, and whether it is
// there. Twice is a 400: two readers might otherwise take different ones.
func oneValue(q url.Values, name string) (value string, given bool, err error) {
	switch values := q[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	}
	return "", false, badRequest("Invalid " + name + ": given more than once.")
}
