package app

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"metergate/config"
)

// Every key of the configuration has an effect: this package reads its field, or a method of
// package config does. The test compares names, so it does not notice a field whose name is
// that of another one.
func TestEveryConfigKeyIsRead(t *testing.T) {
	read := map[string]bool{}
	for _, pattern := range []string{"*.go", "../../../config/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d files, error %v", pattern, len(paths), err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			addFieldsRead(read, file, pattern == "*.go")
		}
	}
	for typ, fields := range keyFields(reflect.TypeFor[config.Config](), map[reflect.Type][]string{}) {
		for _, name := range fields {
			if !read[name] {
				t.Errorf("nothing reads %s.%s: pass it on in this package", typ.Name(), name)
			}
		}
	}
}

// addFieldsRead adds the names that a file selects of values. Of package config only the
// exported methods count, which are there for this package: the checks read every field.
func addFieldsRead(read map[string]bool, file *ast.File, wholeFile bool) {
	for _, declaration := range file.Decls {
		f, isFunc := declaration.(*ast.FuncDecl)
		if !wholeFile && (!isFunc || f.Recv == nil || !f.Name.IsExported()) {
			continue
		}
		ast.Inspect(declaration, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				read[s.Sel.Name] = true
			}
			return true
		})
	}
}

// keyFields adds the fields of typ and of the types in it that are keys, by type.
func keyFields(typ reflect.Type, fields map[reflect.Type][]string) map[reflect.Type][]string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || fields[typ] != nil {
		return fields
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Tag.Get("yaml") != "" {
			fields[typ] = append(fields[typ], f.Name)
		} else if !f.Anonymous {
			continue
		}
		keyFields(f.Type, fields)
	}
	return fields
}
