package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse checks that any bytes give either a configuration or a list of faults, and that
// every fault is on a line of the file.
func FuzzParse(f *testing.F) {
	for _, glob := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml", "../gateway.yaml"} {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			f.Fatal(glob, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, s := range []string{
		"---\n", "...\n", "\ufeffa: 1", "&a [*a]", "&a {*a : *a}", "routes: &r [*r]", "plans: &p { free: *p }", "a:\rb:\r\xc2\x85\u2028<<: 1\rd: {}",
		"? a\n? b\n", "!!binary x: 1", "listen: !!binary x", "listen: !!int", "<<: {}", "{a}: {b}", "listen: |+\n  a\n\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("testdata/good/fuzz.yaml", data, environment)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("got %v and %v", cfg, err)
		}
		if err == nil {
			return
		}
		var faults Errors
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("got %#v", err)
		}
		lines := bytes.Count(data, []byte("\n"))
		if !bytes.HasSuffix(data, []byte("\n")) {
			lines++
		}
		last := 1
		for _, e := range faults {
			if e.Line < last || e.Line > lines {
				t.Errorf("line %d after %d, of %d: %v", e.Line, last, lines, e)
			}
			if e.Message == "" || strings.Contains(e.Message, "\n") {
				t.Errorf("message %q", e.Message)
			}
			last = e.Line
		}
	})
}
