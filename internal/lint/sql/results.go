package main

import (
	"go/ast"
	"go/types"
	"strings"
)

// declared is a function of the module with its body.
type declared struct {
	*facts
	decl *ast.FuncDecl
	fn   *types.Func
}

// textual are functions of the standard library that make a text of their arguments
// and of nothing else, and numeric those that write a number, which is no SQL.
var (
	textual = map[string]bool{"strings.Join": true, "strings.Repeat": true, "strings.ReplaceAll": true, "strings.TrimSpace": true, "slices.Clone": true, "slices.Concat": true}
	numeric = map[string]bool{"strconv.Itoa": true, "strconv.FormatInt": true}
)

func (c *checker) declare(f *facts) {
	for _, file := range f.files {
		for _, decl := range file.Decls {
			if decl, ok := decl.(*ast.FuncDecl); ok && decl.Body != nil {
				fn := f.info.Defs[decl.Name].(*types.Func)
				c.decls[fn.FullName()] = declared{f, decl, fn}
			}
		}
	}
}

// name is a function as the table has it.
func (c *checker) name(fn *types.Func) string {
	return strings.ReplaceAll(fn.FullName(), c.module.path+"/", "")
}

// result holds what a call returns to constants: every return of the function, and
// what it is given where it returns that.
func (c *checker) result(at place, call *ast.CallExpr, seen map[types.Object]bool) {
	fn := callee(at.info, call)
	if fn == nil {
		c.refuse(at, call, call, "is what a function value returns")
		return
	}
	fn = fn.Origin()
	switch {
	case numeric[fn.FullName()]:
		return
	case textual[fn.FullName()]:
		for _, arg := range call.Args {
			if carriesSQL(at.info.TypeOf(arg)) {
				c.constant(at, arg, seen)
			}
		}
		return
	}
	bodies := c.bodies(fn)
	if len(bodies) == 0 {
		c.refuse(at, call, call, "is what a function outside of the module returns")
		return
	}
	for _, d := range bodies {
		if seen[d.fn] {
			continue
		}
		seen[d.fn] = true
		c.returns(d, seen)
	}
}

// bodies are the functions that a call of fn may run: fn, or, where it is an
// interface's, every method of its package that has the name.
func (c *checker) bodies(fn *types.Func) []declared {
	if d, ok := c.decls[fn.FullName()]; ok {
		return []declared{d}
	}
	recv := fn.Signature().Recv()
	if recv == nil || !types.IsInterface(recv.Type()) || recv.Type().(*types.Named).Obj().Exported() {
		return nil // an exported interface may be met anywhere
	}
	its := recv.Type().Underlying().(*types.Interface)
	var out []declared
	for _, d := range c.decls {
		if d.fn.Name() != fn.Name() || d.fn.Signature().Recv() == nil || d.path != fn.Pkg().Path() {
			continue
		}
		if types.Implements(d.fn.Signature().Recv().Type(), its) {
			out = append(out, d)
		}
	}
	return out
}

func (c *checker) returns(d declared, seen map[types.Object]bool) {
	at := place{facts: d.facts, fn: c.name(d.fn)}
	ast.Inspect(d.decl.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if len(n.Results) != 1 || d.fn.Signature().Results().Len() != 1 {
				c.refuse(at, n, d.decl.Name, "returns what cannot be followed")
				return false
			}
			c.constant(at, n.Results[0], seen)
		}
		return true
	})
}
