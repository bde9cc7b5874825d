package main

import (
	"regexp"
	"strings"
	"testing"

	"portcullis/internal/identity"
)

// FuzzNames holds what commands admit as names against the patterns of the
// reference, on the whole string.
func FuzzNames(f *testing.F) {
	for _, s := range []string{
		"", "a", "alice@example.com", "posts:delete", "a b", "a\n", "\na", "a\r\nb", "a\x00", "é", "\xff", "а", "' OR 1=1--", "<script>",
		strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("a", 129), strings.Repeat("a", 256),
	} {
		f.Add(s)
	}
	type class struct {
		what    string
		check   func(string) error
		pattern *regexp.Regexp
		most    int
	}
	classes := []class{
		{"role", checkRoleName, regexp.MustCompile(`\A[a-zA-Z0-9_-]+\z`), 64},
		{"tenant", checkTenantName, regexp.MustCompile(`\A[a-zA-Z0-9_.-]+\z`), 64},
		{"key", checkKeyName, regexp.MustCompile(`\A[a-zA-Z0-9_.-]+\z`), 64},
		{"permission", checkPermissionName, regexp.MustCompile(`\A[a-zA-Z0-9_.:/-]+\z`), 128},
		{"principal", checkPrincipalID, regexp.MustCompile(`\A[!-~]+\z`), identity.MaxSubjectSize},
		{"jti", checkTokenWord, regexp.MustCompile(`\A[ -~]+\z`), 256},
		{"issuer", checkIssuer, regexp.MustCompile(`\A[ -~]+\z`), 1024},
		{"label", checkLabel, regexp.MustCompile(`\A[a-zA-Z0-9 _.-]*\z`), 64},
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range classes {
			want := c.pattern.MatchString(s) && len(s) <= c.most
			if err := c.check(s); (err == nil) != want {
				t.Errorf("%s %q: %v, the pattern says %t", c.what, s, err, want)
			} else if err != nil && (len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\x00\n\x1b")) {
				t.Errorf("%s %q: the error %q", c.what, s, err)
			}
		}
	})
}
