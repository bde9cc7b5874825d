package config

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzOrigins: an origin that is taken is written as browsers write it, so that it
// can be compared byte by byte.
func FuzzOrigins(f *testing.F) {
	for _, seed := range []string{"", "*", "https://app.example.com", "https://a.example,https://b.example:8443", "http://[::1]:3000", "HTTPS://A.example", "https://a.example:443", "https://a.example/", "https://a@b.example", "null", "https://a.example\n", "https://a.example,*", "https://b\u00fccher.example", "https://a.example:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c CORS
		if err := parseOrigins(&c, text); err != nil {
			return
		}
		if c.AnyOrigin != (text == "*") || c.AnyOrigin && len(c.Origins) > 0 {
			t.Fatalf("%q became %+v", text, c)
		}
		for i, origin := range c.Origins {
			u, err := url.Parse(origin)
			if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || origin != u.Scheme+"://"+u.Host || origin != strings.ToLower(origin) ||
				slices.Contains(c.Origins[:i], origin) || strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '*' }) {
				t.Fatalf("%q gives the origin %q", text, origin)
			}
		}
	})
}

// FuzzSettings gives every setting a value from outside: it is taken or told by name,
// and a secret's is not told.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{"", "true", "64MiB", "120s", "127.0.0.1:9191,unix:///run/x", "postgres://u:hunter2@h/d", "0", "1e309", "-1", "a\nb", "\x00", "\xff", "all", "-----BEGIN PRIVATE KEY-----\nhunter2", "3f0c1d6e-8a52-4d53-9d0e-6b1f2a7c9e10", "10.0.0.0/8", "0.5", "99999999999999999999d"} {
		f.Add(seed)
	}
	table := Table()
	f.Fuzz(func(t *testing.T, value string) {
		for _, s := range table {
			err := s.parse(&Config{}, value)
			if err == nil {
				continue
			}
			if text := err.Error(); len(text) > 400 || s.Secret && len(value) > 30 && strings.Contains(text, value) {
				t.Errorf("%s=%q: %q", s.Name, value, text)
			}
		}
	})
}
