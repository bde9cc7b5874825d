package policy_test

import (
	"os"
	"strings"
	"testing"

	"portcullis/policy"
)

// The examples of the reference page are what the page says they are.
func TestReferencePage(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(page), "```yaml\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		if strings.HasPrefix(block, "issuers:") {
			if n := len(mustCompile(t, "version: 1\n"+block+"rules: []\n").Issuers()); n != 2 {
				t.Errorf("%d issuers", n)
			}
			continue
		}
		blocks = append(blocks, block)
	}
	if len(blocks) != 6 {
		t.Fatalf("%d examples", len(blocks))
	}
	file, nested, tied, tests := blocks[0], "version: 1\n"+blocks[1], "version: 1\n"+blocks[2], blocks[5]
	conditions, shadow := blocks[3], blocks[4]

	mustCompile(t, file)
	if got := mustCompile(t, conditions).ConditionHeaders(); len(got) != 1 || got[0] != "x-desk" {
		t.Errorf("the conditions read %v", got)
	}
	if r := mustCompile(t, shadow).MatchShadow("GET", "", "/posts/1"); r == nil || r.Name != "members-only" {
		t.Errorf("the shadow rule is %v", r)
	}
	p := mustCompile(t, nested)
	for path, want := range map[string]string{"/posts/1": "read-post", "/posts/new": "new-post"} {
		if r := p.Match("GET", "", path); r == nil || r.Name != want {
			t.Errorf("GET %s: %v", path, r)
		}
	}

	_, err = policy.Compile([]byte(tied))
	shown := strings.Split(string(page), "```text\n")[1]
	shown, _, _ = strings.Cut(shown, "\n```")
	if err == nil || err.Error() != strings.ReplaceAll(shown, "\n", " ") {
		t.Errorf("got\n%v\nthe page shows\n%s", err, shown)
	}

	results, err := policy.RunTests([]byte(file), []byte(tests))
	if err != nil || len(results) != 3 {
		t.Fatalf("%d results: %v", len(results), err)
	}
	for _, r := range results {
		if !r.Passed() {
			t.Errorf("%s: %s", r.Name, r.Wrong)
		}
	}
}
