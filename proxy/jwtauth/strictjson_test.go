package jwtauth

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestDecodeObjectAcceptsOnlyUnambiguousJSON(t *testing.T) {
	for text, want := range map[string]error{
		`{}`:                               nil,
		" \t\r\n{ } \n":                    nil,
		`{"a":1,"A":2,"b":{"a":3}}`:        nil,
		`{"a":[{"b":1},{"b":2}]}`:          nil,
		`{"a":{"b":1},"c":{"b":1}}`:        nil,
		`{"":1}`:                           nil,
		`{"a":"\\\\ud800","b":"\""}`:       nil,
		`{"a":"\uD83D\uDE00\ud83d\ude00"}`: nil,
		`{"a":"\u0041\ufffd"}`:             nil,
		`{"a":1e999,"b":-0.0}`:             nil,
		nestedObjects(maxDepth):            nil,
		nestedObjects(maxDepth + 1):        errTooDeep,
		nestedObjects(2000):                errTooDeep,
		`{"a":` + nested(maxDepth) + `}`:   errTooDeep,

		``:                                  errTruncated,
		` `:                                 errTruncated,
		`{`:                                 errTruncated,
		`{"a`:                               errTruncated,
		`{"a"`:                              errTruncated,
		`{"a":`:                             errTruncated,
		`{"a":1`:                            errTruncated,
		`{"a":[`:                            errTruncated,
		`{"a":[1`:                           errTruncated,
		`null`:                              errNotObject,
		`[]`:                                errNotObject,
		`"{}"`:                              errNotObject,
		`7`:                                 errNotObject,
		`{}{}`:                              errTrailing,
		`{}x`:                               errTrailing,
		`{}}`:                               errTrailing,
		`{},`:                               errTrailing,
		"{}\x00":                            errTrailing,
		`{"a":1,"a":1}`:                     errDuplicate,
		`{"a":1,"b":2,"a":3}`:               errDuplicate,
		`{"a":null,"a":1}`:                  errDuplicate,
		`{"":1,"":2}`:                       errDuplicate,
		`{"a":1,"\u0061":1}`:                errDuplicate,
		`{"\/":1,"/":1}`:                    errDuplicate,
		`{"a":{"b":1,"b":2}}`:               errDuplicate,
		`{"a":[[{"b":1,"b":2}]]}`:           errDuplicate,
		`{"a":"\ud800"}`:                    errUnicode,
		`{"a":"\udc00"}`:                    errUnicode,
		`{"a":"\ud800\ud800"}`:              errUnicode,
		`{"a":"\ud800x\udc00"}`:             errUnicode,
		`{"a":"\ud800\\udc00"}`:             errUnicode,
		`{"\uDBFF":1}`:                      errUnicode,
		"{\"a\":\"\xc0\x80\"}":              errUnicode,
		"{\"a\":\"\xed\xa0\x80\"}":          errUnicode, // a surrogate in UTF-8
		"\xff{}":                            errUnicode,
		"\ufeff{}":                          errSyntax,
		`{a:1}`:                             errSyntax,
		`{'a':1}`:                           errSyntax,
		`{1:1}`:                             errSyntax,
		`{"a":1,}`:                          errSyntax,
		`{,"a":1}`:                          errSyntax,
		`{"a":1 "b":2}`:                     errSyntax,
		`{"a" 1}`:                           errSyntax,
		`{"a":}`:                            errSyntax,
		`{"a":1]`:                           errSyntax,
		`{"a":[1}}`:                         errSyntax,
		`{"a":[1,]}`:                        errSyntax,
		`{"a":01}`:                          errSyntax,
		`{"a":+1}`:                          errSyntax,
		`{"a":.5}`:                          errSyntax,
		`{"a":NaN}`:                         errSyntax,
		`{"a":True}`:                        errSyntax,
		`{"a":1/**/}`:                       errSyntax,
		"{\"a\":\"\n\"}":                    errSyntax,
		`{"a":"\x41"}`:                      errSyntax,
		`{"a":"\uD83"}`:                     errSyntax,
		strings.Repeat(`{"a":`, 3) + `\`:    errSyntax,
		strings.Repeat(`{"a":`, 3) + `"\u`:  errTruncated,
		strings.Repeat(`{"a":`, 3) + `"\uD`: errTruncated,
	} {
		got, err := decodeObject([]byte(text))
		if err != want {
			t.Errorf("%.60q: got error %v, want %v", text, err, want)
		}
		if err == nil {
			wantLenient(t, text, got)
		}
	}
}

func nestedObjects(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat("}", depth-1)
}

// wantLenient checks that decodeObject reads a good text as encoding/json does.
func wantLenient(t *testing.T, text string, got map[string]any) {
	t.Helper()
	if want, err := lenient(text); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q: got %v, want %v, %v", text, got, want, err)
	}
}

// lenient decodes a text as encoding/json does.
func lenient(text string) (object map[string]any, err error) {
	if !json.Valid([]byte(text)) { // Decode stops at the end of the value
		return nil, errSyntax
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	err = dec.Decode(&object)
	return object, err
}

// FuzzDecodeObject checks that a text is refused or read as encoding/json reads it, and that
// nothing is lost: written again, it has as many values.
func FuzzDecodeObject(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1,"a":2}`, `{"a":[{},[null,true,-1e9,"\ud83d\ude00"]]}`, `{"a":"\ud800"}`, `{"a":1}x`, "{\"a\":\"\xff\"}", `{"a":{"b":1,"b":2}}`, `[1]`, `{"a":1,`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := decodeObject([]byte(text))
		if err != nil {
			return
		}
		wantLenient(t, text, got)
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := countTokens([]byte(text)), countTokens(again); a != b {
			t.Errorf("%q has %d values, read as %s with %d", text, a, again, b)
		}
		replaced := strings.Count(string(again), "\ufffd")
		if own := strings.Count(text, "\ufffd") + strings.Count(strings.ToLower(text), `\ufffd`); replaced > own {
			t.Errorf("%q was read as %s", text, again)
		}
	})
}

// countTokens counts the tokens of a JSON text.
func countTokens(text []byte) (n int) {
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := dec.Token(); err != nil {
			return n
		}
		n++
	}
}
