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
	"time"
	"unicode/utf8"

	"metergate/quota"
)

// members maps the member names of a JSON object to where their values go. A member that
// is absent or null leaves its target unchanged.
type members map[string]any

// decode reads one object and nothing after it. Unlike encoding/json it requires the names
// exactly as written here, each at most once: a change that is half understood is worse
// than none. The error names the member.
func (f members) decode(text []byte) error {
	return eachMember(text, func(name string, value json.RawMessage) error {
		target := f[name]
		if target == nil {
			return fmt.Errorf("unknown member %.80q; %s", name, quota.ListNames("member", slices.Sorted(maps.Keys(f))))
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
			want = "must be a string in quotation marks"
		case *time.Time:
			want = "must be a time like \"2026-12-31T00:00:00Z\""
		default:
			return fmt.Errorf("%s: %w", name, err)
		}
		return fmt.Errorf("%s: %s, got %.80s", name, want, value)
	})
}

// endpointCounts maps endpoints to what was used of them.
type endpointCounts map[string]int64

func (c *endpointCounts) UnmarshalJSON(text []byte) error {
	*c = endpointCounts{}
	return eachMember(text, func(endpoint string, value json.RawMessage) error {
		var n *int64
		if err := json.Unmarshal(value, &n); err != nil || n == nil {
			return fmt.Errorf("%.80s: must be a whole number, got %.80s", endpoint, value)
		}
		(*c)[endpoint] = *n
		return nil
	})
}

// eachMember calls do with each member of the JSON object that text must be.
func eachMember(text []byte, do func(name string, value json.RawMessage) error) error {
	if !utf8.Valid(text) {
		return errors.New("is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	first, err := dec.Token()
	if err == nil && first != json.Delim('{') {
		err = fmt.Errorf("must be a JSON object, got %.80s", text)
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
		_, err = dec.Token() // the closing brace
	}
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("must be a JSON object, but the text ends before the object does")
	case errors.As(err, &syntax):
		return fmt.Errorf("is not JSON at byte %d: %w", syntax.Offset, err)
	case err != nil:
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has something after the JSON object")
	}
	return nil
}

// readBody reads a body of at most maxChangeBytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChangeBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, requestError{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("The body may have at most %d bytes.", maxChangeBytes)}
	case err != nil:
		return nil, badRequest("body: ended early")
	}
	return text, nil
}

// checkContentType returns an error unless the body has a media type.
func checkContentType(contentType, want string) error {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != want {
		return requestError{status: http.StatusUnsupportedMediaType, detail: fmt.Sprintf("Content-Type must be %s, got %.80q.", want, contentType)}
	}
	return nil
}
