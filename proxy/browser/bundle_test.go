package browser_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "rewrite the bundles from src")

// The bundles are committed, so that nobody needs a bundler to build the gateway. They must be
// what esbuild makes of the files in src, one of each.
func TestBundlesAreCurrent(t *testing.T) {
	for _, name := range bundles(t) {
		want := bundle(t, name)
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what src gives: run go generate ./proxy/browser and commit the result", name)
		}
	}
}

// bundles returns the names of the bundles.
func bundles(t *testing.T) (names []string) {
	t.Helper()
	sources, err := filepath.Glob("src/*.js")
	if err != nil || len(sources) < 4 {
		t.Fatal("the sources are ", sources, err)
	}
	for _, source := range sources {
		names = append(names, filepath.Base(source))
	}
	return names
}

// bundle makes one readable ES module of src/name and what it imports. The comment that
// the source begins with stands at the top. Doc comments stay behind: they are for those
// who change the sources, and would make the module larger.
func bundle(t *testing.T, name string) []byte {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("src", name))
	if err != nil {
		t.Fatal(err)
	}
	guide, _, _ := strings.Cut(string(source), "\n\n")
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{"./src/" + name},
		Bundle:      true,
		Format:      api.FormatESModule,
		Target:      api.ESNext,
		Charset:     api.CharsetUTF8,
		Banner:      map[string]string{"js": "// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.\n\n" + guide + "\n"},
		Plugins: []api.Plugin{
			{Name: "doc-comments", Setup: withoutDocComments},
			{Name: "served-beside", Setup: withExternalBundles},
		},
	})
	for _, m := range append(result.Errors, result.Warnings...) {
		t.Fatalf("%s: %s", name, m.Text)
	}
	return result.OutputFiles[0].Contents
}

var docComment = regexp.MustCompile(`(?s)[ \t]*/\*\*.*?\*/[ \t]*\n?`)

func withoutDocComments(b api.PluginBuild) {
	b.OnLoad(api.OnLoadOptions{Filter: `\.js$`}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
		source, err := os.ReadFile(a.Path)
		text := docComment.ReplaceAllString(string(source), "")
		return api.OnLoadResult{Contents: &text}, err
	})
}

// withExternalBundles lets a bundle import the others, which the gateway serves beside it, and React:
// a page that uses two of them loads what they share once.
func withExternalBundles(b api.PluginBuild) {
	b.OnResolve(api.OnResolveOptions{Filter: `.`}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
		if a.Path == "react" {
			return api.OnResolveResult{Path: a.Path, External: true}, nil
		}
		file := filepath.Join(a.ResolveDir, a.Path)
		if a.Kind == api.ResolveEntryPoint || filepath.Base(filepath.Dir(file)) != "src" {
			return api.OnResolveResult{}, nil
		}
		return api.OnResolveResult{Path: "./" + filepath.Base(file), External: true}, nil
	})
}
