package suspicious

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestThePageHasTheRules holds docs/audit-suspicious.md to the rules: the table row
// by row, and a section for each that says what it looks at, when it fires and what to
// do.
func TestThePageHasTheRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/audit-suspicious.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	head, _, _ := strings.Cut(page, "\n## ")
	var table strings.Builder
	for _, r := range Rules() {
		threshold := r.Threshold
		if threshold == "" {
			threshold = "one row"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, r.Short, threshold)
	}
	if want := "|---|---|---|---|\n" + table.String() + "\n"; !strings.Contains(head, want) {
		t.Errorf("the table is not\n%s", want)
	}
	sections := strings.Split(page, "\n## ")[1:]
	if len(sections) != len(Rules()) {
		t.Fatalf("%d sections for %d rules", len(sections), len(Rules()))
	}
	for i, r := range Rules() {
		id, body, _ := strings.Cut(sections[i], "\n")
		if id != r.ID {
			t.Errorf("section %q stands where %q belongs", id, r.ID)
			continue
		}
		threshold := "**Threshold**: one row"
		if r.Threshold != "" {
			threshold = "**Threshold**: " + r.Threshold
		}
		for _, want := range []string{"**Looks at**", threshold, "**What to do**: "} {
			if strings.Count(body, want) != 1 {
				t.Errorf("%s: the section lacks %q", r.ID, want)
			}
		}
		for _, action := range r.Actions {
			if !strings.Contains(body, "`"+string(action)+"`") && !strings.Contains(body, "the same rows") {
				t.Errorf("%s: the section does not name %s", r.ID, action)
			}
		}
		if r.ID == WidePermission {
			for _, word := range DefaultWideWords() {
				if !strings.Contains(body, "`"+word+"`") {
					t.Errorf("%s: the section does not name the word %s", r.ID, word)
				}
			}
		}
	}
}

func TestTheRulesAreInOrder(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.ID] || r.ID != strings.ToLower(r.ID) || strings.Trim(r.ID, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%q is no id in kebab-case, or is there twice", r.ID)
		}
		seen[r.ID] = true
		if len(r.Short) == 0 || len(r.Short) > 62 {
			t.Errorf("%s: %q does not fit into a line of the help", r.ID, r.Short)
		}
		switch r.Severity {
		case High, Medium, Low:
		default:
			t.Errorf("%s: %q is no severity", r.ID, r.Severity)
		}
	}
}
