package policy_test

import (
	"os"
	"testing"

	"portcullis/policy"
)

// The example policy keeps its own promises.
func TestBlog(t *testing.T) {
	src, err := os.ReadFile("testdata/blog.yaml")
	if err != nil {
		t.Fatal(err)
	}
	results, err := policy.RunTests(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 15 {
		t.Errorf("ran %d cases", len(results))
	}
	for _, r := range results {
		if !r.Passed() {
			t.Errorf("line %d: %s: %s", r.Line, r.Name, r.Wrong)
		}
	}
}
