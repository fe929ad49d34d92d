package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// A listedPackage is what the go command says about one of our packages.
type listedPackage struct {
	ImportPath    string
	Imports, Deps []string
}

// Imports point one way: cmd imports everything, proxy imports quota, and the domain
// knows nothing of HTTP. Packages config and quota import none of the others, except
// that config may import leaf packages: those below another package that import none of
// ours. A leaf holds a rule that config and the user of the value both follow. Tests may
// import more.
func TestImportsPointOneWay(t *testing.T) {
	packages := listPackages(t)
	for path, p := range packages {
		for _, imported := range ourImports(p) {
			leaf := len(ourImports(packages["metergate/"+imported])) == 0
			if !mayImport(strings.TrimPrefix(path, "metergate/"), imported, leaf) {
				t.Errorf("%s imports metergate/%s", path, imported)
			}
		}
	}
	for _, dep := range packages["metergate/quota"].Deps {
		if dep == "net/http" || dep == "net" {
			t.Errorf("metergate/quota depends on %s: the domain is arithmetic", dep)
		}
	}
}

func listPackages(t *testing.T) map[string]listedPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "metergate/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]listedPackage{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	if len(packages) < 8 {
		t.Fatalf("go list knows only %d packages", len(packages))
	}
	return packages
}

// ourImports returns the packages of this module that p imports, without the module's
// name.
func ourImports(p listedPackage) []string {
	var ours []string
	for _, imported := range p.Imports {
		if path, ok := strings.CutPrefix(imported, "metergate/"); ok {
			ours = append(ours, path)
		}
	}
	return ours
}

// mayImport reports whether one of our packages may import another one. A leaf imports
// none of ours. Only packages of test helpers may import quota/testkit.
func mayImport(importer, imported string, leaf bool) bool {
	if imported == "quota/testkit" {
		return strings.HasSuffix(importer, "test")
	}
	topFolder := func(path string) string { first, _, _ := strings.Cut(path, "/"); return first }
	switch topFolder(importer) {
	case "cmd":
		return true
	case "config":
		return leaf && strings.Contains(imported, "/")
	case "proxy":
		return topFolder(imported) == "quota" || topFolder(imported) == "proxy"
	case "quota":
		return topFolder(imported) == "quota" && importer != "quota"
	}
	return false
}
