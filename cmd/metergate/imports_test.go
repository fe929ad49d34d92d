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

// Imports point one way: cmd to everything, proxy to quota, config and quota to
// none of ours, and the domain knows nothing of HTTP. Tests may reach further.
func TestImportDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "metergate/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; seen++ {
		var p struct {
			ImportPath    string
			Imports, Deps []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, "metergate/"); ok && !mayImport(strings.TrimPrefix(p.ImportPath, "metergate/"), ours) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
		if p.ImportPath == "metergate/quota" {
			for _, dep := range p.Deps {
				if dep == "net/http" || dep == "net" {
					t.Errorf("%s depends on %s: the domain is arithmetic", p.ImportPath, dep)
				}
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d packages", seen)
	}
}

func mayImport(importer, imported string) bool {
	top := func(path string) string { first, _, _ := strings.Cut(path, "/"); return first }
	switch top(importer) {
	case "cmd":
		return true
	case "proxy":
		return top(imported) == "quota" || top(imported) == "proxy"
	case "quota":
		return top(imported) == "quota" && importer != "quota"
	}
	return false
}
