package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// fields are those of a JSON object, and where their values go. What a text does not
// name, or names as null, stays as it is.
type fields map[string]any

// decode reads one object and nothing after it. Unlike encoding/json it wants the names
// as they are written here, and each of them once: a change that is half understood is
// worse than none. The error names the place.
func (f fields) decode(text []byte) error {
	return eachField(text, func(name string, value json.RawMessage) error {
		target := f[name]
		if target == nil {
			return fmt.Errorf("%.80q is no field, there are %s", name, strings.Join(slices.Sorted(maps.Keys(f)), ", "))
		}
		err := json.Unmarshal(value, target)
		if err == nil {
			return nil
		}
		want := ""
		switch target.(type) {
		case *int64:
			want = "must be a whole number"
		case *string:
			want = "must be a text in quotation marks"
		case *time.Time:
			want = "must be a time like \"2026-12-31T00:00:00Z\""
		default:
			return fmt.Errorf("%s: %w", name, err)
		}
		return fmt.Errorf("%s: %s, got %.80s", name, want, value)
	})
}

// counts are what is used of endpoints.
type counts map[string]int64

func (c *counts) UnmarshalJSON(text []byte) error {
	*c = counts{}
	return eachField(text, func(endpoint string, value json.RawMessage) error {
		var n *int64
		if err := json.Unmarshal(value, &n); err != nil || n == nil {
			return fmt.Errorf("%.80s: must be a whole number, got %.80s", endpoint, value)
		}
		(*c)[endpoint] = *n
		return nil
	})
}

// eachField calls do with each field of the one object that text must be.
func eachField(text []byte, do func(name string, value json.RawMessage) error) error {
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	first, err := dec.Token()
	if err == nil && first != json.Delim('{') {
		err = fmt.Errorf("a JSON object is wanted, got %.80s", text)
	}
	seen := map[string]bool{}
	for err == nil && dec.More() {
		var name json.Token
		var value json.RawMessage
		if name, err = dec.Token(); err != nil {
			break
		}
		if err = dec.Decode(&value); err != nil {
			break
		}
		if seen[name.(string)] {
			return fmt.Errorf("%s is given twice", name)
		}
		seen[name.(string)] = true
		if err := do(name.(string), value); err != nil {
			return err
		}
	}
	if err == nil {
		_, err = dec.Token() // the brace
	}
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("a JSON object is wanted, and the text ends before it does")
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON at byte %d: %w", syntax.Offset, err)
	case err != nil:
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON object")
	}
	return nil
}

// readBody reads up to maxChange.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChange))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("The body may have %d bytes at the most.", maxChange)}
	case err != nil:
		return nil, badRequest("body: it broke off")
	}
	return text, nil
}

func checkJSONType(contentType string) error {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" {
		return refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type must be application/json, got %.80q.", contentType)}
	}
	return nil
}
