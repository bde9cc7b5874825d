package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
)

// checker follows texts back to constants. It runs over all packages until it finds
// no new function that passes SQL on.
type checker struct {
	module   *module
	decls    map[string]declared // the module's functions, by full name
	table    []exception
	sinks    map[string]sink // of the module's functions, by full name
	byName   map[string]sink // the same by bare name, for calls through interfaces
	grown    bool            // a sink was found in this round
	site     token.Pos       // of the call whose SQL is looked at
	problems map[string]bool
	unused   map[exception]bool
	pkgs     map[string]*facts
}

// facts is what is known of one package.
type facts struct {
	*pkg
	writes *writes
	params map[types.Object]parameter
}

// parameter is where a variable is a parameter of a declared function.
type parameter struct {
	fn    *types.Func
	index int
}

// place is where the check is.
type place struct {
	*facts
	fn string // the declaration that holds it, for the table
}

// check returns what is wrong, one line a problem, in order.
func check(m *module, table []exception) []string {
	c := &checker{module: m, table: table, sinks: map[string]sink{}, byName: map[string]sink{}, pkgs: map[string]*facts{}, decls: map[string]declared{}}
	for _, p := range m.pkgs {
		c.pkgs[p.path] = &facts{p, writesOf(p), parametersOf(p)}
		c.declare(c.pkgs[p.path])
	}
	for c.grown = true; c.grown; {
		c.grown = false
		c.problems = map[string]bool{}
		c.unused = map[exception]bool{}
		for _, e := range table {
			c.unused[e] = true
		}
		for _, p := range m.pkgs {
			if !excluded(c.short(p.path)) {
				c.visit(c.pkgs[p.path])
			}
		}
	}
	for e := range c.unused {
		c.problems[fmt.Sprintf("%s: the table allows %q, and nothing uses that: take the row out", e.function, e.text)] = true
	}
	var out []string
	for p := range c.problems {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func excluded(path string) bool {
	return slices.ContainsFunc(tooling, func(place string) bool { return path == place || strings.HasPrefix(path, place+"/") })
}

func (c *checker) short(path string) string { return strings.TrimPrefix(path, c.module.path+"/") }

func parametersOf(p *pkg) map[types.Object]parameter {
	params := map[types.Object]parameter{}
	for _, file := range p.files {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			obj := p.info.Defs[fn.Name].(*types.Func)
			for i := range obj.Signature().Params().Len() {
				params[obj.Signature().Params().At(i)] = parameter{obj, i}
			}
		}
	}
	return params
}

func (c *checker) visit(f *facts) {
	for _, file := range f.files {
		for _, decl := range file.Decls {
			at := place{facts: f, fn: c.short(f.path)}
			if fn, ok := decl.(*ast.FuncDecl); ok {
				at.fn = c.name(f.info.Defs[fn.Name].(*types.Func))
			}
			called := map[*ast.Ident]bool{}
			ast.Inspect(decl, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if name := calleeIdent(call.Fun); name != nil {
						called[name] = true
					}
					c.call(at, call)
				}
				return true
			})
			ast.Inspect(decl, func(n ast.Node) bool {
				if name, ok := n.(*ast.Ident); ok && !called[name] {
					if fn, ok := f.info.Uses[name].(*types.Func); ok && c.sinkOf(fn) != nil {
						c.site = name.Pos()
						c.refuse(at, name, name, "runs SQL and is used as a value, which cannot be followed: call it")
					}
				}
				return true
			})
		}
	}
}

// call checks the SQL of one call.
func (c *checker) call(at place, call *ast.CallExpr) {
	fn := callee(at.info, call)
	if fn == nil {
		return
	}
	s := c.sinkOf(fn)
	if s == nil {
		return
	}
	c.site = call.Pos()
	signature := fn.Signature()
	if len(call.Args) == 1 && signature.Params().Len() > 1 {
		if _, several := at.info.TypeOf(call.Args[0]).(*types.Tuple); several {
			c.refuse(at, call, call.Args[0], "the arguments come from a function")
			return
		}
	}
	for i := range s {
		last := signature.Params().Len() - 1
		if signature.Variadic() && i == last {
			for _, arg := range call.Args[min(i, len(call.Args)):] {
				c.constant(at, arg, map[types.Object]bool{})
			}
			continue
		}
		c.constant(at, call.Args[i], map[types.Object]bool{})
	}
}

// constant holds an expression to constants. seen are the variables that are being
// looked at.
func (c *checker) constant(at place, e ast.Expr, seen map[types.Object]bool) {
	if at.info.Types[e].Value != nil || at.info.Types[e].IsNil() {
		return
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		c.constant(at, e.X, seen)
		return
	case *ast.BinaryExpr:
		c.constant(at, e.X, seen)
		c.constant(at, e.Y, seen)
		return
	case *ast.Ident:
		c.variable(at, e, origin(at.info.Uses[e]), seen)
		return
	case *ast.SelectorExpr:
		c.variable(at, e, origin(at.info.Uses[e.Sel]), seen)
		return
	case *ast.IndexExpr:
		c.constant(at, e.X, seen)
		return
	case *ast.SliceExpr:
		c.constant(at, e.X, seen)
		return
	case *ast.CompositeLit:
		if _, isStruct := at.info.TypeOf(e).Underlying().(*types.Struct); !isStruct {
			for _, element := range e.Elts {
				if pair, ok := element.(*ast.KeyValueExpr); ok {
					c.constant(at, pair.Key, seen)
					element = pair.Value
				}
				c.constant(at, element, seen)
			}
			return
		}
		return // a struct's fields are followed by themselves
	case *ast.CallExpr:
		if at.info.Types[e.Fun].IsType() { // a conversion
			c.constant(at, e.Args[0], seen)
			return
		}
		if name, ok := ast.Unparen(e.Fun).(*ast.Ident); ok {
			if b, ok := at.info.Uses[name].(*types.Builtin); ok && (b.Name() == "append" || b.Name() == "make") {
				if b.Name() == "append" {
					for _, arg := range e.Args {
						c.constant(at, arg, seen)
					}
				}
				return
			}
		}
		c.result(at, e, seen)
		return
	}
	c.refuse(at, e, e, "cannot be followed")
}

// variable holds everything that is written to a variable or field to constants.
func (c *checker) variable(at place, e ast.Expr, obj types.Object, seen map[types.Object]bool) {
	v, ok := obj.(*types.Var)
	switch {
	case !ok:
		c.refuse(at, e, e, "cannot be followed")
		return
	case seen[v]:
		return
	case v.Pkg() == nil || v.Pkg().Path() != at.path:
		c.refuse(at, e, e, "is another package's variable")
		return
	case v.IsField() && v.Exported():
		c.refuse(at, e, e, "is an exported field, which others may write")
		return
	case v.Exported() && v.Parent() == at.types.Scope():
		c.refuse(at, e, e, "is an exported variable, which others may write")
		return
	}
	seen[v] = true
	if n := at.writes.opaque[v]; n != nil {
		c.refuse(at, e, e, "is written through a pointer or with several results at "+c.where(n.Pos()))
		return
	}
	if p, ok := at.params[v]; ok {
		if p.fn.Exported() {
			c.refuse(at, e, e, "is a parameter of an exported function, which anyone may call")
			return
		}
		c.pass(p)
	} else if !v.IsField() && !at.writes.declared[v] && len(at.writes.values[v])+len(at.writes.ranged[v]) == 0 {
		c.refuse(at, e, e, "cannot be followed: it is the parameter of a function value, a result, or of a type switch")
		return
	}
	for _, value := range at.writes.values[v] {
		c.constant(at, value, seen)
	}
	for _, collection := range at.writes.ranged[v] {
		if carriesSQL(v.Type()) { // an index carries nothing
			c.constant(at, collection, seen)
		}
	}
}

// pass makes a function a sink: what it is called with is SQL.
func (c *checker) pass(p parameter) {
	c.add(c.sinks, p.fn.FullName(), p.index)
	if p.fn.Signature().Recv() != nil {
		c.add(c.byName, p.fn.Name(), p.index)
	}
}

func (c *checker) add(table map[string]sink, name string, index int) {
	if table[name] == nil {
		table[name] = sink{}
	}
	if !table[name][index] {
		table[name][index], c.grown = true, true
	}
}

// refuse notes a problem at the call whose SQL it is, unless the table allows the
// text there.
func (c *checker) refuse(at place, n ast.Node, e ast.Expr, why string) {
	text := types.ExprString(e)
	for _, row := range c.table {
		if row.function == at.fn && row.text == text {
			delete(c.unused, row)
			return
		}
	}
	origin := ""
	if there := c.where(n.Pos()); there != c.where(c.site) {
		origin = " (" + there + ")"
	}
	c.problems[fmt.Sprintf("%s: SQL is built from %s in %s%s, which %s: make the text a constant and pass the value as a parameter",
		c.where(c.site), text, at.fn, origin, why)] = true
}

func (c *checker) where(pos token.Pos) string {
	p := c.module.fset.Position(pos)
	name := p.Filename
	if below, err := filepath.Rel(c.module.dir, name); err == nil {
		name = below
	}
	return fmt.Sprintf("%s:%d", name, p.Line)
}
