package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitStatements refuses an if or switch whose condition does not test its init statement, which belongs on a line before it.
func TestInitStatements(t *testing.T) {
	const example = `package example
		func f() {
			if err := g(); err != nil {}
			if s.n, ok = m[k]; s.n > 0 {}
			switch n := g(); { case n > 0: }
			switch n := g().(type) {}
			if delete(m, k); n > 0 {} // refused
			if n++; n > 0 {} // refused
			if n := g(); s.n > 0 {} // refused
			if n > 0 {} else if s.n = g(); n > 0 {} // refused
			switch n := g(); s { case n: } // refused
			switch n := g(); s.(type) {} // refused
		}`
	if refused := untestedLines(t, "example", example); len(refused) != strings.Count(example, "// refused") || refused[0] != 7 {
		t.Errorf("the rule refuses lines %v of\n%s", refused, example)
	}
	names, _ := filepath.Glob("*.go")
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range untestedLines(t, name, string(source)) {
			t.Errorf("%s:%d: the condition does not test the init statement: move it to the line before", name, line)
		}
	}
}

// untestedLines returns the lines of init statements that their if or switch does not test.
func untestedLines(t *testing.T, name, source string) (lines []int) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		var init ast.Stmt
		var tests []ast.Node
		switch node := node.(type) {
		case *ast.IfStmt:
			init, tests = node.Init, []ast.Node{node.Cond}
		case *ast.TypeSwitchStmt:
			init, tests = node.Init, []ast.Node{node.Assign}
		case *ast.SwitchStmt:
			init = node.Init
			if node.Tag != nil {
				tests = []ast.Node{node.Tag}
				break
			}
			for _, clause := range node.Body.List {
				for _, condition := range clause.(*ast.CaseClause).List {
					tests = append(tests, condition)
				}
			}
		}
		if init != nil && !isTested(init, tests) {
			lines = append(lines, files.Position(init.Pos()).Line)
		}
		return true
	})
	return lines
}

// isTested reports whether anything that a statement assigns is used in the tests.
func isTested(init ast.Stmt, tests []ast.Node) (found bool) {
	assignment, isAssignment := init.(*ast.AssignStmt)
	if !isAssignment {
		return false
	}
	assigned := map[string]bool{}
	for _, target := range assignment.Lhs {
		assigned[types.ExprString(target)] = true
	}
	var look func(node ast.Node) bool
	look = func(node ast.Node) bool {
		expression, isExpression := node.(ast.Expr)
		found = found || isExpression && assigned[types.ExprString(expression)]
		if selector, isSelector := node.(*ast.SelectorExpr); isSelector {
			ast.Inspect(selector.X, look) // the name of a field is no variable
			return false
		}
		return true
	}
	for _, test := range tests {
		ast.Inspect(test, look)
	}
	return found
}
