package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is what is checked: the module's packages without their tests, with types.
type module struct {
	path string // the module's
	dir  string // where it lies
	fset *token.FileSet
	pkgs []*pkg
}

type pkg struct {
	path  string
	files []*ast.File
	info  *types.Info
	types *types.Package
}

// listed is a package as `go list` shows it.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	CgoFiles   []string
	Export     string // a file with the types of what it exports
	Standard   bool
	Module     *struct{ Path string }
	ImportMap  map[string]string
}

// load type-checks the packages of the module at dir that the patterns name. Others
// come from the compiler's export data, which `go list` has made.
func load(dir string, patterns ...string) (*module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-export", "-json=ImportPath,Dir,GoFiles,CgoFiles,Export,Standard,Module,ImportMap"}, patterns...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	name := exec.Command("go", "list", "-m", "-f", "{{.Path}}\n{{.Dir}}")
	name.Dir = dir
	path, err := name.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	about := strings.Split(strings.TrimSpace(string(path)), "\n")
	if len(about) != 2 {
		return nil, fmt.Errorf("go list -m: %q", about)
	}
	m := &module{path: about[0], dir: about[1], fset: token.NewFileSet()}
	exports := map[string]string{}
	var ours []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		exports[l.ImportPath] = l.Export
		if l.Module != nil && l.Module.Path == m.path {
			ours = append(ours, l)
		}
	}
	if len(ours) == 0 {
		return nil, errors.New("go list found no package of the module")
	}
	others := importer.ForCompiler(m.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	for _, l := range ours {
		if len(l.CgoFiles) > 0 {
			return nil, fmt.Errorf("%s uses cgo, which this check does not read", l.ImportPath)
		}
		p := &pkg{path: l.ImportPath}
		for _, name := range l.GoFiles {
			file, err := parser.ParseFile(m.fset, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			p.files = append(p.files, file)
		}
		if err := p.check(m.fset, others); err != nil {
			return nil, fmt.Errorf("%s: %w", l.ImportPath, err)
		}
		m.pkgs = append(m.pkgs, p)
	}
	return m, nil
}

func (p *pkg) check(fset *token.FileSet, imports types.Importer) (err error) {
	p.info = &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	p.types, err = (&types.Config{Importer: imports}).Check(p.path, fset, p.files, p.info)
	return err
}
