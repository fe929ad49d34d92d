package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"metergate/proxy/jwtauth/jwtrules"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

const schemaFile = "gateway.schema.json"

// A schemaTest holds the schema for editors against the types of this package,
// which are what counts.
type schemaTest struct {
	*testing.T
	root     map[string]any
	compiler *jsonschema.Compiler
	keys     int // seen
}

func newSchemaTest(t *testing.T) *schemaTest {
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	s := &schemaTest{T: t, root: root.(map[string]any), compiler: jsonschema.NewCompiler()}
	if err := s.compiler.AddResource(schemaFile, root); err != nil {
		t.Fatal(err)
	}
	return s
}

// at returns the part of the schema at a JSON pointer, after its reference.
func (s *schemaTest) at(pointer string) (node map[string]any, resolved string) {
	s.Helper()
	node = s.root
	for _, name := range strings.Split(pointer, "/")[1:] {
		next, ok := node[name].(map[string]any)
		if !ok {
			s.Fatalf("the schema has nothing at %s", pointer)
		}
		node = next
	}
	if ref, ok := node["$ref"].(string); ok {
		return s.at(ref)
	}
	return node, pointer
}

// accepts asks the part of the schema at a pointer.
func (s *schemaTest) accepts(pointer string, value any) bool {
	s.Helper()
	compiled, err := s.compiler.Compile(schemaFile + pointer)
	if err != nil {
		s.Fatalf("%s: %v", pointer, err)
	}
	return compiled.Validate(value) == nil
}

// TestSchema: the schema has the keys of the types and no others, with the same
// rules.
func TestSchema(t *testing.T) {
	s := newSchemaTest(t)
	s.check(reflect.TypeFor[Config](), "", "#")
	if s.keys < 70 {
		t.Errorf("only %d keys", s.keys)
	}
}

func (s *schemaTest) check(typ reflect.Type, tag reflect.StructTag, pointer string) {
	node, resolved := s.at(pointer)
	is := func(kind string) {
		if node["type"] != kind {
			s.Errorf("%s: its type is %v, want %s", resolved, node["type"], kind)
		}
	}
	switch {
	case isScalar(typ):
		s.scalar(typ, tag, pointer)
	case typ.Kind() == reflect.Pointer:
		s.check(typ.Elem(), tag, pointer)
	case typ.Kind() == reflect.Slice:
		is("array")
		s.check(typ.Elem(), tag, resolved+"/items")
	case typ.Kind() == reflect.Map:
		is("object")
		if s.accepts(resolved+"/propertyNames", "a b") || !s.accepts(resolved+"/propertyNames", "a-B_1") {
			s.Errorf("%s: names are not those of nameRule", resolved)
		}
		s.check(typ.Elem(), tag, resolved+"/additionalProperties")
	default:
		is("object")
		s.structure(typ, node, resolved)
	}
}

func (s *schemaTest) structure(typ reflect.Type, node map[string]any, pointer string) {
	if node["additionalProperties"] != false {
		s.Errorf("%s: takes unknown keys", pointer)
	}
	properties := node["properties"].(map[string]any)
	if got, want := slices.Sorted(maps.Keys(properties)), slices.Sorted(slices.Values(keys(typ))); !slices.Equal(got, want) {
		s.Fatalf("%s: has the keys\n%v, %v has\n%v", pointer, got, typ, want)
	}
	var required []string
	for f := range fields(typ) {
		if f.Tag.Get("required") != "" {
			required = append(required, f.Tag.Get("yaml"))
		}
	}
	var got []string
	list, _ := node["required"].([]any)
	for _, name := range list {
		got = append(got, fmt.Sprint(name))
	}
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(required))) {
		s.Errorf("%s: requires %v, %v does %v", pointer, got, typ, required)
	}
	for _, name := range keys(typ) {
		s.keys++
		f, isFile := field(typ, name)
		at := pointer + "/properties/" + name
		property := properties[name].(map[string]any)
		if text, _ := property["description"].(string); text == "" {
			s.Errorf("%s: no description", at)
		}
		if isFile {
			if !s.accepts(at, "secret.txt") || property["default"] != nil {
				s.Errorf("%s: is not that of a file", at)
			}
			continue
		}
		s.defaults(f, property, at)
		s.check(f.Type, f.Tag, at)
	}
}

// defaults compares the default of a key.
func (s *schemaTest) defaults(f *reflect.StructField, property map[string]any, pointer string) {
	want, given := f.Tag.Lookup("default")
	if no, _, ok := strings.Cut(f.Tag.Get("oneof"), ", "); f.Type.Kind() == reflect.Bool {
		want, given = "false", true
		if ok {
			want = no
		}
	}
	value, has := property["default"]
	switch {
	case has != given || has && fmt.Sprint(value) != want:
		s.Errorf("%s: its default is %v, the type's %q", pointer, value, want)
	case has && !s.accepts(pointer, value):
		s.Errorf("%s: refuses its default", pointer)
	}
}

// scalar tries what a value may be and what it may not.
func (s *schemaTest) scalar(typ reflect.Type, tag reflect.StructTag, pointer string) {
	good, bad := []any{"${NAME}", "${NAME:-default}", "${NAME:-}"}, []any{nil, true, []any{}, map[string]any{}}
	var enum []string
	node, _ := s.at(pointer)
	as, oneof := tag.Get("as"), tag.Get("oneof")
	description, _ := s.parent(pointer)["description"].(string)
	switch {
	case as == "algorithm":
		enum = jwtrules.Algorithms()
	case oneof != "":
		enum = strings.Split(oneof, ", ")
	case as == "size":
		good, bad = append(good, json.Number("1"), "1", "32MiB", "7 KB"), append(bad, json.Number("0"), json.Number("1.5"), "many", "-1", "010")
	case typ == durationType:
		good, bad = append(good, "250ms", "1m30s", "1d", "1d12h", "1.5s"), append(bad, json.Number("5"), "5", "soon", "-1s", "1d-12h")
		low, high := tag.Get("min"), tag.Get("max")
		want := low + " to " + high
		if high == "" {
			want = "at least " + low
		}
		if !strings.Contains(description, want) {
			s.Errorf("%s: a schema can bound no durations, so its description must say %q", pointer, want)
		}
	case typ.Kind() == reflect.Int || typ.Kind() == reflect.Int64:
		low, high := tag.Get("min"), tag.Get("max")
		if as == "" && low == "" && strings.HasSuffix(pointer, "/requests") {
			low, high = "0", strconv.Itoa(maxRequests) // by the checker
		}
		good, bad = append(good, json.Number(low), json.Number(high)), append(bad, json.Number("1.5"), "1", beside(s.T, low, -1), beside(s.T, high, +1))
	case typ.Kind() == reflect.Float64:
		low, high := tag.Get("min"), tag.Get("max")
		good, bad = append(good, json.Number(low), json.Number(high), json.Number("0.25")), append(bad, "0.5", beside(s.T, low, -1), json.Number(high+".01"))
	case typ.Kind() == reflect.Bool:
		good, bad = append(good, true, false), append(bad[:0], nil, "yes", json.Number("1"), []any{})
	case as == "path", as == "strip":
		good, bad = append(good, "/a", "/a/b%20c"), append(bad, "a", "/a?b", "/{a}")
	case as == "header":
		good, bad = append(good, "X-User"), append(bad, "X_User", "X User", "")
	case as == "host":
		good, bad = append(good, "target", "client", "api", "api.internal:80", "[::1]:80"), append(bad, "http://a", "a:b", "")
	case as == "servername":
		good, bad = append(good, "api.internal", "10.0.0.1", "::1"), append(bad, "a/b", "")
	case as == "endpoint":
		good, bad = append(good, "image-analysis"), append(bad, "Image", "")
	case as == "file":
		good, bad = append(good, "cert.pem", json.Number("7")), append(bad, "")
	case as == "folder":
		good, bad = append(good, "./data", json.Number("7")), append(bad, "")
	case as == "address":
		good, bad = append(good, ":80", "[::1]:0"), append(bad, "80", "a", "http://a:80")
	case as == "claim":
		good, bad = append(good, "app.plan", `https://a\.b/c`, `a\\b`), append(bad, "app..plan", ".a", "", `a\b`, `a\`)
	case as == "jwks":
		good = append(good, "", "https://a", "https://a:8443/b?c=d", "http://localhost/", "http://127.0.0.1:80/", "http://[::1]:80")
		bad = append(bad, "a", "ftp://a", "http://a/", "http://localhost.example/", "https://u@a/", "https://a/#b")
	case as == "mediatype":
		good, bad = append(good, "", "at+jwt", "application/at+jwt"), append(bad, "at jwt", "a/b/c", "a/")
	case as == "origin":
		good, bad = append(good, "*", "http://[::1]:80"), append(bad, "a.example", "https://a/b", "")
	case as == "prefix":
		good, bad = append(good, "a.b:c_d-e"), append(bad, "a b", "")
	case as == "url":
		good, bad = append(good, "", "https://a/?b"), append(bad, "a", "ftp://a")
	case typ == prefixType:
		good, bad = append(good, "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"), append(bad, "10.0.0.0/0", "::/0", "10.0.0.0-10.0.0.9", "proxy", "fe80::1%eth0", "")
	case typ == urlType:
		good, bad = append(good, "http://a", "https://[::1]:80/b/"), append(bad, "a", "ftp://a", "http://a?b", "http://u@a", "http://a#b")
	case typ == locationType:
		good, bad = append(good, "UTC", "Europe/Berlin"), append(bad, "Local", "")
	case as != "":
		s.Errorf("%s: a rule %q that this test does not know", pointer, as)
	}
	for _, text := range enum {
		good = append(good, text)
	}
	if enum != nil {
		bad = append(bad, "other", "")
		if got := enumOf(node); !slices.Equal(got, enum) {
			s.Errorf("%s: allows %v, the type %v", pointer, got, enum)
		}
	}
	for _, v := range good {
		if !s.accepts(pointer, v) {
			s.Errorf("%s: refuses %#v", pointer, v)
		}
	}
	for _, v := range bad {
		if s.accepts(pointer, v) {
			s.Errorf("%s: accepts %#v", pointer, v)
		}
	}
}

// parent is the part at a pointer without its reference followed.
func (s *schemaTest) parent(pointer string) map[string]any {
	i := strings.LastIndex(pointer, "/")
	node, _ := s.at(pointer[:i])
	property, _ := node[pointer[i+1:]].(map[string]any)
	return property
}

// beside is a neighbour of a number.
func beside(t *testing.T, number string, by int) json.Number {
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return json.Number(strconv.Itoa(n + by))
}

// enumOf collects what the alternatives of a value list.
func enumOf(node map[string]any) (texts []string) {
	alternatives, _ := node["anyOf"].([]any)
	for _, a := range append(alternatives, node) {
		list, _ := a.(map[string]any)["enum"].([]any)
		for _, v := range list {
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return texts
}

// document reads a YAML file as an editor shows it to the schema.
func document(file string) (any, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
}

// unknowable are the files of testdata/bad whose faults a schema cannot see: they
// concern several values, other files, or the text rather than what it says.
var unknowable = []string{
	"algorithms-hmac", "algorithms-key", "claims", "claims-url", "claims-within", "cors-credentials",
	"duplicate-key", "empty-secret", "jwks-key", "jwks-key-unused", "jwks-unused", "listen-shared", "listen-tls", "log-sample-exponent", "log-sample-infinite", "max-in-flight-user", "merge-key", "odd-keys", "public-key-private",
	"routes-conflict", "routes-usage", "same-limit", "second-document", "secret-comma-twice", "secret-file-folder",
	"secret-file-short", "short-secret", "store-cluster", "store-cluster-empty", "store-cluster-port",
	"store-database", "store-host", "store-password", "store-port", "store-sentinel", "store-sentinel-database",
	"syntax", "syntax-open-quote", "syntax-tab", "syntax-unquoted-variable", "syntax-utf8", "timezone-unknown",
	"token-file-empty", "trusted-proxies-odd", "unknown-anchor",
}

// TestSchemaOnFiles: the schema accepts what is good, and refuses all that is bad
// and that a schema can know.
func TestSchemaOnFiles(t *testing.T) {
	s := newSchemaTest(t)
	schema, err := s.compiler.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	good, _ := filepath.Glob("testdata/good/*.yaml")
	for _, file := range append(good, "../gateway.yaml", "../cmd/metergate/demo.yaml") {
		doc, err := document(file)
		if err == nil {
			err = schema.Validate(doc)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	bad, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(good) < 3 || len(bad) < 60 {
		t.Fatalf("only %d and %d files", len(good), len(bad))
	}
	for _, file := range bad {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		doc, err := document(file)
		refused := err == nil && schema.Validate(doc) != nil
		if refused == slices.Contains(unknowable, name) {
			t.Errorf("%s: refused %v", file, refused)
		}
	}
}

// TestShippedNamesSchema: the first line of gateway.yaml leads editors to the schema.
func TestShippedNamesSchema(t *testing.T) {
	data, err := os.ReadFile("../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	name, ok := strings.CutPrefix(line, "# yaml-language-server: $schema=")
	if !ok {
		t.Fatalf("its first line is %q", line)
	}
	want, err := os.Stat(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.Stat(filepath.Join("..", name)); err != nil || !os.SameFile(got, want) {
		t.Errorf("%s: %v", name, err)
	}
}
