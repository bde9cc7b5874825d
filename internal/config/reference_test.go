package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated parts of docs/settings.md")

const referencePage = "../../docs/settings.md"

// reference is the table of settings in Markdown.
func reference() string {
	var b strings.Builder
	b.WriteString("| variable | default | value | meaning |\n|---|---|---|---|\n")
	for _, s := range Table() {
		name := "`" + s.Name + "`"
		if s.Secret {
			name += " (secret)"
		}
		byDefault := s.Default
		if byDefault != "" {
			byDefault = "`" + byDefault + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, byDefault, s.Want, s.Usage)
	}
	return b.String()
}

// replaceBetween replaces what lies between the lines that hold the two texts.
func replaceBetween(t *testing.T, page, begin, end, text string) string {
	t.Helper()
	head, rest, ok := strings.Cut(page, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part between %q and %q", referencePage, begin, end)
	}
	return head + begin + "\n" + text + end + tail
}

func TestReferencePageIsTheTable(t *testing.T) {
	content, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	want := replaceBetween(t, page, "<!-- begin: written by `go test ./internal/config -run TestReference -update` -->", "<!-- end -->", reference())
	if page == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the table says: run this test with -update", referencePage)
	}
	if err := os.WriteFile(referencePage, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTableIsDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Table() {
		if !strings.HasPrefix(s.Name, "AUTH_") || s.Usage == "" || s.Want == "" || s.parse == nil || strings.Contains(s.Usage+s.Want, "|") {
			t.Errorf("%s: name, usage or want", s.Name)
		}
		for _, name := range []string{s.Name, s.Name + FileSuffix} {
			if seen[name] {
				t.Errorf("%s stands twice", name)
			}
		}
		seen[s.Name] = true
		if s.Secret {
			seen[s.Name+FileSuffix] = true
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add("AUTH_JWT_SECRET_KEY=\"a\nB='c$D\n# e\nexport F: g")
	f.Add("\ufeff='")
	f.Fuzz(func(t *testing.T, content string) {
		values, problem := parseEnvFile([]byte(content))
		if (values == nil) != (problem != "") {
			t.Fatalf("values %v and problem %q", values, problem)
		}
		rest := strings.TrimLeft(strings.TrimPrefix(problem, "line "), "0123456789")
		switch rest {
		case "", ": a quote is opened and not closed", ": want NAME=value", "a line is no NAME=value", "it holds a zero byte, so it is no text":
		default:
			t.Errorf("the problem quotes the file: %q", problem)
		}
		expands([]byte(content), "AUTH_JWT_SECRET_KEY", values["AUTH_JWT_SECRET_KEY"])
	})
}
