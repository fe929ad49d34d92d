package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestTagsAreValid(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		switch {
		case isScalar(typ) || seen[typ]:
			return
		case typ.Kind() != reflect.Struct:
			visit(typ.Elem())
			return
		}
		seen[typ] = true
		for f := range keyedFields(typ) {
			v := reflect.New(f.Type).Elem()
			if text, ok := f.Tag.Lookup("default"); ok {
				mustConvert(text, v, f.Tag)
				if message := outOfBounds(v, f.Tag); message != "" {
					t.Errorf("%v.%s: its default %s", typ, f.Name, message)
				}
			} else if f.Tag.Get("min") != "" {
				if f.Type.Kind() == reflect.Slice { // the bounds are those of its items
					v = reflect.New(f.Type.Elem()).Elem()
				}
				outOfBounds(v, f.Tag)
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[Config]())
	if len(seen) != 28 {
		t.Errorf("%d types", len(seen))
	}
}

// base is a valid configuration; tests add to it at %s.
const base = `auth: { jwt: { secret: 0123456789abcdef0123456789abcdef } }
default_plan: free
plans: { free: {} }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
routes: [{ match: /, upstream: api }]
%s
`

func TestSecretFileDropsOneNewline(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"redis://h": "redis://h", "redis://h\n": "redis://h", "redis://h\r\n": "redis://h", "redis://h/1\r": "",
		"unix:///${N}\n": "unix:///${N}", // variables are not expanded in a file
	} {
		for _, name := range []string{"url.txt", filepath.Join(dir, "url.txt")} {
			if err := os.WriteFile(filepath.Join(dir, "url.txt"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := Parse(filepath.Join(dir, "x.yaml"), fmt.Appendf(nil, base, "store: { url_file: '"+name+"' }"), environment)
			switch {
			case want == "" && err == nil:
				t.Errorf("%q: got %q", content, string(cfg.Store.URL))
			case want != "" && err != nil:
				t.Errorf("%q: %v", content, err)
			case want != "" && string(cfg.Store.URL) != want:
				t.Errorf("%q: got %q", content, string(cfg.Store.URL))
			}
		}
	}
}

// The folder in which the program was started has no effect.
func TestPathsAreRelativeToTheFile(t *testing.T) {
	for file, want := range map[string]string{
		"x.yaml": "data", "conf/x.yaml": "conf/data", "/etc/metergate/x.yaml": "/etc/metergate/data",
	} {
		cfg, err := Parse(file, fmt.Appendf(nil, base, "store: { url: 'embedded:./data' }"), environment)
		if err != nil {
			t.Fatal(err)
		}
		if dir, _ := cfg.Store.Embedded(); dir != want {
			t.Errorf("%s: got %s, want %s", file, dir, want)
		}
	}
	cfg, err := Parse("conf/x.yaml", fmt.Appendf(nil, base, "store: { url: 'embedded:/var/lib/x' }"), environment)
	if err != nil {
		t.Fatal(err)
	}
	if dir, _ := cfg.Store.Embedded(); dir != "/var/lib/x" {
		t.Errorf("absolute: got %s", dir)
	}
}

func TestAliasesCannotMultiplyValues(t *testing.T) {
	var b strings.Builder
	b.WriteString("plans:\n  a: &a\n    limits:\n")
	for range 3000 {
		b.WriteString("    - { requests: 1, per: day }\n")
	}
	for i := range 3000 {
		fmt.Fprintf(&b, "  p%d: *a\n", i)
	}
	_, err := Parse("x.yaml", []byte(b.String()), environment)
	if err == nil || !strings.Contains(err.Error(), "aliases make more than") {
		t.Fatal("accepted")
	}
}
