package main

import (
	"go/ast"
	"go/types"
	"strings"
)

// A sink is a function that runs a text as SQL. The libraries' are known by name;
// the module's own become sinks as the check finds that they pass a parameter on.

// libraries are where the first sinks are.
var libraries = []string{"database/sql", "github.com/jackc/pgx/v5", "github.com/pressly/goose/v3"}

// methods are the names of functions that take SQL: every parameter of type string,
// and each part of a pgx.Identifier, is of a statement.
var methods = map[string]bool{
	"Query": true, "QueryRow": true, "QueryContext": true, "QueryRowContext": true, "Exec": true, "ExecContext": true,
	"Queue": true, "Prepare": true, "PrepareContext": true, "ExecParams": true, "SendQuery": true, "CopyFrom": true, "CopyTo": true, "QueryFunc": true,
}

// sink says which parameters of a function are SQL, by index.
type sink map[int]bool

// sinkOf returns the parameters of a function that a library, or an interface that
// stands for one, takes as SQL; nil for none.
func (c *checker) sinkOf(fn *types.Func) sink {
	fn = fn.Origin()
	if s := c.sinks[fn.FullName()]; s != nil {
		return s
	}
	signature := fn.Signature()
	if recv := signature.Recv(); recv != nil && types.IsInterface(recv.Type()) {
		// What implements it may be any of ours with that name.
		s := sink{}
		for i := range c.byName[fn.Name()] {
			if i < signature.Params().Len() && carriesSQL(signature.Params().At(i).Type()) {
				s[i] = true
			}
		}
		if len(s) > 0 {
			return s
		}
	}
	if !methods[fn.Name()] || fn.Pkg() == nil || !c.isLibrary(fn) {
		return nil
	}
	s := sink{}
	for i := range signature.Params().Len() {
		if carriesSQL(signature.Params().At(i).Type()) {
			s[i] = true
		}
	}
	if len(s) == 0 {
		return nil
	}
	return s
}

// isLibrary reports whether the function is a library's, or of an interface of ours,
// which a library's type may implement.
func (c *checker) isLibrary(fn *types.Func) bool {
	for _, library := range libraries {
		if path := fn.Pkg().Path(); path == library || strings.HasPrefix(path, library+"/") {
			return true
		}
	}
	recv := fn.Signature().Recv()
	return recv != nil && types.IsInterface(recv.Type()) && c.ours(fn.Pkg())
}

func (c *checker) ours(p *types.Package) bool {
	return p != nil && (p.Path() == c.module.path || strings.HasPrefix(p.Path(), c.module.path+"/"))
}

// carriesSQL reports whether a parameter of a sink's is SQL: a string, or the names
// of which pgx makes an identifier.
func carriesSQL(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Info()&types.IsString != 0
	case *types.Slice:
		basic, ok := u.Elem().Underlying().(*types.Basic)
		return ok && basic.Info()&types.IsString != 0
	}
	return false
}

// callee is the function that a call names; nil where it is a value, a conversion or
// a builtin.
func callee(info *types.Info, call *ast.CallExpr) *types.Func {
	fn, _ := info.Uses[calleeIdent(call.Fun)].(*types.Func)
	return fn
}

// calleeIdent is the identifier that a called expression ends in.
func calleeIdent(e ast.Expr) *ast.Ident {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return e.Sel
	case *ast.IndexExpr:
		return calleeIdent(e.X)
	case *ast.IndexListExpr:
		return calleeIdent(e.X)
	}
	return nil
}
