package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxValues bounds the number of values that aliases can make of a file.
const maxValues = 100_000

// A decoder fills the types of this package from a tree of YAML nodes. It reads the tags of
// their fields:
//
//	yaml      the key
//	required  the key must be given
//	default   the value if the key is not given
//	as        the rules that the text follows, see convert
//	oneof     the texts that are allowed; for a bool, the texts for false and true
//	min, max  the bounds of a number, duration or size
//	short     the key that a single value in place of the mapping stands for
//	single    a mapping in place of the list of mappings stands for a list of one
//
// It reports the faults of single values, and notes where all values stand for the checker,
// which checks several values against each other.
type decoder struct {
	src    *source
	dir    string // the folder of the configuration file
	lookup func(string) (string, bool)
	values int // decoded so far
}

func (d *decoder) decode(root *yaml.Node, v reflect.Value) {
	d.src.positions[""] = position{line: root.Line}
	d.decodeValue(root, v, "", root.Line, "")
}

// decodeValue decodes n into v. Messages point to line.
func (d *decoder) decodeValue(n *yaml.Node, v reflect.Value, path string, line int, tag reflect.StructTag) {
	n = resolveAlias(n)
	if d.values++; d.values > maxValues {
		if d.values == maxValues+1 {
			d.src.reportBelow("", path, line, "aliases make more than %d values of this file; use fewer", maxValues)
		}
		return
	}
	d.src.positions[path] = position{path: path, line: line}
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		// The tag is not shown: it may be a secret that begins with !.
		d.src.report(path, line, "has a YAML tag (!...), which is not supported; remove it, or quote text that begins with !")
	case isNull(n):
		d.src.report(path, line, "needs a value; give it one, or remove the key")
	case isScalar(v.Type()):
		d.decodeScalar(n, v, path, line, tag)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decodeValue(n, v.Elem(), path, line, tag)
	case v.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		d.decodeStruct(n, v, path)
	case v.Kind() == reflect.Struct && n.Kind == yaml.ScalarNode && tag.Get("short") != "":
		d.fillDefaults(v)
		f, _ := fieldOf(v.Type(), tag.Get("short"))
		d.decodeScalar(n, v.FieldByIndex(f.Index), path, line, f.Tag)
	case v.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		v.Set(reflect.MakeMap(v.Type()))
		for _, p := range d.pairs(n, v.Type(), path) {
			elem := reflect.New(v.Type().Elem()).Elem()
			d.decodeValue(p.value, elem, joinPath(path, p.key), p.line, tag)
			v.SetMapIndex(reflect.ValueOf(p.key), elem)
		}
	case v.Type() == claimPlansType && n.Kind == yaml.MappingNode:
		var plans ClaimPlans
		for _, p := range d.pairs(n, v.Type(), path) {
			plan := ClaimPlan{Value: p.key}
			d.decodeValue(p.value, reflect.ValueOf(&plan.Plan).Elem(), joinPath(path, p.key), p.line, tag)
			plans = append(plans, plan)
		}
		v.Set(reflect.ValueOf(plans))
	case v.Type() == claimPlansType:
		d.src.report(path, line, "must be a mapping of values to plans ({ gold: pro }), got %s", kindOf(n))
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			d.decodeValue(c, v.Index(i), indexPath(path, i), c.Line, tag)
		}
	case v.Kind() == reflect.Slice && tag.Get("single") != "" && n.Kind == yaml.MappingNode:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.decodeStruct(n, v.Index(0), path)
	case v.Kind() == reflect.Slice && tag.Get("single") != "":
		d.src.report(path, line, "must be a mapping (key: value) or a list of mappings, got %s", kindOf(n))
	case v.Kind() == reflect.Slice:
		d.src.report(path, line, "must be a list ([a, b], or lines that begin with -), got %s", kindOf(n))
	case tag.Get("short") != "":
		d.src.report(path, line, "must be a number or a mapping (key: value), got %s", kindOf(n))
	default:
		d.src.report(path, line, "must be a mapping (key: value), got %s", kindOf(n))
	}
}

// A pair is a key of a mapping and its value.
type pair struct {
	key   string
	value *yaml.Node
	line  int // where a scalar stands, or where the key of a collection stands
	// afterSecret is the key of a secret that stands before this one in { }. This key may
	// then be the rest of that secret, since YAML reads b as a key in {secret: a,b}. It must
	// not be shown unless it is a known key.
	afterSecret string
}

// pairs returns the pairs of a mapping that becomes a t. It reports keys that are repeated
// or are not plain text.
func (d *decoder) pairs(n *yaml.Node, t reflect.Type, path string) []pair {
	var pairs []pair
	secret := ""
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := resolveAlias(n.Content[i]), n.Content[i+1]
		line := n.Content[i].Line
		switch {
		case k.Kind != yaml.ScalarNode || k.Style&yaml.TaggedStyle != 0 || isNull(k):
			d.src.report(path, line, "has a key that is not plain text; quote a value that begins with { or [")
			continue
		case k.ShortTag() == "!!merge":
			d.src.report(path, line, "merge keys (<<) are not supported; write the keys out, or use an alias for the whole value")
			continue
		case first[k.Value] > 0 && secret != "" && !hasKey(t, k.Value):
			continue // reported when it came first
		case first[k.Value] > 0:
			d.src.report(joinPath(path, k.Value), line, "is given twice, first on line %d", first[k.Value])
			continue
		}
		first[k.Value] = line
		if value.Kind == yaml.ScalarNode || value.Kind == yaml.AliasNode {
			line = value.Line
		}
		pairs = append(pairs, pair{k.Value, value, line, secret})
		if n.Style&yaml.FlowStyle != 0 && isSecret(t, k.Value) {
			secret = k.Value
		}
	}
	return pairs
}

const fileSuffix = "_file"

// decodeStruct decodes a mapping into a struct.
func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	d.fillDefaults(v)
	excused := map[string]bool{} // keys that are given, or that a misspelt key probably means
	for _, p := range d.pairs(n, v.Type(), path) {
		at := joinPath(path, p.key)
		f, isFile := fieldOf(v.Type(), p.key)
		if f == nil {
			known := keysOf(v.Type())
			if p.afterSecret != "" {
				d.src.report(path, p.line, "has an unknown key after %s, which is not shown because it may be a part of that value; put a value with a comma in quotes; the keys are %s", p.afterSecret, strings.Join(known, ", "))
			} else if name := suggest(p.key, known); name != "" {
				d.src.reportBelow(path, at, p.line, "unknown key; did you mean %s?", name)
				d.src.failed[joinPath(path, strings.TrimSuffix(name, fileSuffix))] = true
				d.src.failed[joinPath(path, name)] = true
				excused[name] = true
			} else {
				d.src.reportBelow(path, at, p.line, "unknown key; the keys are %s", strings.Join(known, ", "))
			}
			continue
		}
		name := f.Tag.Get("yaml")
		if f.Type == reflect.TypeFor[Secret]() && d.src.given(joinPath(path, name)) {
			d.src.report(at, p.line, "give %s or %s, not both", name, name+fileSuffix)
			continue
		}
		excused[name] = true
		if isFile {
			d.readSecretFile(p.value, v.FieldByIndex(f.Index), joinPath(path, name), p.line)
		} else {
			d.decodeValue(p.value, v.FieldByIndex(f.Index), at, p.line, f.Tag)
		}
	}
	for f := range keyedFields(v.Type()) {
		if name := f.Tag.Get("yaml"); f.Tag.Get("required") != "" && !excused[name] {
			d.src.reportAt(joinPath(path, name), "is required")
		}
	}
}

// keyedFields yields the fields of t that have a key.
func keyedFields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("yaml") != "" && !yield(f) {
				return
			}
		}
	}
}

// fieldOf finds the field of a key, nil if there is none. isFile is true if key is the x_file
// of a secret x.
func fieldOf(t reflect.Type, key string) (found *reflect.StructField, isFile bool) {
	for f := range keyedFields(t) {
		switch name := f.Tag.Get("yaml"); {
		case name == key:
			return &f, false
		case name+fileSuffix == key && f.Type == reflect.TypeFor[Secret]():
			return &f, true
		}
	}
	return nil, false
}

// hasKey reports whether a mapping that becomes a t can have a key.
func hasKey(t reflect.Type, key string) bool {
	if t.Kind() != reflect.Struct {
		return true
	}
	f, _ := fieldOf(t, key)
	return f != nil
}

// isSecret reports whether a key of a mapping that becomes a t is that of a secret or of its
// file.
func isSecret(t reflect.Type, key string) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	f, _ := fieldOf(t, key)
	return f != nil && f.Type == reflect.TypeFor[Secret]()
}

// keysOf returns all keys of a struct, in the order of its fields.
func keysOf(t reflect.Type) []string {
	var names []string
	for f := range keyedFields(t) {
		name := f.Tag.Get("yaml")
		names = append(names, name)
		if f.Type == reflect.TypeFor[Secret]() {
			names = append(names, name+fileSuffix)
		}
	}
	return names
}

// fillDefaults fills in the defaults of a struct and of the structs in it.
func (d *decoder) fillDefaults(v reflect.Value) {
	for f := range keyedFields(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		if text, ok := f.Tag.Lookup("default"); ok {
			mustConvert(text, fv, f.Tag)
		} else if fv.Kind() == reflect.Struct && !isScalar(f.Type) {
			d.fillDefaults(fv)
		}
	}
}

// mustConvert converts the text of a tag. It panics if the text is not valid.
func mustConvert(text string, v reflect.Value, tag reflect.StructTag) {
	if err := convert(&yaml.Node{Kind: yaml.ScalarNode, Value: text}, v, tag); err != nil {
		panic(fmt.Sprintf("config: the text %q of a tag %v", text, err))
	}
}

// decodeScalar decodes a single value.
func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string, line int, tag reflect.StructTag) {
	n, ok := d.expandScalar(n, path, line, commandFor(v.Type(), tag))
	if !ok {
		return
	}
	_, secret := v.Interface().(Secret)
	shown := ""
	if !secret {
		shown = d.src.positions[path].text
	}
	if hidesQuery(tag) && strings.Contains(shown, "?") {
		shown = ""
	}
	d.src.positions[path] = position{path, line, shown}
	if n.Value == "" && v.Kind() != reflect.String {
		d.src.report(path, line, "needs a value%s", got(shown))
		return
	}
	into := reflect.New(v.Type()).Elem()
	if err := convert(n, into, tag); err != nil {
		d.src.report(path, line, "%v%s", err, got(shown))
		return
	}
	if message := outOfBounds(into, tag); message != "" {
		d.src.report(path, line, "%s%s", message, got(shown))
		return
	}
	v.Set(into)
}

// commandFor returns the command that makes a value for a key that holds a secret. It is empty if no command does.
func commandFor(t reflect.Type, tag reflect.StructTag) string {
	switch as := tag.Get("as"); {
	case t != reflect.TypeFor[Secret]() || as == "store":
		return ""
	case as == "signing":
		return makeSigningSecret
	}
	return makeSecret
}

// expandScalar replaces the variables of a scalar and notes its text as the file has it. The
// expanded text gets its type anew: it may be a number, even within the quotes that YAML
// requires around ${...} in brackets. If the value must not be written into the file, makeWith is the
// command that makes one.
func (d *decoder) expandScalar(n *yaml.Node, path string, line int, makeWith string) (_ *yaml.Node, ok bool) {
	if n.Kind != yaml.ScalarNode {
		d.src.report(path, line, "must be a single value, got %s", kindOf(n))
		return nil, false
	}
	text, expanded, err := expand(n.Value, d.lookup)
	var unset unsetError
	switch {
	case makeWith != "" && errors.As(err, &unset):
		d.src.report(path, line, "%s", unset.forSecret(path[strings.LastIndexByte(path, '.')+1:], makeWith))
		return nil, false
	case err != nil:
		d.src.report(path, line, "%v", err)
		return nil, false
	}
	shown := quoteShort(n.Value)
	if tag := n.ShortTag(); tag == "!!int" || tag == "!!float" || tag == "!!bool" {
		shown = n.Value
	}
	d.src.positions[path] = position{path, line, shown}
	if expanded {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text}, true
	}
	same := *n
	same.Value = text // $$ has become $
	return &same, true
}

// outOfBounds compares a value with the tags min and max, and returns a message if it is
// outside.
func outOfBounds(v reflect.Value, tag reflect.StructTag) string {
	number := func(v reflect.Value) float64 {
		if v.CanFloat() {
			return v.Float()
		}
		return float64(v.Int()) // exact: bounds have far fewer than 53 bits
	}
	bound := func(name string) (float64, string) {
		text, ok := tag.Lookup(name)
		if !ok {
			return 0, ""
		}
		b := reflect.New(v.Type()).Elem()
		mustConvert(text, b, tag)
		return number(b), text
	}
	low, from := bound("min")
	high, to := bound("max")
	switch {
	case from != "" && to != "" && (number(v) < low || number(v) > high):
		return fmt.Sprintf("must be %s to %s", from, to)
	case from != "" && number(v) < low:
		return "must be at least " + from
	}
	return ""
}

// readSecretFile reads the secret at path from the file that x_file names.
func (d *decoder) readSecretFile(n *yaml.Node, v reflect.Value, path string, line int) {
	filePath := path + fileSuffix
	var name string
	d.decodeValue(n, reflect.ValueOf(&name).Elem(), filePath, line, "")
	d.src.positions[path] = position{path: filePath, line: line}
	if !d.src.failed[filePath] {
		d.src.files = append(d.src.files, resolvePath(d.dir, name))
		text, err := readSmall(d.dir, name)
		if err != nil {
			d.src.report(filePath, line, "%v", err)
		}
		text, trimmed := strings.CutSuffix(text, "\n")
		if trimmed {
			text = strings.TrimSuffix(text, "\r")
		}
		v.SetString(text)
	}
	d.src.failed[path] = d.src.failed[filePath]
}

// maxSmallBytes bounds the file of a key, a certificate or a secret.
const maxSmallBytes = 64 << 10

// readSmall returns the content of a file in dir. Its errors do not show the name, which may
// be a secret that was given by mistake.
func readSmall(dir, name string) (string, error) {
	if name == "" {
		return "", errors.New("must be the name of a file")
	}
	return readFile(resolvePath(dir, name), maxSmallBytes)
}

// readFile returns the content of a regular file of at most limit bytes. Its errors do not
// show the name.
func readFile(name string, limit int64) (string, error) {
	if err := checkFile(name, limit); err != nil {
		return "", err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", fileError(err)
	}
	return string(data), nil
}

// checkFile checks that a file is a regular one of at most limit bytes.
func checkFile(name string, limit int64) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return fileError(err)
	case !info.Mode().IsRegular():
		return errors.New("must be a regular file")
	case info.Size() > limit:
		return fmt.Errorf("must be a file of at most %d KiB", limit>>10)
	}
	return nil
}

func fileError(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("cannot read this file (%w); a relative name starts at the folder of the configuration", err)
}

// resolvePath resolves a path that is relative to dir.
func resolvePath(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// isScalar reports whether a value of type t is written as one scalar.
func isScalar(t reflect.Type) bool {
	return slices.Contains([]reflect.Kind{reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64}, t.Kind()) ||
		t == periodType || t == locationType || t == prefixType || t == urlType
}
