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

var update = flag.Bool("update", false, "rewrite client.js and meter.js from src")

// client.js and meter.js are committed, so that nobody needs a bundler to build the
// gateway. They must be what esbuild makes of src.
func TestBundlesAreCurrent(t *testing.T) {
	for _, name := range []string{"client.js", "meter.js"} {
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
			{Name: "client-served-beside", Setup: withExternalClient},
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

// withExternalClient lets meter.js import the client.js that the gateway serves beside it,
// so that a page which uses both loads it once.
func withExternalClient(b api.PluginBuild) {
	b.OnResolve(api.OnResolveOptions{Filter: `^\.\./client\.js$`}, func(api.OnResolveArgs) (api.OnResolveResult, error) {
		return api.OnResolveResult{Path: "./client.js", External: true}, nil
	})
}
