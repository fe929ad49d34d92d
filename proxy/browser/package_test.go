package browser_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"metergate/proxy/browser"
	"metergate/quota/testkit"
)

// internal are the bundles that only other bundles import.
var internal = regexp.MustCompile(`^(elements|react-.*)\.js$`)

// The package offers each bundle, with types, and tells bundlers which of them define an element when
// they are imported.
func TestPackageOffersEveryBundle(t *testing.T) {
	text, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Exports     map[string]any
		SideEffects []string
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	for _, name := range bundles(t) {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if defines := bytes.Contains(body, []byte("customElements.define(")); defines != slices.Contains(p.SideEffects, "./"+name) {
			t.Errorf("%s defines an element: %v, against sideEffects", name, defines)
		}
		if internal.MatchString(name) {
			continue
		}
		entry := "./" + strings.TrimSuffix(name, ".js")
		if name == "client.js" {
			entry = "."
		}
		types := "./" + strings.TrimSuffix(name, ".js") + ".d.ts"
		want, _ := json.Marshal(map[string]string{"types": types, "default": "./" + name})
		if got, _ := json.Marshal(p.Exports[entry]); string(got) != string(want) {
			t.Errorf("exports has %s for %s, want %s", got, entry, want)
		}
		if _, err := os.Stat(types); err != nil {
			t.Error(err)
		}
		delete(p.Exports, entry)
	}
	delete(p.Exports, "./package.json")
	for entry := range p.Exports {
		t.Errorf("exports has %s, which is no bundle", entry)
	}
}

// The archive that the gateway serves has every file that it serves by itself, byte for byte.
func TestArchiveHasAllFiles(t *testing.T) {
	w := httptest.NewRecorder()
	browser.Serve(w, httptest.NewRequest("GET", "/usage/client.tgz", nil), browser.Archive)
	zipped, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for files := tar.NewReader(zipped); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "package/")
		got, _ := io.ReadAll(files)
		want, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another than in the folder: %v", h.Name, err)
		}
		names = append(names, name)
	}
	project := testkit.ReadFile(t, "LICENSE")
	if license, err := os.ReadFile("LICENSE"); err != nil || !bytes.Equal(license, project) {
		t.Errorf("LICENSE is another than that of the project: %v", err)
	}
	want := slices.DeleteFunc(browser.Names(), func(name string) bool { return name == browser.Archive })
	want = append(want, "package.json", "README.md", "LICENSE")
	slices.Sort(want)
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("the archive has %v, want %v", names, want)
	}
}

// What an app with the provider and the hook loads, minified, and compressed as servers do it.
const maxHookSize = 8192

// An app that uses the hook alone loads the client and the hook, and no element.
func TestHookIsSmall(t *testing.T) {
	size, code := bundleApp(t, `import { UsageProvider, useUsage } from './react.js'; console.log(UsageProvider, useUsage);`)
	if size >= maxHookSize {
		t.Errorf("client and hook take %d bytes, want less than %d", size, maxHookSize)
	}
	if strings.Contains(code, "usage-meter") {
		t.Error("the app has loaded an element that it does not use")
	}
	if _, code := bundleApp(t, `import { UsageMeter } from './react.js'; console.log(UsageMeter);`); !strings.Contains(code, "customElements.define") {
		t.Error("the app has not loaded the element that it uses")
	}
	t.Logf("client and hook: %d bytes", size)
}

// bundleApp bundles an app that uses the package, without React. It returns its size after
// compression.
func bundleApp(t *testing.T, code string) (size int, bundled string) {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	result := api.Build(api.BuildOptions{
		Stdin:             &api.StdinOptions{Contents: code, ResolveDir: dir},
		Bundle:            true,
		Format:            api.FormatESModule,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		External:          []string{"react"},
	})
	for _, m := range append(result.Errors, result.Warnings...) {
		t.Fatal(m.Text)
	}
	var out bytes.Buffer
	zipped, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	zipped.Write(result.OutputFiles[0].Contents)
	zipped.Close()
	return out.Len(), string(result.OutputFiles[0].Contents)
}
