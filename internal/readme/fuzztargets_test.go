package readme

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page of the tests names every fuzz target beside its package, and none that is
// not there.
func TestFuzzTargetsAreListed(t *testing.T) {
	page, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	word := regexp.MustCompile(`(?:[a-z]+/)*[a-z]+|Fuzz[A-Za-z0-9]+`)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "Fuzz") {
			continue
		}
		folder := ""
		for _, w := range word.FindAllString(cells[1], -1) {
			if strings.HasPrefix(w, "Fuzz") {
				listed[folder+" "+w] = true
			} else {
				folder = w
			}
		}
	}
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel("../..", filepath.Dir(path))
		for _, m := range target.FindAllStringSubmatch(string(source), -1) {
			key := filepath.ToSlash(folder) + " " + m[1]
			if !listed[key] {
				t.Errorf("docs/testing.md does not list %s", key)
			}
			delete(listed, key)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range listed {
		t.Errorf("docs/testing.md lists %s, which is not there", key)
	}
}
