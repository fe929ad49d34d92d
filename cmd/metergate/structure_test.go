package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

// The limits of a room: what is larger is cut where one idea ends and the next begins.
const (
	maxFileLines     = 500
	maxFunctionLines = 80
	maxPackageFiles  = 25
)

// Product files, their functions and their packages stay small enough to be read at once.
// Tests and generated files may be longer.
func TestRoomsStaySmall(t *testing.T) {
	root := testkit.ModuleRoot(t)
	files := map[string]int{} // non-test Go files, by folder
	for _, path := range productFiles(t, root) {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(path) == ".go" {
			files[filepath.Dir(path)]++
		}
		if generated.Match(text) {
			continue
		}
		if n := bytes.Count(text, []byte("\n")); n > maxFileLines {
			t.Errorf("%s has %d lines, the limit is %d", path, n, maxFileLines)
		}
		if filepath.Ext(path) != ".go" {
			continue
		}
		for name, n := range functionLines(t, path, text) {
			if n > maxFunctionLines {
				t.Errorf("%s: the function %s has %d lines, the limit is %d", path, name, n, maxFunctionLines)
			}
		}
	}
	for dir, n := range files {
		if n > maxPackageFiles {
			t.Errorf("%s has %d files that are not tests, the limit is %d", dir, n, maxPackageFiles)
		}
	}
	if len(files) < 8 {
		t.Errorf("only %d folders with Go files were found", len(files))
	}
}

// generated is what the Go tools take for the mark of a generated file.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// productFiles returns the paths, from the module's root, of all Go, JavaScript and Lua
// files that are not tests.
func productFiles(t *testing.T, root string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir(), strings.HasSuffix(path, "_test.go"), !slices.Contains([]string{".go", ".js", ".lua"}, filepath.Ext(path)):
			return nil
		}
		path, err = filepath.Rel(root, path)
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// functionLines returns how many lines each function of a file has, by "folder.Name" or
// "folder.Type.Name".
func functionLines(t *testing.T, path string, text []byte) map[string]int {
	t.Helper()
	positions := gotoken.NewFileSet()
	file, err := parser.ParseFile(positions, path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			receiver := string(text[positions.Position(f.Recv.List[0].Type.Pos()).Offset:positions.Position(f.Recv.List[0].Type.End()).Offset])
			name = strings.TrimPrefix(receiver, "*") + "." + name
		}
		lines[filepath.ToSlash(filepath.Dir(path))+"."+name] = positions.Position(f.End()).Line - positions.Position(f.Pos()).Line + 1
	}
	return lines
}
