package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// partsList writes the list of what is linked into a program (an SBOM of CycloneDX): the Go modules
// and the standard library, as the program itself says, and the libraries for browsers.
func (r *release) partsList(w io.Writer, program, platform string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	hash, err := sha256File(program)
	if err != nil {
		return err
	}
	system, processor, _ := strings.Cut(platform, "/")
	self := cdx.Component{
		BOMRef: "metergate", Type: cdx.ComponentTypeApplication, Name: "metergate", Version: r.version,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hash}},
		Properties: &[]cdx.Property{
			{Name: "metergate:commit", Value: r.commit}, {Name: "metergate:goos", Value: system}, {Name: "metergate:goarch", Value: processor},
		},
	}
	components := []cdx.Component{goComponent("stdlib", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		components = append(components, goComponent(module.Path, module.Version))
	}
	vendored, err := browserLibraries(r.root)
	if err != nil {
		return err
	}
	components = append(components, vendored...)
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: r.time.Format(time.RFC3339), Component: &self}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

func goComponent(path, version string) cdx.Component {
	return library("golang", path, version)
}

// library returns a component with its package URL, such as pkg:npm/uplot@1.6.32.
func library(kind, name, version string) cdx.Component {
	purl := fmt.Sprintf("pkg:%s/%s@%s", kind, name, strings.ReplaceAll(version, "+", "%2B"))
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl, Scope: cdx.ScopeRequired}
}

// vendoredFolder matches the folder of a library for browsers that is part of the source.
var vendoredFolder = regexp.MustCompile(`^([a-z][a-z0-9.-]*)-(\d+\.\d+\.\d+)$`)

// browserLibraries finds the libraries for browsers: folders of the source, such as uplot-1.6.32,
// that have scripts. Each has the name and version of its npm package.
func browserLibraries(root string) (found []cdx.Component, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return fs.SkipDir
		}
		scripts, err := filepath.Glob(filepath.Join(path, "*.js"))
		if name := vendoredFolder.FindStringSubmatch(d.Name()); name != nil && len(scripts) > 0 {
			found = append(found, library("npm", name[1], name[2]))
		}
		return err
	})
	return found, err
}

func sha256File(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return fmt.Sprintf("%x", hash.Sum(nil)), err
}
