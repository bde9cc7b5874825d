// Command imports checks that the module's packages import one another in one
// direction only, as its table says. It prints what is wrong and exits with 1.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// pkg is a package as `go list` shows it.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func main() { os.Exit(run(os.Stdout, os.Stderr)) }

func run(stdout, stderr io.Writer) int {
	module, pkgs, err := list()
	if err != nil {
		fmt.Fprintln(stderr, "imports:", err)
		return 2
	}
	problems := check(module, pkgs, directions)
	for _, problem := range problems {
		fmt.Fprintln(stdout, problem)
	}
	if len(problems) > 0 {
		return 1
	}
	return 0
}

// list asks the go command for the module's name and packages.
func list() (string, []pkg, error) {
	module, err := goList("-m")
	if err != nil {
		return "", nil, err
	}
	out, err := goList("-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	if err != nil {
		return "", nil, err
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return strings.TrimSpace(string(module)), pkgs, nil
		case err != nil:
			return "", nil, fmt.Errorf("read go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
}

func goList(args ...string) ([]byte, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

// check returns what is wrong, one line a problem.
func check(module string, pkgs []pkg, table []direction) []string {
	var problems []string
	for _, p := range pkgs {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		dir := find(table, from)
		if dir == nil {
			problems = append(problems, fmt.Sprintf("%s: no row of the table says what it may import", from))
			continue
		}
		for _, path := range p.Imports {
			if why := forbidden(module, from, path, dir); why != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", from, path, why))
			}
		}
		// Tests may stand on anything, except that nothing imports commands.
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if path != p.ImportPath && isCommand(module, path) {
				problems = append(problems, fmt.Sprintf("%s's tests import %s: nothing imports cmd", from, path))
			}
		}
	}
	return problems
}

// forbidden says why from may not import path, "" if it may.
func forbidden(module, from, path string, dir *direction) string {
	if isCommand(module, path) {
		return "nothing imports cmd"
	}
	if slices.ContainsFunc(databases, func(db string) bool { return under(path, db) }) && !inAny(database, from) {
		return "only the stores speak to a database"
	}
	if to, ok := strings.CutPrefix(path, module+"/"); ok {
		if !inAny(dir.house, to) {
			return "against the direction of imports"
		}
		return ""
	}
	standard := !strings.Contains(strings.SplitN(path, "/", 2)[0], ".")
	if standard || slices.Contains(dir.libraries, anyLibrary) ||
		slices.ContainsFunc(dir.libraries, func(lib string) bool { return under(path, strings.TrimSuffix(lib, "/")) }) {
		return ""
	}
	return "not one of the libraries that this package may use"
}

func isCommand(module, path string) bool { return under(path, module+"/cmd") }

// find returns the row with the longest place that holds pkg.
func find(table []direction, pkg string) *direction {
	var best *direction
	for i := range table {
		if in(table[i].place, pkg) && (best == nil || len(table[i].place) > len(best.place)) {
			best = &table[i]
		}
	}
	return best
}

func inAny(places []string, pkg string) bool {
	return slices.ContainsFunc(places, func(place string) bool { return in(place, pkg) })
}

func in(place, pkg string) bool {
	if place == "..." {
		return true
	}
	if root, ok := strings.CutSuffix(place, "/..."); ok {
		return under(pkg, root)
	}
	return pkg == place
}

func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
