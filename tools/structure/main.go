// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command structure says how the code hangs together: for each package its files and
// lines, its longest function, and how many of the dependencies between its files no
// order of them can make point downwards. Run it in a checkout of any commit to
// compare two of them:
//
//	go run -C tools/structure . ../..
//
// With -edges it also lists those dependencies; with -most n it fails if a package has
// more than n of them. Arguments after the directory name the packages.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/types"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/tools/go/packages"
)

func main() {
	log.SetFlags(0)
	edges := flag.Bool("edges", false, "list the dependencies that point upwards")
	most := flag.Int("most", -1, "fail if a package has more of them")
	flag.Parse()
	if flag.NArg() == 0 {
		log.Fatal("usage: structure [-edges] [-most n] directory [package...]")
	}
	patterns := flag.Args()[1:]
	if len(patterns) == 0 {
		patterns = []string{".", "./internal/..."}
	}
	pkgs, err := load(flag.Arg(0), patterns)
	if err != nil {
		log.Fatal(err)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	line := func(cells ...any) { // Flush has the error
		_, _ = fmt.Fprintln(table, strings.ReplaceAll(strings.TrimSpace(fmt.Sprintln(cells...)), " ", "\t"))
	}
	line("package", "files", "lines", "code", "longest-function", "dependencies", "upward")
	var upward []string
	tooMany := false
	for _, p := range pkgs {
		s := measure(p)
		line(p.PkgPath, s.files, s.lines, s.code, s.longest, len(s.edges), len(s.upward))
		for _, e := range s.upward {
			upward = append(upward, fmt.Sprintf("%s: %s uses %s (%s)", p.Name, e.from, e.to, strings.Join(s.edges[e], ", ")))
		}
		tooMany = tooMany || *most >= 0 && len(s.upward) > *most
	}
	if err := table.Flush(); err != nil {
		log.Fatal(err)
	}
	if *edges || tooMany {
		fmt.Println(strings.Join(upward, "\n"))
	}
	if tooMany {
		log.Fatalf("more than %d dependencies between the files of a package point upwards", *most)
	}
}

// load reads packages of the module in a directory, without their tests.
func load(dir string, patterns []string) ([]*packages.Package, error) {
	pkgs, err := packages.Load(&packages.Config{
		Dir: dir, Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo,
	}, patterns...)
	if err != nil {
		return nil, err
	}
	for _, p := range pkgs {
		if len(p.Errors) > 0 {
			return nil, p.Errors[0]
		}
	}
	return pkgs, nil
}

// edge is a dependency: one file uses what another one declares.
type edge struct{ from, to string }

type structure struct {
	files, lines, code, longest int
	edges                       map[edge][]string // with what is used
	upward                      []edge
}

func measure(p *packages.Package) structure {
	s := structure{edges: map[edge][]string{}}
	nameOf := func(n ast.Node) string { return filepath.Base(p.Fset.Position(n.Pos()).Filename) }
	for _, file := range p.Syntax {
		s.files++
		s.lines += p.Fset.File(file.Pos()).LineCount() - 1
		s.code += codeLines(p, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if f, ok := n.(*ast.FuncDecl); ok {
				s.longest = max(s.longest, p.Fset.Position(f.End()).Line-p.Fset.Position(f.Pos()).Line+1)
			}
			return true
		})
	}
	for id, object := range p.TypesInfo.Uses {
		if object.Pkg() != p.Types || !object.Pos().IsValid() || isReceiver(object) {
			continue
		}
		e := edge{nameOf(id), filepath.Base(p.Fset.Position(object.Pos()).Filename)}
		if e.from != e.to && !slices.Contains(s.edges[e], object.Name()) {
			s.edges[e] = append(s.edges[e], object.Name())
		}
	}
	for e := range s.edges {
		slices.Sort(s.edges[e])
	}
	s.upward = upward(slices.SortedFunc(maps.Keys(s.edges), func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	}))
	return s
}

// isReceiver reports whether an object is a struct type on which a package hangs its
// methods, or a field of one. Go declares it in one file and its methods in many, so
// that all of them would depend on each other by it.
func isReceiver(object types.Object) bool {
	if v, ok := object.(*types.Var); ok && v.IsField() {
		return true
	}
	name, ok := object.(*types.TypeName)
	if !ok {
		return false
	}
	named, ok := name.Type().(*types.Named)
	return ok && named.NumMethods() > 0 && isStruct(named)
}

func isStruct(named *types.Named) bool {
	_, ok := named.Underlying().(*types.Struct)
	return ok
}

// codeLines counts the lines on which something other than a comment stands.
func codeLines(p *packages.Package, file *ast.File) int {
	lines := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.Comment, *ast.CommentGroup:
			return false
		case *ast.BasicLit, *ast.Ident:
			for line := p.Fset.Position(n.Pos()).Line; line <= p.Fset.Position(n.End()).Line; line++ {
				lines[line] = true
			}
		}
		lines[p.Fset.Position(n.Pos()).Line] = true
		lines[p.Fset.Position(n.End()-1).Line] = true
		return true
	})
	return len(lines)
}

// upward returns the dependencies that point upwards in the best order of the files
// that a search finds: the order with the fewest of them. It moves one file at a time
// to its best place, from several beginnings, until no move helps.
func upward(edges []edge) []edge {
	files := map[string]bool{}
	for _, e := range edges {
		files[e.from], files[e.to] = true, true
	}
	order := slices.Sorted(maps.Keys(files))
	best := improve(order, edges)
	for range order { // each beginning is the one before, turned by one
		order = append(order[1:], order[0])
		if next := improve(order, edges); len(against(next, edges)) < len(against(best, edges)) {
			best = next
		}
	}
	return against(best, edges)
}

// against returns the dependencies of lower files on higher ones.
func against(order []string, edges []edge) []edge {
	place := map[string]int{}
	for i, file := range order {
		place[file] = i
	}
	var up []edge
	for _, e := range edges {
		if place[e.from] < place[e.to] {
			up = append(up, e)
		}
	}
	return up
}

func improve(begin []string, edges []edge) []string {
	order, count := begin, len(against(begin, edges))
	for moved := true; moved; {
		moved = false
		for _, file := range begin {
			i := slices.Index(order, file)
			without := slices.Delete(slices.Clone(order), i, i+1)
			for j := range order {
				next := slices.Insert(slices.Clone(without), j, file)
				if n := len(against(next, edges)); n < count {
					order, count, moved = next, n, true
				}
			}
		}
	}
	return order
}
