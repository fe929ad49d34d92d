package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const docsFile = "../docs/configuration.md"

var keysMarker = regexp.MustCompile(`(?s)<!-- keys: (\w+) -->\n.*?<!-- end of keys -->\n`)

func TestGeneratedDocsAreCurrent(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	w := docsWriter{T: t, comments: readComments(t), headings: headingsOf(string(text))}
	types := map[string]reflect.Type{}
	for _, typ := range structsOf(reflect.TypeFor[Config]()) {
		types[typ.Name()] = typ
		if w.headings[typ.Name()] == "" {
			t.Errorf("%s has no table of the keys of %s; add <!-- keys: %s --> and <!-- end of keys -->", docsFile, typ.Name(), typ.Name())
		}
	}
	generated := keysMarker.ReplaceAllStringFunc(string(text), func(section string) string {
		name := keysMarker.FindStringSubmatch(section)[1]
		if types[name] == nil {
			t.Fatalf("%s: there is no type %s", docsFile, name)
		}
		return "<!-- keys: " + name + " -->\n\n" + w.table(types[name]) + "\n<!-- end of keys -->\n"
	})
	mustBeCurrent(t, docsFile, []byte(generated))
}

// headingsOf returns the heading above the table of each type.
func headingsOf(text string) map[string]string {
	headings, heading := map[string]string{}, ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
		if m := regexp.MustCompile(`^<!-- keys: (\w+) -->`).FindStringSubmatch(line); m != nil {
			headings[m[1]] = heading
		}
	}
	return headings
}

// A docsWriter makes the tables of docs/configuration.md.
type docsWriter struct {
	*testing.T
	comments comments
	headings map[string]string // by type
}

func (w *docsWriter) table(typ reflect.Type) string {
	var b strings.Builder
	b.WriteString("| key | value | default | meaning |\n|---|---|---|---|\n")
	for f := range keyedFields(typ) {
		key := "`" + f.Tag.Get("yaml") + "`"
		if f.Type == reflect.TypeFor[Secret]() {
			key += ", `" + f.Tag.Get("yaml") + fileSuffix + "`"
		}
		fallback := "–"
		if text, ok := defaultOf(f); ok {
			fallback = "`" + text + "`"
		} else if f.Tag.Get("required") != "" {
			fallback = "required"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", key, w.valueOf(f, f.Type), fallback, markdown(w.comments[typ.Name()+"."+f.Name]))
	}
	return b.String()
}

// markdown escapes the characters of a comment that mean something in a table.
func markdown(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(text)
}

// valueOf says what a value may be, with its bounds.
func (w *docsWriter) valueOf(f reflect.StructField, typ reflect.Type) string {
	low, high := bounds(f)
	switch {
	case isScalar(typ):
	case typ == claimPlansType:
		return "mapping of values to plans"
	case typ.Kind() == reflect.Map && f.Tag.Get("keys") != "":
		return "mapping of claims to " + w.valueOf(f, typ.Elem())
	case typ.Kind() == reflect.Pointer:
		return w.valueOf(f, typ.Elem())
	case typ.Kind() == reflect.Slice && isScalar(typ.Elem()):
		return "list, each item: " + w.valueOf(f, typ.Elem())
	case typ.Kind() == reflect.Slice && f.Tag.Get("single") != "":
		return w.valueOf(f, typ.Elem()) + ", or a list of them"
	case typ.Kind() == reflect.Slice:
		return "list of " + w.valueOf(f, typ.Elem())
	case typ.Kind() == reflect.Map:
		return "mapping of names to " + w.valueOf(f, typ.Elem())
	default:
		heading := w.headings[typ.Name()]
		slug := strings.NewReplacer(".", "", " ", "-").Replace(strings.ToLower(heading))
		link := fmt.Sprintf("[%s](#%s)", heading, slug)
		if key, ok := f.Tag.Lookup("short"); ok {
			short, _ := fieldOf(typ, key)
			return w.valueOf(*short, short.Type) + ", or " + link
		}
		return link
	}
	switch texts, kind := oneOfTexts(f), typ.Kind(); {
	case texts != nil:
		return "`" + strings.Join(texts, "`, `") + "`"
	case f.Tag.Get("as") == "size":
		return "size, at least " + low
	case typ == durationType:
		return "duration, " + strings.ToLower(rangeText(low, high))
	case kind == reflect.Int || kind == reflect.Int64 || kind == reflect.Float64:
		return rangeText(low, high)
	case kind == reflect.Bool:
		return "`true`, `false`"
	}
	if rule, ok := typeRules[typ]; ok {
		return rule.label
	}
	if strings.HasSuffix(f.Tag.Get("yaml"), fileSuffix) {
		return "file"
	}
	return scalarRules[f.Tag.Get("as")].label
}

// TestDocsHaveValidExampleOfEveryKey parses each example of docs/configuration.md within a
// minimal configuration.
func TestDocsHaveValidExampleOfEveryKey(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{} // "Type.key"
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	for _, example := range examples {
		var keys, whole map[string]yaml.Node
		if err := yaml.Unmarshal([]byte(example[1]), &keys); err != nil {
			t.Errorf("%v\n%s", err, example[1])
			continue
		}
		minimal := strings.ReplaceAll(fmt.Sprintf(base, ""), "api:", "analysis:")
		minimal = strings.ReplaceAll(minimal, "upstream: api", "upstream: analysis")
		if err := yaml.Unmarshal([]byte(minimal), &whole); err != nil {
			t.Fatal(err)
		}
		maps.Copy(whole, keys)
		data, err := yaml.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(docsFile, data, func(name string) (string, bool) {
			v, ok := map[string]string{"JWT_SECRET": planted, "WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}[name]
			return v, ok
		})
		if faults, ok := err.(Errors); ok {
			for _, fault := range faults {
				if !strings.Contains(fault.Message, "cannot read this file") { // an example's files do not exist
					t.Errorf("%v\n%s", fault, example[1])
				}
			}
		}
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(example[1]), &root); err != nil {
			t.Fatal(err)
		}
		collectKeys(root.Content[0], reflect.TypeFor[Config](), shown)
	}
	for _, typ := range structsOf(reflect.TypeFor[Config]()) {
		for f := range keyedFields(typ) {
			if name := typ.Name() + "." + f.Tag.Get("yaml"); !shown[name] {
				t.Errorf("%s has no example of %s", docsFile, name)
			}
		}
	}
	if n := len(slices.Collect(maps.Keys(shown))); n < 70 {
		t.Errorf("only %d keys in %d examples", n, len(examples))
	}
}

// collectKeys notes the keys of a node that becomes a typ.
func collectKeys(n *yaml.Node, typ reflect.Type, shown map[string]bool) {
	switch {
	case isScalar(typ), typ == claimPlansType:
	case typ.Kind() == reflect.Pointer:
		collectKeys(n, typ.Elem(), shown)
	case typ.Kind() == reflect.Slice && n.Kind == yaml.MappingNode:
		collectKeys(n, typ.Elem(), shown)
	case typ.Kind() == reflect.Slice:
		for _, elem := range n.Content {
			collectKeys(elem, typ.Elem(), shown)
		}
	default:
		for i := 0; i+1 < len(n.Content); i += 2 {
			inner := typ
			if typ.Kind() == reflect.Struct {
				f, _ := fieldOf(typ, n.Content[i].Value)
				if f == nil {
					continue // the parser reports it
				}
				shown[typ.Name()+"."+f.Tag.Get("yaml")] = true
				inner = f.Type
			} else {
				inner = typ.Elem()
			}
			collectKeys(n.Content[i+1], inner, shown)
		}
	}
}
