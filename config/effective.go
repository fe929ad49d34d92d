package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Effective returns the configuration in force as maps, lists and scalars with the keys
// of the file: defaults filled in, variables replaced, a $ as $$, secrets as "[redacted]". It can be
// marshalled as JSON or YAML, and but for the secrets it is a valid configuration.
func (c *Config) Effective() map[string]any { return effective(reflect.ValueOf(*c)) }

func effective(v reflect.Value) map[string]any {
	keys := map[string]any{}
	for f := range fields(v.Type()) {
		if shown := show(v.FieldByIndex(f.Index), f.Tag); shown != nil {
			keys[f.Tag.Get("yaml")] = shown
		}
	}
	return keys
}

// show is the value of a key; nil: there is nothing to show, nobody asked for it.
func show(v reflect.Value, tag reflect.StructTag) any {
	if isScalar(v.Type()) {
		return showScalar(v, tag)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return effective(v.Elem())
	case reflect.Struct:
		return effective(v)
	case reflect.Map:
		elems := map[string]any{}
		for name, elem := range v.Seq2() {
			elems[name.String()] = show(elem, tag)
		}
		return elems
	case reflect.Slice:
		elems := []any{}
		for _, elem := range v.Seq2() {
			elems = append(elems, show(elem, tag))
		}
		return elems
	}
	panic(fmt.Sprintf("config: cannot show a %s", v.Type()))
}

// showScalar is the inverse of convert.
func showScalar(v reflect.Value, tag reflect.StructTag) any {
	switch x := v.Interface().(type) {
	case Secret:
		return nothing(x.String())
	case time.Duration:
		return durationText(x)
	case slog.Level:
		return strings.ToLower(x.String())
	case *time.Location:
		return x.String()
	case netip.Prefix:
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
	if tag.Get("as") == "jwks" { // a query may hold a key
		if before, _, found := strings.Cut(v.String(), "?"); found {
			return nothing(before + "?[redacted]")
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
	return nothing(v.String())
}

// durationText is as short as people write it: 400d, 1h, 250ms.
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
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

// nothing is nil for an empty text, which most keys do not take, and else the text as a
// file would have it.
func nothing(text string) any {
	if text == "" {
		return nil
	}
	return strings.ReplaceAll(text, "$", "$$")
}
