// Package demoapi is a small analysis API for `metergate demo` and compose.yaml. It stands
// in for a service whose calls end in a paid model. It computes its answers from the input
// by simple rules, at no cost.
//
//	POST /api/analyze         words, sentences, language, sentiment, key terms
//	POST /api/redact          the text without e-mails, phone numbers, IBANs and names
//	POST /api/report          title, sections, reading time
//	POST /api/drill           three fill-in-the-gap questions
//	POST /api/image-analysis  format, size and colour of a PNG, JPEG or GIF
//	POST /v1/chat/completions an answer in OpenAI's form, also streamed, with its tokens
//	GET  /api/status          what is running, and for how long
//	GET  /api/health          health check; also GET /healthz
//
// A text is sent as {"text": "..."} or as plain text; an image as the body itself or as
// the field "image" of a multipart form.
//
// The query can ask any request to fail or to take longer:
//
//	?fail=503     answers with this status, 300 to 599
//	?fail=abort   closes the connection without a response
//	?delay=2s     delays the answer, by at most 30s
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
	maxTextBytes = 10 << 20
	maxDelay     = 30 * time.Second
)

// Handler serves the API.
func Handler() http.Handler {
	started := time.Now()
	status := func(*http.Request) (any, error) {
		return map[string]any{
			"status":         "ok",
			"service":        "demo analysis API",
			"uptime_seconds": int(time.Since(started).Seconds()),
			"endpoints":      []string{"analyze", "redact", "report", "drill", "image-analysis", "chat"},
		}, nil
	}
	health := func(*http.Request) (any, error) { return map[string]string{"status": "ok"}, nil }

	mux := http.NewServeMux()
	mux.Handle("POST /api/analyze", textEndpoint(analyze))
	mux.Handle("POST /api/redact", textEndpoint(redact))
	mux.Handle("POST /api/report", textEndpoint(report))
	mux.Handle("POST /api/drill", textEndpoint(drill))
	mux.Handle("POST /api/image-analysis", endpoint(analyzeImage))
	mux.HandleFunc("POST /v1/chat/completions", chat)
	mux.Handle("GET /api/status", endpoint(status))
	mux.Handle("GET /api/health", endpoint(health))
	mux.Handle("GET /healthz", endpoint(health))
	return mux
}

// An endpoint reads a request and returns the answer, or an error to show to the client.
type endpoint func(*http.Request) (any, error)

// A tooLargeError is answered 413; all other errors 400.
type tooLargeError struct{ error }

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wanted, err := parseFault(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	// The delay comes after the body was read: only then does net/http notice that the
	// client goes away.
	answer, err := e(r)
	select {
	case <-time.After(wanted.delay):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	var large tooLargeError
	switch {
	case wanted.abort:
		panic(http.ErrAbortHandler)
	case wanted.status != 0:
		writeError(w, wanted.status, errors.New("failed, as requested"))
	case errors.As(err, &large):
		writeError(w, http.StatusRequestEntityTooLarge, err)
	case err != nil:
		writeError(w, http.StatusBadRequest, err)
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

// A fault is what a request asks to go wrong; the zero value is nothing.
type fault struct {
	delay  time.Duration
	status int // the answer instead of the result; 0: no failure
	abort  bool
}

func parseFault(q url.Values) (f fault, err error) {
	if s := q.Get("delay"); s != "" {
		if f.delay, err = time.ParseDuration(s); err != nil || f.delay < 0 || f.delay > maxDelay {
			return f, fmt.Errorf("delay must be a duration from 0s to %s", maxDelay)
		}
	}
	switch s := q.Get("fail"); s {
	case "":
	case "abort":
		f.abort = true
	default:
		if f.status, err = strconv.Atoi(s); err != nil || f.status < 300 || f.status > 599 {
			return f, errors.New("fail must be a status from 300 to 599, or abort")
		}
	}
	return f, nil
}

// textEndpoint makes an endpoint that needs a text.
func textEndpoint[T any](f func(text string) (T, error)) endpoint {
	return func(r *http.Request) (any, error) {
		text, err := readText(r)
		if err != nil {
			return nil, err
		}
		return f(text)
	}
}

func readText(r *http.Request) (string, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxTextBytes+1))
	if err != nil {
		return "", errors.New("the body ended early")
	}
	if len(body) > maxTextBytes {
		return "", tooLargeError{errors.New("the text is larger than 10 MiB")}
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
	// curl -d declares every body as a form.
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

// mediaType returns the request's media type, in lower case and without parameters. If it
// cannot be parsed it is returned unchanged, and matches nothing.
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

// writeJSON ignores write errors: the client has gone away, or the status, such as 304,
// allows no body.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v)
}
