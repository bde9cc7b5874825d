package main

import (
	"strings"
	"testing"
)

func TestForbiddenImportsAreFound(t *testing.T) {
	for _, c := range []struct {
		from, imports string
		want          string // part of the problem, "" if it is allowed
	}{
		{"policy", "strings", ""},
		{"policy", "go.yaml.in/yaml/v3", ""},
		{"policy", "m/internal/store", "direction"},
		{"policy", "google.golang.org/grpc", "libraries"},
		{"internal/store", "m/policy", ""},
		{"internal/store", "m/cache", "direction"},
		{"internal/store/sqlite", "m/internal/store", ""},
		{"internal/store/sqlite", "m/internal/store/postgres", "direction"},
		{"internal/store/sqlite/migrations", "modernc.org/sqlite/lib", ""},
		{"internal/store/postgres", "modernc.org/sqlite", "libraries"},
		{"internal/authdata", "database/sql", ""},
		{"internal/authdata", "m/internal/store", "direction"},
		{"cache", "m/internal/store", ""},
		{"cache", "m/internal/store/sqlite", "direction"},
		{"cache", "m/extauthz", "direction"},
		{"extauthz", "m/cache", ""},
		{"extauthz", "m/internal/store", "direction"},
		{"extauthz", "database/sql", "database"},
		{"admin", "github.com/jackc/pgx/v5", "database"},
		{"admin", "example.com/pgx", ""},
		{"envoy", "m/extauthz", "direction"},
		{"cmd/portcullis", "m/internal/store/sqlite", ""},
		{"internal/demo", "m/cmd/portcullis", "nothing imports cmd"},
		{"newcomer", "strings", "no row"},
	} {
		problems := check("m", []pkg{{ImportPath: "m/" + c.from, Imports: []string{c.imports}}}, directions)
		switch got := strings.Join(problems, "; "); {
		case c.want == "" && got != "":
			t.Errorf("%s -> %s is refused: %s", c.from, c.imports, got)
		case c.want != "" && !strings.Contains(got, c.want):
			t.Errorf("%s -> %s: %q, want a problem with %q", c.from, c.imports, got, c.want)
		}
	}
}

func TestTestsMayImportAnythingButCommands(t *testing.T) {
	p := pkg{ImportPath: "m/policy", TestImports: []string{"m/internal/testkit"}, XTestImports: []string{"m/policy", "m/cmd/portcullis"}}
	if problems := check("m", []pkg{p}, directions); len(problems) != 1 || !strings.Contains(problems[0], "nothing imports cmd") {
		t.Errorf("problems %q, want the command alone", problems)
	}
}

func TestThisModuleKeepsTheDirections(t *testing.T) {
	module, pkgs, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list shows no packages")
	}
	for _, problem := range check(module, pkgs, directions) {
		t.Error(problem)
	}
}
