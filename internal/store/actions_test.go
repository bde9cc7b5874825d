package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestActionsAreAll: a constant of type Action that the list leaves out would be
// found by no search for what was done.
func TestActionsAreAll(t *testing.T) {
	var declared []Action
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if of, ok := v.Type.(*ast.Ident); ok && of.Name == "Action" {
				for _, value := range v.Values {
					text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					declared = append(declared, Action(text))
				}
			}
			return true
		})
	}
	listed := Actions()
	slices.Sort(declared)
	slices.Sort(listed)
	if len(listed) < 40 || !slices.Equal(declared, listed) {
		t.Errorf("listed:   %v\ndeclared: %v", listed, declared)
	}
}
