package admin

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// The patterns of Auth's API, as its page has them, on the whole string.
var (
	userPattern       = regexp.MustCompile(`\A[a-zA-Z0-9_.@+-]{1,64}\z`)
	rolePattern       = regexp.MustCompile(`\A[a-zA-Z0-9_-]{1,64}\z`)
	permissionPattern = regexp.MustCompile(`\A[a-zA-Z0-9_-]{1,128}\z`)
)

func TestNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, c := range []struct {
		rule  nameRule
		admit []string
		deny  []string
	}{
		{ruleRole,
			[]string{"a", "editor", "Editor_2-b", "0", "-", "_", long(64)},
			[]string{"", "a b", "a.b", "a@b", "a+b", "a:b", "a/b", "éditeur", "editor\n", "\neditor", "editor\x00", long(65)}},
		{ruleUser,
			[]string{"alice", "first.last+tag@example-site.org", "...", "a..b", ".a", long(64)},
			[]string{"", ".", "..", "al ice", "al/ice", "alice\n", "alice\r\n", "alice\x00", "al:ice", "ali\u0441e", long(65)}},
		{rulePermission,
			[]string{"edit_content", "edit-content", long(128)},
			[]string{"", "edit content", "edit.content", "edit:content", "edit\n", long(129)}},
	} {
		for _, s := range c.admit {
			if got := c.rule.check(s); got != "" {
				t.Errorf("%s %q is refused: %s", c.rule.what, s, got)
			}
		}
		for _, s := range c.deny {
			if got := c.rule.check(s); !strings.HasPrefix(got, "Invalid "+c.rule.what+": ") {
				t.Errorf("%s %q: %q, want a refusal", c.rule.what, s, got)
			}
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "alice", "a.b@c+d", ".", "..", "a\n", "a\x00", "é", "\xff", strings.Repeat("a", 64), strings.Repeat("b", 129)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := ruleRole.admits(s), rolePattern.MatchString(s); got != want {
			t.Errorf("role %q: %t, the pattern says %t", s, got, want)
		}
		if got, want := rulePermission.admits(s), permissionPattern.MatchString(s); got != want {
			t.Errorf("permission %q: %t, the pattern says %t", s, got, want)
		}
		if got, want := ruleUser.admits(s), userPattern.MatchString(s) && s != "." && s != ".."; got != want {
			t.Errorf("user %q: %t, the pattern says %t", s, got, want)
		}
		if message := ruleRole.check(s); len(message) > 600 || strings.ContainsAny(message, "\x7f\u202e\u200b") {
			t.Errorf("role %q: message %q", s, message)
		}
	})
}

func TestRequestID(t *testing.T) {
	for _, c := range []struct {
		sent []string
		kept bool
	}{
		{[]string{"Trace_1.2-3"}, true},
		{[]string{strings.Repeat("a", 64)}, true},
		{nil, false},
		{[]string{""}, false},
		{[]string{"a b"}, false},
		{[]string{"a/b"}, false},
		{[]string{"a\n"}, false},
		{[]string{"<script>"}, false},
		{[]string{strings.Repeat("a", 65)}, false},
		{[]string{"one", "two"}, false},
	} {
		got := requestID(map[string][]string{"X-Request-Id": c.sent})
		if kept := len(c.sent) == 1 && got == c.sent[0]; kept != c.kept {
			t.Errorf("%q became %q: kept %t, want %t", c.sent, got, kept, c.kept)
		}
		if !validRequestID(got) {
			t.Errorf("%q became %q", c.sent, got)
		}
	}
	if a, b := requestID(nil), requestID(nil); a == b {
		t.Errorf("two requests share the id %q", a)
	}
}

func TestUserAgentIsKeptHarmless(t *testing.T) {
	for sent, want := range map[string]string{
		"curl/8.5":                     "curl/8.5",
		"":                             "",
		"a\xffb":                       "a?b",
		"a\tb\u0085c":                  "a?b?c",
		"é":                            "é",
		"<script>alert(1)</script>":    "?script?alert(1)?/script?",
		"a\u202eb\u200bc\u2028d":       "a?b?c?d",
		strings.Repeat("é", 200):       strings.Repeat("é", 128),
		"x" + strings.Repeat("é", 200): "x" + strings.Repeat("é", 127) + "?",
	} {
		if got := userAgent(map[string][]string{"User-Agent": {sent}}); got != want {
			t.Errorf("%q became %q, want %q", sent, got, want)
		}
	}
}

func TestSplitPath(t *testing.T) {
	for path, want := range map[string][]string{
		"/":                 {""},
		"/ping":             {"ping"},
		"/api/role/a%2Fb":   {"api", "role", "a/b"},
		"/api//roles":       {"api", "", "roles"},
		"/api/../roles":     {"api", "..", "roles"},
		"/api/role/%2e%2e":  {"api", "role", ".."},
		"/api/role/%252e":   {"api", "role", "%2e"}, // decoded once
		"/api/role/a+b":     {"api", "role", "a+b"}, // '+' is no blank
		"/api/role/a%00%0A": {"api", "role", "a\x00\n"},
		"":                  nil,
		"*":                 nil,
		"api/roles":         nil,
		"/api/%zz":          nil,
		"/api/%2":           nil,
	} {
		got, ok := splitPath(path)
		if ok != (want != nil) || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%q: %q, %t: want %q", path, got, ok, want)
		}
	}
}

func TestARouteTableThatContradictsItselfIsRefused(t *testing.T) {
	for what, table := range map[string][]route{
		"the same route twice":     {{method: "GET", pattern: "/a"}, {method: "GET", pattern: "/a"}},
		"a parameter without rule": {{method: "GET", pattern: "/a/{user}"}},
		"a rule without parameter": {{method: "GET", pattern: "/a", names: []nameRule{ruleUser}}},
	} {
		if _, err := newRouter(table); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestTimestamp(t *testing.T) {
	for in, want := range map[string]string{
		"2026-01-02T03:04:05Z":                "2026-01-02T03:04:05",
		"2026-01-02T03:04:05.1Z":              "2026-01-02T03:04:05.100000",
		"2026-01-02T03:04:05.123456789+02:00": "2026-01-02T01:04:05.123456",
		"2026-01-02T03:04:05.000000999Z":      "2026-01-02T03:04:05",
	} {
		at, err := time.Parse(time.RFC3339Nano, in)
		if err != nil {
			t.Fatal(err)
		}
		if got := timestamp(at); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
