package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"metergate/quota"
)

const schemaFile = "gateway.schema.json"

// schemaRules are the rules between the keys of a mapping that a schema can express. They
// are merged into the schema of the type.
var schemaRules = map[string]string{
	"JWT": `{
		"anyOf": [{"required": ["secret"]}, {"required": ["secret_file"]}, {"required": ["public_key_file"]}, {"required": ["jwks_url"]}, {"required": ["x509_url"]}],
		"dependentRequired": {"public_key_file": ["algorithms"], "jwks_url": ["algorithms"], "x509_url": ["algorithms"]},
		"not": {"required": ["jwks_url", "x509_url"]}}`,
	"ClientTLS": `{"dependentRequired": {"cert_file": ["key_file"], "key_file": ["cert_file"]}}`,
	"Limit":     `{"oneOf": [{"required": ["requests"]}, {"required": ["units"]}]}`,
	"Cost":      `{"dependentRequired": {"min": ["from"], "each": ["from"], "missing": ["from"]}}`,
	"Notify":    `{"anyOf": [{"required": ["secret"]}, {"required": ["secret_file"]}]}`,
	"Store": `{
		"if": {"required": ["tls"]},
		"then": {"anyOf": [{"required": ["url_file"]}, {"required": ["url"], "properties": {"url": {"pattern": "^rediss|\\$\\{"}}}]}}`,
	"Route": `{
		"anyOf": [{"required": ["endpoint"]}, {"properties": {"cost": false, "mode": {"not": {"const": "observe"}}}}],
		"dependentSchemas": {"endpoint": {"properties": {"auth": {"not": {"const": "none"}}, "upgrade": {"not": {"const": "allow"}}}}},
		"if": {"required": ["auth"], "properties": {"auth": {"const": "none"}}},
		"then": {"properties": {"user_header": false, "plan_header": false}}}`,
}

// listRules are the rules of lists, by "Type.Field".
var listRules = map[string]map[string]any{
	"Config.TrustedProxies": {"uniqueItems": true},
	"Config.Routes":         {"minItems": 1},
	"JWT.Algorithms":        {"minItems": 1, "uniqueItems": true},
	"Upstream.Targets":      {"minItems": 1},
	"CORS.AllowedOrigins":   {"minItems": 1},
	"Notify.At":             {"minItems": 1, "maxItems": maxThresholds, "uniqueItems": true},
}

// A schemaBuilder makes the JSON Schema of the types.
type schemaBuilder struct {
	*testing.T
	comments comments
	defs     map[string]any
}

func buildSchema(t *testing.T) map[string]any {
	b := &schemaBuilder{T: t, comments: readComments(t), defs: map[string]any{}}
	b.defs["variable"] = map[string]any{
		"description": "A text with environment variables: ${NAME} must be set, ${NAME:-default} has a default.",
		"type":        "string",
		"pattern":     `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`,
	}
	b.defs["name"] = map[string]any{"type": "string", "pattern": quota.NamePattern}
	root := b.structure(reflect.TypeFor[Config]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Metergate"
	root["description"] = "The configuration of a Metergate gateway, gateway.yaml."
	root["$defs"] = b.defs
	return root
}

// reference returns a reference to a definition, which make makes once.
func (b *schemaBuilder) reference(name string, make func() map[string]any) map[string]any {
	if b.defs[name] == nil {
		b.defs[name] = map[string]any{} // a type that contains itself would come back here
		b.defs[name] = make()
	}
	return map[string]any{"$ref": "#/$defs/" + name}
}

func (b *schemaBuilder) structure(typ reflect.Type) map[string]any {
	properties, required, files := map[string]any{}, []string{}, map[string]any{}
	for f := range keyedFields(typ) {
		key, name := f.Tag.Get("yaml"), typ.Name()+"."+f.Name
		property := b.value(f, f.Type, name)
		property["description"] = b.description(f, name)
		if text, ok := defaultOf(f); ok {
			property["default"] = b.scalarOf(f, text)
		}
		properties[key] = property
		if f.Tag.Get("required") != "" && f.Type != reflect.TypeFor[Secret]() { // schemaRules know of its file
			required = append(required, key)
		}
		if f.Type == reflect.TypeFor[Secret]() {
			properties[key+fileSuffix] = map[string]any{
				"description": fmt.Sprintf("A file with the value of %s.", key), "type": []string{"string", "number"},
			}
			files[key+fileSuffix] = map[string]any{"properties": map[string]any{key: false}}
		}
	}
	schema := map[string]any{"description": b.comments[typ.Name()], "type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	if len(files) > 0 {
		schema["dependentSchemas"] = files
	}
	if rules := schemaRules[typ.Name()]; rules != "" {
		if err := json.Unmarshal([]byte(rules), &schema); err != nil {
			b.Fatal(err)
		}
	}
	return schema
}

// description returns the comment of a field. A schema cannot bound a duration, so the bounds
// are added to the text.
func (b *schemaBuilder) description(f reflect.StructField, name string) string {
	text := b.comments[name]
	if text == "" || strings.HasPrefix(text, f.Name+" is ") {
		b.Errorf("%s: needs a comment that describes the key for users", name)
	}
	if low, high := bounds(f); f.Type == durationType {
		text += " " + rangeText(low, high) + "."
	}
	return text
}

func rangeText(low, high string) string {
	if high == "" {
		return "At least " + low
	}
	return low + " to " + high
}

// scalarOf returns the text of a tag as the JSON value of the field.
func (b *schemaBuilder) scalarOf(f reflect.StructField, text string) any {
	switch kind := f.Type.Kind(); {
	case f.Type == durationType || f.Tag.Get("as") == "size" || f.Tag.Get("oneof") != "":
		return text
	case kind == reflect.Bool:
		return text == "true"
	case kind == reflect.Int || kind == reflect.Int64 || kind == reflect.Float64:
		return json.Number(text)
	}
	return text
}

func (b *schemaBuilder) value(f reflect.StructField, typ reflect.Type, name string) map[string]any {
	switch {
	case isScalar(typ):
		return b.scalar(f, typ)
	case typ.Kind() == reflect.Pointer:
		return b.value(f, typ.Elem(), name)
	case typ == claimPlansType:
		return map[string]any{
			"type": "object", "minProperties": 1,
			"propertyNames":        map[string]any{"minLength": 1},
			"additionalProperties": b.scalar(f, reflect.TypeFor[string]()),
		}
	case typ.Kind() == reflect.Map && f.Tag.Get("keys") != "":
		return map[string]any{
			"type": "object", "minProperties": 1,
			"propertyNames": map[string]any{"pattern": scalarRules[f.Tag.Get("keys")].pattern},
			"additionalProperties": map[string]any{
				"type": "array", "minItems": 1, "items": map[string]any{"type": []string{"string", "number", "boolean"}, "minLength": 1},
			},
		}
	case typ.Kind() == reflect.Slice && f.Tag.Get("single") != "":
		one := b.value(f, typ.Elem(), name)
		return map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "minItems": 1, "items": one}}}
	case typ.Kind() == reflect.Slice:
		list := map[string]any{"type": "array", "items": b.value(f, typ.Elem(), name)}
		for rule, value := range listRules[name] {
			list[rule] = value
		}
		return list
	case typ.Kind() == reflect.Map:
		return map[string]any{
			"type": "object", "minProperties": 1,
			"propertyNames":        map[string]any{"$ref": "#/$defs/name"},
			"additionalProperties": b.value(f, typ.Elem(), name),
		}
	}
	mapping := b.reference(strings.ToLower(typ.Name()[:1])+typ.Name()[1:], func() map[string]any { return b.structure(typ) })
	if key, ok := f.Tag.Lookup("short"); ok {
		short, _ := fieldOf(typ, key)
		return map[string]any{"anyOf": []any{b.scalar(*short, short.Type), mapping}}
	}
	return mapping
}

// scalar returns what a single value may be: the value itself, or a text with variables.
func (b *schemaBuilder) scalar(f reflect.StructField, typ reflect.Type) map[string]any {
	orVariable := func(alternatives ...any) map[string]any {
		return map[string]any{"anyOf": append(alternatives, map[string]any{"$ref": "#/$defs/variable"})}
	}
	low, high := bounds(f)
	as, kind := f.Tag.Get("as"), typ.Kind()
	switch texts := oneOfTexts(f); {
	case texts != nil:
		return orVariable(map[string]any{"enum": texts})
	case as == "size":
		return b.reference("size", func() map[string]any {
			return orVariable(map[string]any{"type": "integer", "minimum": 1}, map[string]any{"type": "string", "pattern": "^[1-9][0-9]* *(B|[KMG]i?B)?$"})
		})
	case typ == durationType:
		return b.reference("duration", func() map[string]any {
			return orVariable(map[string]any{"type": "string", "pattern": typeRules[typ].pattern})
		})
	case typ == locationType:
		return map[string]any{"type": "string", "not": map[string]any{"enum": []string{"Local", ""}}}
	case kind == reflect.Int || kind == reflect.Int64:
		return orVariable(map[string]any{"type": "integer", "minimum": json.Number(low), "maximum": json.Number(high)})
	case kind == reflect.Float64:
		return orVariable(map[string]any{"type": "number", "minimum": json.Number(low), "maximum": json.Number(high)})
	case kind == reflect.Bool:
		return orVariable(map[string]any{"type": "boolean"})
	}
	rule, ok := typeRules[typ]
	if !ok {
		rule, ok = scalarRules[as]
	}
	if !ok {
		b.Fatalf("the tag as:%q of %s has no rule in scalarRules", as, f.Name)
	}
	if rule.pattern == "" {
		text := map[string]any{"type": []string{"string", rule.other}}
		if rule.noEmpty {
			text["minLength"] = 1
		}
		return text
	}
	alternatives := []any{map[string]any{"type": "string", "pattern": rule.pattern}}
	if rule.words != nil {
		alternatives = append([]any{map[string]any{"enum": rule.words}}, alternatives...)
	}
	if rule.other != "" {
		alternatives = append(alternatives, map[string]any{"type": rule.other})
	}
	if as == "" || typ != reflect.TypeFor[string]() {
		return orVariable(alternatives...)
	}
	return b.reference(as, func() map[string]any { return orVariable(alternatives...) })
}

func TestGeneratedSchemaIsCurrent(t *testing.T) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(buildSchema(t)); err != nil {
		t.Fatal(err)
	}
	mustBeCurrent(t, schemaFile, out.Bytes())
}

// A compiledSchema is the committed schema.
type compiledSchema struct {
	*testing.T
	root     any
	compiler *jsonschema.Compiler
}

func compileSchema(t *testing.T) *compiledSchema {
	t.Helper()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(schemaFile, root); err != nil {
		t.Fatal(err)
	}
	return &compiledSchema{t, root, compiler}
}

// accepts asks the part of the schema at a JSON pointer.
func (s *compiledSchema) accepts(pointer string, value any) bool {
	s.Helper()
	compiled, err := s.compiler.Compile(schemaFile + "#" + pointer)
	if err != nil {
		s.Fatalf("%s: %v", pointer, err)
	}
	return compiled.Validate(value) == nil
}

// TestSchemaAndDecoderAgreeOnScalars tries good and bad values of every key on both.
func TestSchemaAndDecoderAgreeOnScalars(t *testing.T) {
	s := compileSchema(t)
	tried := 0
	for _, typ := range structsOf(reflect.TypeFor[Config]()) {
		pointer := "/$defs/" + strings.ToLower(typ.Name()[:1]) + typ.Name()[1:]
		if typ == reflect.TypeFor[Config]() {
			pointer = ""
		}
		for f := range keyedFields(typ) {
			at := pointer + "/properties/" + f.Tag.Get("yaml")
			scalar := f.Type
			if scalar.Kind() == reflect.Slice {
				scalar, at = scalar.Elem(), at+"/items"
			}
			if isScalar(scalar) {
				tried++
				tryScalar(s, f, scalar, at)
			}
		}
	}
	if tried < 55 {
		t.Errorf("only %d keys were tried", tried)
	}
}

func tryScalar(s *compiledSchema, f reflect.StructField, typ reflect.Type, pointer string) {
	good, bad, check := examples(s.T, f, typ)
	decodes := func(value any) bool {
		text := fmt.Sprint(value)
		if check != nil {
			return check(text) == nil
		}
		n := yaml.Node{Kind: yaml.ScalarNode, Value: text}
		if _, isText := value.(string); isText {
			n.Tag = "!!str"
		}
		v := reflect.New(typ).Elem()
		return convert(&n, v, f.Tag) == nil && outOfBounds(v, f.Tag) == ""
	}
	for _, v := range good {
		if !s.accepts(pointer, v) || !decodes(v) {
			s.Errorf("%s: %#v must be accepted: the schema says %v, the decoder %v", pointer, v, s.accepts(pointer, v), decodes(v))
		}
	}
	for _, v := range bad {
		if s.accepts(pointer, v) || decodes(v) {
			s.Errorf("%s: %#v must be refused: the schema says %v, the decoder %v", pointer, v, s.accepts(pointer, v), decodes(v))
		}
	}
	// A variable can be anywhere. What is no scalar, or null, can be nowhere.
	for _, v := range []any{"${NAME}", "${NAME:-default}", "${NAME:-}"} {
		if !s.accepts(pointer, v) {
			s.Errorf("%s: the schema refuses %v", pointer, v)
		}
	}
	never := []any{nil, []any{}, map[string]any{}}
	if typ.Kind() != reflect.Bool || f.Tag.Get("oneof") != "" {
		never = append(never, true)
	}
	for _, v := range never {
		if s.accepts(pointer, v) {
			s.Errorf("%s: the schema accepts %#v", pointer, v)
		}
	}
}

// examples returns values that a key accepts and refuses, and what checks a text beside the
// decoder's own conversion.
func examples(t *testing.T, f reflect.StructField, typ reflect.Type) (good, bad []any, check func(string) error) {
	low, high := bounds(f)
	switch texts := oneOfTexts(f); {
	case texts != nil:
		for _, text := range texts {
			good = append(good, text)
		}
		return good, []any{"other", ""}, nil
	case f.Tag.Get("as") == "size":
		return []any{json.Number("1"), "1", "32MiB", "7 KB"}, []any{json.Number("0"), json.Number("1.5"), "many", "-1", "010"}, nil
	case typ == durationType:
		if high == "" {
			high = "1d12h"
		}
		return []any{low, high}, typeRules[typ].bad, nil
	case typ.Kind() == reflect.Int || typ.Kind() == reflect.Int64:
		bad = []any{json.Number("1.5"), "1", beside(t, low, -1), beside(t, high, +1)}
		if f.Tag.Get("as") == "limit" {
			check = func(text string) error {
				n, err := parseDecimal(text, 64)
				if err == nil && (n < 0 || n > quota.MaxAmount) {
					err = strconv.ErrRange
				}
				return err
			}
			bad = slices.Delete(bad, 1, 2) // the check does not know that it is a text
		}
		return []any{json.Number(low), json.Number(high)}, bad, check
	case typ.Kind() == reflect.Float64:
		return []any{json.Number(low), json.Number(high), json.Number("0.25")}, []any{"0.5", beside(t, low, -1), json.Number(high + ".01")}, nil
	case typ.Kind() == reflect.Bool:
		return []any{true, false}, []any{"yes", json.Number("1")}, nil
	}
	rule, ok := typeRules[typ]
	if !ok {
		rule = scalarRules[f.Tag.Get("as")]
	}
	return rule.good, rule.bad, rule.check
}

// beside returns the neighbour of a number.
func beside(t *testing.T, number string, by int) json.Number {
	t.Helper()
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return json.Number(strconv.Itoa(n + by))
}

// readAsJSON reads a YAML file as an editor shows it to the schema.
func readAsJSON(file string) (any, error) {
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

// beyondSchema are the files of testdata/bad with faults that a schema cannot see: these
// concern several values, other files, or the spelling of a value.
var beyondSchema = []string{
	"algorithms-hmac", "algorithms-key", "api-keys", "api-keys-file", "billing-bounds", "billing-hours", "billing-long", "claim-plans-unknown", "claims", "claims-url", "claims-within", "cookie-keep", "cookie-without-tokens", "cors-credentials",
	"duplicate-key", "empty-secret", "history-days", "issuers", "jwks-key", "jwks-key-unused", "jwks-unused", "listen-shared", "listen-tls", "log-sample-exponent", "log-sample-infinite", "max-in-flight-user", "merge-key", "odd-keys", "public-key-private",
	"routes-conflict", "routes-usage", "same-limit", "second-document", "secret-comma-twice", "secret-file-folder",
	"secret-file-short", "short-secret", "store-cluster", "store-cluster-empty", "store-cluster-port",
	"store-database", "store-host", "store-password", "store-port", "store-sentinel", "store-sentinel-database", "store-tls-files",
	"syntax", "syntax-open-quote", "syntax-tab", "syntax-unquoted-variable", "syntax-utf8", "timezone-unknown",
	"token-file-empty", "tracing-tls", "trusted-proxies-odd", "unknown-anchor", "viewer-alone", "viewer-same", "viewer-same-file",
}

func TestSchemaAcceptsGoodFilesAndRefusesBadOnes(t *testing.T) {
	s := compileSchema(t)
	schema, err := s.compiler.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	good, _ := filepath.Glob("testdata/good/*.yaml")
	for _, file := range append(good, "../gateway.yaml", "../cmd/metergate/demo.yaml") {
		doc, err := readAsJSON(file)
		if err == nil {
			err = schema.Validate(doc)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	bad, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(good) < 3 || len(bad) < 60 {
		t.Fatalf("only %d good and %d bad files", len(good), len(bad))
	}
	for _, file := range bad {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		doc, err := readAsJSON(file)
		refused := err == nil && schema.Validate(doc) != nil
		if refused == slices.Contains(beyondSchema, name) {
			t.Errorf("%s: refused: %v", file, refused)
		}
	}
}

func TestShippedFileNamesSchemaInFirstLine(t *testing.T) {
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
