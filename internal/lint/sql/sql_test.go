package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func lines(t *testing.T, problems []string) []string {
	t.Helper()
	var out []string
	for _, p := range problems {
		parts := strings.SplitN(p, ":", 3)
		if len(parts) != 3 {
			t.Errorf("no place in %q", p)
			continue
		}
		if at := parts[0] + ":" + parts[1]; !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return out
}

func problemsOf(t *testing.T, folder string, table []exception) []string {
	t.Helper()
	m, err := load("testdata", folder)
	if err != nil {
		t.Fatal(err)
	}
	return check(m, table)
}

func TestConstantsPass(t *testing.T) {
	if problems := problemsOf(t, "./good", nil); len(problems) > 0 {
		t.Errorf("refused:\n%s", strings.Join(problems, "\n"))
	}
}

// Each line that carries the word is found, and no other.
func TestWhatIsBuiltFromInputIsFound(t *testing.T) {
	source, err := os.ReadFile("testdata/bad/bad.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	scanner := bufio.NewScanner(bytes.NewReader(source))
	for n := 1; scanner.Scan(); n++ {
		if strings.HasSuffix(scanner.Text(), "// want") {
			want = append(want, fmt.Sprintf("bad/bad.go:%d", n))
		}
	}
	slices.Sort(want)
	problems := problemsOf(t, "./bad", nil)
	got := lines(t, problems)
	for _, at := range want {
		if !slices.Contains(got, at) {
			t.Errorf("%s is not found", at)
		}
	}
	for _, at := range got {
		if !slices.Contains(want, at) {
			t.Errorf("%s is found, and is fine: %s", at, problems[slices.IndexFunc(problems, func(p string) bool { return strings.HasPrefix(p, at+":") })])
		}
	}
	if len(want) < 25 {
		t.Errorf("%d lines are marked", len(want))
	}
}

func TestTheTableAllowsOneTextInOneFunction(t *testing.T) {
	row := exception{"bad.input", "fmt.Sprint(name)", "a test"}
	all, less := problemsOf(t, "./bad", nil), problemsOf(t, "./bad", []exception{row})
	all = slices.DeleteFunc(all, func(p string) bool { return strings.Contains(p, "built from fmt.Sprint(name) in bad.input ") })
	if len(all) == 0 || !slices.Equal(all, less) {
		t.Errorf("with the row\n%s\nwant\n%s", strings.Join(less, "\n"), strings.Join(all, "\n"))
	}
	stale := exception{"bad.input", "nothing", "a test"}
	if problems := problemsOf(t, "./good", []exception{stale}); len(problems) != 1 || !strings.Contains(problems[0], "take the row out") {
		t.Errorf("a row that nothing uses: %q", problems)
	}
}

// The module itself is clean, and every row of its table says why.
func TestTheModule(t *testing.T) {
	m, err := load("../../..", "./...")
	if err != nil {
		t.Fatal(err)
	}
	if problems := check(m, allowed); len(problems) > 0 {
		t.Errorf("%s", strings.Join(problems, "\n"))
	}
	for _, row := range allowed {
		if row.reason == "" {
			t.Errorf("%s: no reason", row.function)
		}
	}
}
