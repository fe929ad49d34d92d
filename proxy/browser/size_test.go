package browser_test

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

// An app that shows its usage with React loads less than 8 KiB for it: the client, the provider and the
// hook, minified and compressed as in a build for browsers.
func TestClientAndHookAreSmall(t *testing.T) {
	result := api.Build(api.BuildOptions{
		Stdin: &api.StdinOptions{
			Contents:   `export { createUsageClient } from './client.js'; export { UsageProvider, useUsage } from './react/provider.js';`,
			ResolveDir: "src",
		},
		Bundle:            true,
		Format:            api.FormatESModule,
		Target:            api.ES2022,
		External:          []string{"react"},
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		MinifyWhitespace:  true,
	})
	for _, m := range append(result.Errors, result.Warnings...) {
		t.Fatal(m.Text)
	}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	w.Write(result.OutputFiles[0].Contents)
	w.Close()
	if n := packed.Len(); n >= 8<<10 {
		t.Errorf("the client and the hook have %d bytes compressed, want less than %d", n, 8<<10)
	} else {
		t.Logf("%d bytes", n)
	}
}
