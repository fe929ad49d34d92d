package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"metergate/quota"
)

// Redacted returns the configuration as maps, lists and scalars with the keys of the file.
// Defaults are filled in, variables are replaced, a $ is written as $$, and secrets are
// "[redacted]". The result can be marshalled as JSON or YAML. Apart from the secrets, it is
// a valid configuration.
func (c *Config) Redacted() map[string]any { return redactedStruct(reflect.ValueOf(*c)) }

func redactedStruct(v reflect.Value) map[string]any {
	keys := map[string]any{}
	for f := range keyedFields(v.Type()) {
		if shown := redactedValue(v.FieldByIndex(f.Index), f.Tag); shown != nil {
			keys[f.Tag.Get("yaml")] = shown
		}
	}
	return keys
}

// redactedValue returns the value of a key, and nil for an optional key without a value.
func redactedValue(v reflect.Value, tag reflect.StructTag) any {
	if isScalar(v.Type()) {
		return redactedScalar(v, tag)
	}
	if plans, ok := v.Interface().(ClaimPlans); ok {
		if plans == nil {
			return nil
		}
		return plans
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return redactedValue(v.Elem(), tag)
	case reflect.Struct:
		return redactedStruct(v)
	case reflect.Map:
		if v.Len() == 0 && tag.Get("keys") != "" {
			return nil
		}
		elems := map[string]any{}
		for name, elem := range v.Seq2() {
			elems[name.String()] = redactedValue(elem, tag)
		}
		return elems
	case reflect.Slice:
		if tag.Get("single") != "" && v.Len() == 1 {
			return redactedValue(v.Index(0), tag)
		}
		elems := []any{}
		for _, elem := range v.Seq2() {
			elems = append(elems, redactedValue(elem, tag))
		}
		return elems
	}
	panic(fmt.Sprintf("config: cannot show a %s", v.Type()))
}

// redactedScalar is the inverse of convert.
func redactedScalar(v reflect.Value, tag reflect.StructTag) any {
	switch x := v.Interface().(type) {
	case Secret:
		return textOrNil(x.String())
	case time.Duration:
		return durationText(x)
	case slog.Level:
		return strings.ToLower(x.String())
	case quota.Period:
		return x.String()
	case *time.Location:
		return x.String()
	case netip.Prefix:
		if !x.IsValid() {
			return networkUnix
		}
		return x.String()
	case *url.URL:
		return x.String()
	case bool:
		if no, yes, words := strings.Cut(tag.Get("oneof"), ", "); words {
			if x {
				return yes
			}
			return no
		}
		return x
	}
	if hidesQuery(tag) {
		if before, _, found := strings.Cut(v.String(), "?"); found {
			return textOrNil(before + "?[redacted]")
		}
	}
	if tag.Get("as") == "size" {
		return strconv.FormatInt(v.Int(), 10)
	}
	if v.CanFloat() {
		return v.Float()
	}
	if v.CanInt() {
		return v.Int()
	}
	return textOrNil(v.String())
}

// hidesQuery reports whether the query of a key's URL may hold a secret.
func hidesQuery(tag reflect.StructTag) bool {
	return tag.Get("as") == "jwks" || tag.Get("as") == "webhook"
}

// MarshalJSON writes the mapping in its order, as a file would have it.
func (p ClaimPlans) MarshalJSON() ([]byte, error) {
	out := bytes.NewBufferString("{")
	for i, c := range p {
		value, err := json.Marshal(c.Value)
		if err != nil {
			return nil, err
		}
		plan, err := json.Marshal(textOrNil(c.Plan))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(value)
		out.WriteByte(':')
		out.Write(plan)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// MarshalYAML returns the mapping in its order, as a file would have it.
func (p ClaimPlans) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, c := range p {
		for _, text := range []string{c.Value, strings.ReplaceAll(c.Plan, "$", "$$")} {
			scalar := new(yaml.Node)
			scalar.SetString(text)
			n.Content = append(n.Content, scalar)
		}
	}
	return n, nil
}

// durationText writes a duration as people do: 400d, 1h, 250ms.
func durationText(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// textOrNil returns a text as a file would have it, and nil for an empty text, which most
// keys do not accept.
func textOrNil(text string) any {
	if text == "" {
		return nil
	}
	return strings.ReplaceAll(text, "$", "$$")
}
