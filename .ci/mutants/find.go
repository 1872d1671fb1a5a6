package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// mutation replaces a part of one file.
type mutation struct {
	of            *pkg
	file          string
	line          int
	from, to      int // bytes
	before, after string
	code          string // the current line, trimmed
}

// finder collects the mutations of one file.
type finder struct {
	of   *pkg
	set  *token.FileSet
	file string
	text []byte
	list []mutation
}

// mutations lists all possible mutations of a package's files.
func (p *pkg) mutations() ([]mutation, error) {
	var list []mutation
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		f := &finder{of: p, set: token.NewFileSet(), file: path, text: text}
		tree, err := parser.ParseFile(f.set, path, text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		if ast.IsGenerated(tree) {
			continue
		}
		ast.Inspect(tree, f.visit)
		list = append(list, f.list...)
	}
	return list, nil
}

// swaps maps an operator to its replacements.
var swaps = map[token.Token][]token.Token{
	token.LSS: {token.LEQ, token.GEQ}, token.LEQ: {token.LSS, token.GTR},
	token.GTR: {token.GEQ, token.LEQ}, token.GEQ: {token.GTR, token.LSS},
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.MUL},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.AND: {token.OR}, token.OR: {token.AND}, token.SHL: {token.SHR}, token.SHR: {token.SHL},
	token.ADD_ASSIGN: {token.SUB_ASSIGN}, token.SUB_ASSIGN: {token.ADD_ASSIGN}, token.MUL_ASSIGN: {token.QUO_ASSIGN},
	token.QUO_ASSIGN: {token.MUL_ASSIGN}, token.OR_ASSIGN: {token.AND_ASSIGN},
	token.INC: {token.DEC}, token.DEC: {token.INC},
}

// neighbours of a number; larger numbers are mostly sizes, where one more is harmless.
var neighbours = map[string]string{"0": "1", "1": "0", "2": "1"}

// visit decides for each node whether to mutate it and its children.
func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec, *ast.Field: // a field's tag and an array's length are not behaviour
		return false
	case *ast.GenDecl: // sizes and times by name
		return n.Tok != token.IMPORT && n.Tok != token.CONST
	case *ast.ExprStmt:
		if f.onlyLogs(n) {
			return false
		}
		f.remove(n)
	case *ast.AssignStmt:
		f.assignment(n)
	case *ast.IncDecStmt:
		f.operator(n.TokPos, n.Tok)
		f.remove(n)
	case *ast.DeferStmt:
		f.remove(n)
	case *ast.BranchStmt:
		if n.Tok == token.CONTINUE || n.Tok == token.BREAK {
			f.remove(n)
		}
	case *ast.IfStmt:
		f.negate(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			f.negate(n.Cond)
		}
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.UnaryExpr:
		if n.Op == token.NOT || n.Op == token.SUB {
			f.replace(n, f.source(n.X))
		}
	case *ast.CallExpr:
		if text := f.source(n.Fun); text == "fmt.Errorf" || text == "errors.New" {
			return false // the text of an error
		}
		f.call(n)
	case *ast.ReturnStmt:
		return f.results(n)
	case *ast.BasicLit:
		if other := neighbours[n.Value]; other != "" {
			f.replace(n, other)
		}
	case *ast.Ident:
		f.constant(n)
	}
	return true
}

func (f *finder) binary(n *ast.BinaryExpr) {
	f.operator(n.OpPos, n.Op)
	if n.Op == token.LAND || n.Op == token.LOR {
		f.replace(n, f.source(n.X))
		f.replace(n, f.source(n.Y))
	}
}

// call removes min and max, keeping each operand once.
func (f *finder) call(n *ast.CallExpr) {
	name, ok := n.Fun.(*ast.Ident)
	if !ok || (name.Name != "min" && name.Name != "max") {
		return
	}
	for _, arg := range n.Args {
		f.replace(n, "("+f.source(arg)+")")
	}
	f.replace(name, map[string]string{"min": "max", "max": "min"}[name.Name])
}

// results hides an error, or turns false into true. Callers ignore the results beside either, so those are not mutated.
func (f *finder) results(n *ast.ReturnStmt) (below bool) {
	if len(n.Results) == 0 {
		return true
	}
	last := n.Results[len(n.Results)-1]
	text := f.source(last)
	if text == "false" && len(n.Results) > 1 {
		f.replace(last, "true")
		return false
	}
	if text != "err" && !strings.HasPrefix(text, "fmt.Errorf(") {
		return true
	}
	f.replace(last, "nil")
	return false
}

func (f *finder) constant(n *ast.Ident) {
	switch n.Name {
	case "true":
		f.replace(n, "false")
	case "false":
		f.replace(n, "true")
	}
}

// assignment removes an assignment, or changes its operator; the right side stays in use.
func (f *finder) assignment(n *ast.AssignStmt) {
	if n.Tok == token.DEFINE {
		return
	}
	f.operator(n.TokPos, n.Tok)
	f.remove(n)
}

func (f *finder) operator(at token.Pos, op token.Token) {
	from := f.set.Position(at).Offset
	for _, other := range swaps[op] {
		f.edit(from, from+len(op.String()), other.String())
	}
}

func (f *finder) negate(cond ast.Expr) { f.replace(cond, "!("+f.source(cond)+")") }

func (f *finder) remove(n ast.Node) { f.replace(n, "") }

func (f *finder) source(n ast.Node) string {
	return string(f.text[f.set.Position(n.Pos()).Offset:f.set.Position(n.End()).Offset])
}

func (f *finder) replace(n ast.Node, after string) {
	f.edit(f.set.Position(n.Pos()).Offset, f.set.Position(n.End()).Offset, after)
}

// edit adds a mutation if it stays on one line.
func (f *finder) edit(from, to int, after string) {
	before := string(f.text[from:to])
	if strings.Contains(before, "\n") {
		return
	}
	line := 1 + strings.Count(string(f.text[:from]), "\n")
	start := strings.LastIndexByte(string(f.text[:from]), '\n') + 1
	end := from + strings.IndexByte(string(f.text[from:])+"\n", '\n')
	f.list = append(f.list, mutation{
		of: f.of, file: f.file, line: line, from: from, to: to, before: before, after: after,
		code: strings.TrimSpace(string(f.text[start:end])),
	})
}

// logs matches the product's log calls.
var logs = regexp.MustCompile(`(?i)^[\w.()]*\b(lc|log|logger|slog|say)\.(trace|debug|info|warn|error|log|print)\w*\(`)

func (f *finder) onlyLogs(n *ast.ExprStmt) bool { return logs.MatchString(f.source(n)) }
