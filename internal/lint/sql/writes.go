package main

import (
	"go/ast"
	"go/token"
	"go/types"
)

// writes is what a package puts into its variables and fields.
type writes struct {
	values map[types.Object][]ast.Expr // each value that is assigned to a whole variable or field
	ranged map[types.Object][]ast.Expr // the collections that a variable runs over
	opaque map[types.Object]ast.Node   // where something else writes it: a pointer, several results
	// declared are the variables that begin with their zero value, which is constant.
	declared map[types.Object]bool
}

func writesOf(p *pkg) *writes {
	w := &writes{map[types.Object][]ast.Expr{}, map[types.Object][]ast.Expr{}, map[types.Object]ast.Node{}, map[types.Object]bool{}}
	for _, file := range p.files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				w.assign(p.info, n)
			case *ast.ValueSpec:
				w.declare(p.info, n)
			case *ast.RangeStmt:
				for _, e := range []ast.Expr{n.Key, n.Value} {
					if obj := target(p.info, e); obj != nil {
						w.ranged[obj] = append(w.ranged[obj], n.X)
					}
				}
			case *ast.UnaryExpr:
				// A pointer to a struct is no pointer to its text: only what names the
				// text itself is.
				if obj := target(p.info, n.X); n.Op == token.AND && obj != nil && (carriesSQL(obj.Type()) || isMap(obj.Type())) {
					w.opaque[obj] = n
				}
			case *ast.CompositeLit:
				w.literal(p.info, n)
			case *ast.CallExpr:
				w.convert(p.info, n)
			}
			return true
		})
	}
	return w
}

func (w *writes) assign(info *types.Info, n *ast.AssignStmt) {
	for i, left := range n.Lhs {
		if index, ok := ast.Unparen(left).(*ast.IndexExpr); ok && len(n.Lhs) == len(n.Rhs) {
			// An element joins what its collection holds, and a map's key too.
			if obj := target(info, index.X); obj != nil {
				w.values[obj] = append(w.values[obj], n.Rhs[i])
				if isMap(obj.Type()) {
					w.values[obj] = append(w.values[obj], index.Index)
				}
			}
			continue
		}
		obj := target(info, left)
		switch {
		case obj == nil:
		case len(n.Lhs) != len(n.Rhs):
			w.opaque[obj] = n
		default: // with += too: the sum is constant where both sides are
			w.values[obj] = append(w.values[obj], n.Rhs[i])
		}
	}
}

func (w *writes) declare(info *types.Info, n *ast.ValueSpec) {
	for i, name := range n.Names {
		obj := info.Defs[name]
		switch {
		case obj == nil:
		case len(n.Values) == 0:
			w.declared[obj] = true
		case len(n.Values) != len(n.Names):
			w.opaque[obj] = n
		default:
			w.values[obj] = append(w.values[obj], n.Values[i])
		}
	}
}

// literal notes what a struct's fields are given.
func (w *writes) literal(info *types.Info, n *ast.CompositeLit) {
	t := info.TypeOf(n)
	if p, ok := t.Underlying().(*types.Pointer); ok { // an element of []*T{{...}}
		t = p.Elem()
	}
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, element := range n.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if name, ok := pair.Key.(*ast.Ident); ok && info.Uses[name] != nil {
				obj := origin(info.Uses[name])
				w.values[obj] = append(w.values[obj], pair.Value)
			}
			continue
		}
		obj := origin(s.Field(i))
		w.values[obj] = append(w.values[obj], element)
	}
}

// convert notes that a struct made of another type's takes over what its fields hold.
func (w *writes) convert(info *types.Info, n *ast.CallExpr) {
	if !info.Types[n.Fun].IsType() {
		return
	}
	t := info.TypeOf(n)
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem()
	}
	if s, ok := t.Underlying().(*types.Struct); ok {
		for i := range s.NumFields() {
			w.opaque[origin(s.Field(i))] = n
		}
	}
}

// target is the variable or field that an expression names as a whole; nil for
// anything else.
func target(info *types.Info, e ast.Expr) types.Object {
	if e == nil {
		return nil
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		if obj := info.Defs[e]; obj != nil {
			return obj
		}
		return origin(info.Uses[e])
	case *ast.SelectorExpr:
		return origin(info.Uses[e.Sel])
	case *ast.StarExpr:
		return target(info, e.X)
	}
	return nil
}

// origin is the variable itself, and of a generic type's field the declared one.
func origin(obj types.Object) types.Object {
	if v, ok := obj.(*types.Var); ok {
		return v.Origin()
	}
	return obj
}

func isMap(t types.Type) bool {
	_, ok := t.Underlying().(*types.Map)
	return ok
}
