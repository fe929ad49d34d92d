// Package demoapi is a small analysis API for `metergate demo` and the compose
// file. It stands in for a service whose calls end in a paid model: its answers
// are made from the input, by rules of thumb and at no cost.
//
//	POST /api/analyze         words, sentences, language, sentiment, key terms
//	POST /api/redact          the text without e-mails, phone numbers, IBANs and names
//	POST /api/report          title, sections, reading time
//	POST /api/drill           three questions with a gap
//	POST /api/image-analysis  format, size and colour of a PNG, JPEG or GIF
//	GET  /api/status          what runs, since when
//	GET  /api/health          and GET /healthz: alive
//
// A text is {"text": "..."} or plain text. An image is the body itself or the
// field "image" of a multipart form.
//
// Any call can be asked to go wrong, in its query:
//
//	?fail=503     answers that status, 300 to 599
//	?fail=abort   breaks the connection before the status
//	?delay=2s     answers so much later, at most 30s
package demoapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxText  = 10 << 20 // bytes of a body with text
	maxDelay = 30 * time.Second
)

// Handler serves the API.
func Handler() http.Handler {
	started := time.Now()
	status := func(*http.Request) (any, error) {
		return map[string]any{
			"status":         "ok",
			"service":        "demo analysis API",
			"uptime_seconds": int(time.Since(started).Seconds()),
			"endpoints":      []string{"analyze", "redact", "report", "drill", "image-analysis"},
		}, nil
	}
	health := func(*http.Request) (any, error) { return map[string]string{"status": "ok"}, nil }

	mux := http.NewServeMux()
	mux.Handle("POST /api/analyze", ofText(analyze))
	mux.Handle("POST /api/redact", ofText(redact))
	mux.Handle("POST /api/report", ofText(report))
	mux.Handle("POST /api/drill", ofText(drill))
	mux.Handle("POST /api/image-analysis", endpoint(analyzeImage))
	mux.Handle("GET /api/status", endpoint(status))
	mux.Handle("GET /api/health", endpoint(health))
	mux.Handle("GET /healthz", endpoint(health))
	return mux
}

// An endpoint reads the request and makes the answer, or an error that the
// client may read.
type endpoint func(*http.Request) (any, error)

// tooLarge is the one error that is not the status 400.
type tooLarge struct{ error }

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trouble, err := parseTrouble(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	// The delay comes after the body was read: only then does net/http notice a
	// client that goes.
	answer, err := e(r)
	select {
	case <-time.After(trouble.delay):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	var large tooLarge
	switch {
	case trouble.abort:
		panic(http.ErrAbortHandler)
	case trouble.status != 0:
		writeError(w, trouble.status, errors.New("failed, as asked for"))
	case errors.As(err, &large):
		writeError(w, http.StatusRequestEntityTooLarge, err)
	case err != nil:
		writeError(w, http.StatusBadRequest, err)
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

// trouble is what a request asks to go wrong; the zero value is none.
type trouble struct {
	delay  time.Duration
	status int // answered instead of the result; 0: none
	abort  bool
}

func parseTrouble(q url.Values) (t trouble, err error) {
	if s := q.Get("delay"); s != "" {
		if t.delay, err = time.ParseDuration(s); err != nil || t.delay < 0 || t.delay > maxDelay {
			return t, fmt.Errorf("delay must be a duration from 0s to %s", maxDelay)
		}
	}
	switch s := q.Get("fail"); s {
	case "":
	case "abort":
		t.abort = true
	default:
		if t.status, err = strconv.Atoi(s); err != nil || t.status < 300 || t.status > 599 {
			return t, errors.New("fail must be a status from 300 to 599, or abort")
		}
	}
	return t, nil
}

// ofText is an endpoint that needs a text.
func ofText[T any](f func(text string) (T, error)) endpoint {
	return func(r *http.Request) (any, error) {
		text, err := readText(r)
		if err != nil {
			return nil, err
		}
		return f(text)
	}
}

func readText(r *http.Request) (string, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxText+1))
	if err != nil {
		return "", errors.New("the body broke off")
	}
	if len(body) > maxText {
		return "", tooLarge{errors.New("a text can have 10 MiB")}
	}
	text := string(body)
	switch mediaType := mediaType(r); {
	case mediaType == "application/json":
		var in struct {
			Text *string `json:"text"`
		}
		if err := json.Unmarshal(body, &in); err != nil || in.Text == nil {
			return "", errors.New(`the body must be JSON like {"text": "..."}`)
		}
		text = *in.Text
	// curl -d calls every body a form.
	case mediaType == "", strings.HasPrefix(mediaType, "text/"), mediaType == "application/x-www-form-urlencoded":
	default:
		return "", errors.New("send application/json or text/plain")
	}
	if !utf8.ValidString(text) {
		return "", errors.New("the text is not UTF-8")
	}
	if strings.TrimSpace(text) == "" {
		return "", errors.New("the text is empty")
	}
	return text, nil
}

// mediaType is the request's, in lower case and without parameters; what cannot
// be parsed comes back as it is and matches nothing.
func mediaType(r *http.Request) string {
	header := r.Header.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(header); err == nil {
		return t
	}
	return header
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]any{"status": status, "error": err.Error()})
}

// writeJSON ignores what fails: the client has gone, or the status (304) has no
// body.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v)
}
