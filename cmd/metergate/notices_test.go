package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

//go:generate go test -run ^TestThirdPartyNoticesAreCurrent$ -update .

var update = flag.Bool("update", false, "rewrite THIRD_PARTY_NOTICES")

const noticesFile = "THIRD_PARTY_NOTICES"

// noticesPlatforms are those whose modules the notices cover.
var noticesPlatforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64"}

// vendoredFolders are those of the software in the program that is not a Go module, by name and version.
var vendoredFolders = map[string]string{"uPlot 1.6.32": "proxy/admin/console/page/uplot-1.6.32"}

// licenseFile matches the names of files that a copy of a module must come with.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|third[_-]party)([._-].*)?$`)

// THIRD_PARTY_NOTICES has the licences of what is linked into the program, and of nothing
// else: what only tests use does not reach a user.
func TestThirdPartyNoticesAreCurrent(t *testing.T) {
	want := thirdPartyNotices(t)
	path := filepath.Join(testkit.ModuleRoot(t), noticesFile)
	if *update {
		testkit.WriteFile(t, path, want)
		return
	}
	if got := testkit.ReadFile(t, noticesFile); !bytes.Equal(got, want) {
		t.Errorf("%s is not what the linked modules say: run go generate ./cmd/metergate and commit the result", noticesFile)
	}
}

// A linkedPackage is what go list says about a package in the program.
type linkedPackage struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// thirdPartyNotices returns the text of the notices. A text that several modules have stands
// there once.
func thirdPartyNotices(t *testing.T) []byte {
	t.Helper()
	owners := map[string][]string{} // by text: the modules that come with it
	modules := map[string]bool{}    // whether a text was found for it
	add := func(owner, path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		clean := strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
		if !slices.Contains(owners[clean], owner) {
			owners[clean] = append(owners[clean], owner)
		}
	}
	for _, platform := range noticesPlatforms {
		for _, p := range linkedPackages(t, platform) {
			if p.Module == nil || p.Module.Main {
				continue
			}
			owner := p.Module.Path + " " + p.Module.Version
			// A package may contain code of others, with a licence of its own beside it.
			for dir := p.Dir; strings.HasPrefix(dir, p.Module.Dir); dir = filepath.Dir(dir) {
				for _, path := range licenseFiles(t, dir) {
					add(owner, path)
					modules[owner] = true
				}
			}
			modules[owner] = modules[owner] // known, if only without a licence
		}
	}
	for owner, found := range modules {
		if !found {
			t.Errorf("%s has no licence file: find out whether it may be distributed", owner)
		}
	}
	for name, folder := range vendoredFolders {
		add(name, filepath.Join(testkit.ModuleRoot(t), folder, "LICENSE"))
	}
	add("the Go standard library and runtime", filepath.Join(goroot(t), "LICENSE"))

	type section struct{ heading, text string }
	var sections []section
	for text, names := range owners {
		slices.Sort(names)
		sections = append(sections, section{strings.Join(names, "\n"), text})
	}
	slices.SortFunc(sections, func(a, b section) int {
		return strings.Compare(strings.ToLower(a.heading)+a.text, strings.ToLower(b.heading)+b.text)
	})
	var b bytes.Buffer
	b.WriteString("The program metergate contains the following software of others.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), s.heading, s.text)
	}
	return b.Bytes()
}

// linkedPackages returns the packages of the program on a platform such as linux/amd64.
func linkedPackages(t *testing.T, platform string) (packages []linkedPackage) {
	t.Helper()
	system, processor, _ := strings.Cut(platform, "/")
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Module", "metergate/cmd/metergate")
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the packages for %s: %v", platform, err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p linkedPackage
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages
		case err != nil:
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func licenseFiles(t *testing.T, dir string) (paths []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && filepath.Ext(e.Name()) != ".go" && licenseFile.MatchString(e.Name()) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
