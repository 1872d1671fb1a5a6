package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// sheet is a file with copies of its functions.
type sheet struct {
	tree   *ast.File
	at     func(token.Pos) int // offset of a position in the text
	text   []byte
	edits  []edit                   // of the copied functions
	cases  map[*ast.FuncDecl]string // of the switch at their start
	copied bytes.Buffer
}

// edit replaces a part of a text.
type edit struct {
	from, to int
	after    string
}

// around returns the function to copy for a mutation, if there is one. An init cannot have a switch, and the results of recover and runtime.Caller
// depend on the caller of the function.
func (f *sheet) around(m *mutation) *ast.FuncDecl {
	for _, d := range f.tree.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil || m.from <= f.at(fn.Body.Lbrace) || m.to > f.at(fn.Body.Rbrace) {
			continue
		}
		fits := fn.Name.Name != "init"
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			name, ok := n.(*ast.Ident)
			fits = fits && !(ok && slices.Contains([]string{"recover", "Caller", "Callers"}, name.Name))
			return fits
		})
		if fits {
			return fn
		}
	}
	return nil
}

// add copies a function with a mutation. The line numbers of the function itself do not change.
func (f *sheet) add(m *mutation, fn *ast.FuncDecl, id int) {
	from, to, end := f.at(fn.Name.Pos()), f.at(fn.Name.End()), f.at(fn.End())
	name := fmt.Sprintf("%s__m%d", fn.Name.Name, id)
	for _, part := range [][]byte{[]byte("\n"), f.text[f.at(fn.Type.Func):from], []byte(name), f.text[to:m.from], []byte(m.after), f.text[m.to:end], []byte("\n")} {
		f.copied.Write(part)
	}
	call, names := f.call(fn, name)
	if f.cases[fn] == "" {
		f.edits = append(f.edits, names...)
	}
	f.cases[fn] += fmt.Sprintf(" case %d: %s;", id, call)
}

// call is the statement that passes on a function's parameters, with the edits that name them.
func (f *sheet) call(fn *ast.FuncDecl, name string) (statement string, names []edit) {
	var args, typed []string
	if fn.Recv != nil {
		args, names = f.name(fn.Recv.List[0], 0)
		name, args = args[0]+"."+name, nil
	}
	for i, field := range fn.Type.Params.List {
		some, edits := f.name(field, i+1)
		args, names = append(args, some...), append(names, edits...)
	}
	if fn.Type.TypeParams != nil {
		for _, field := range fn.Type.TypeParams.List {
			some, _ := f.name(field, 0)
			typed = append(typed, some...)
		}
		name += "[" + strings.Join(typed, ", ") + "]"
	}
	statement = name + "(" + strings.Join(args, ", ") + ")"
	if fn.Type.Results == nil {
		return statement + "; return", names
	}
	return "return " + statement, names
}

// name lists the parameters of a field as arguments, and names unnamed ones.
func (f *sheet) name(field *ast.Field, at int) (args []string, names []edit) {
	dots := ""
	if _, ok := field.Type.(*ast.Ellipsis); ok {
		dots = "..."
	}
	if len(field.Names) == 0 {
		arg, from := fmt.Sprintf("p__%d", at), f.at(field.Type.Pos())
		return []string{arg + dots}, []edit{{from, from, arg + " "}}
	}
	for i, x := range field.Names {
		arg := x.Name
		if arg == "_" {
			arg = fmt.Sprintf("p__%d_%d", at, i)
			names = append(names, edit{f.at(x.Pos()), f.at(x.End()), arg})
		}
		args = append(args, arg+dots)
	}
	return args, names
}

// joined is the text with the switches and the copies.
func (f *sheet) joined() []byte {
	edits := f.edits
	for fn, cases := range f.cases {
		at := f.at(fn.Body.Lbrace) + 1
		edits = append(edits, edit{at, at, " switch mutant__now {" + cases + " };"})
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	var text []byte
	at := 0
	for _, e := range edits {
		text = append(append(text, f.text[at:e.from]...), e.after...)
		at = e.to
	}
	return append(append(text, f.text[at:]...), f.copied.Bytes()...)
}
