package demoapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// post calls the handler without a network; contentType may be empty.
func post(t *testing.T, target, contentType string, body io.Reader) (int, string) {
	t.Helper()
	r := httptest.NewRequest("POST", target, body)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("POST %s: Content-Type %q, want application/json", target, got)
	}
	if !json.Valid(w.Body.Bytes()) {
		t.Errorf("POST %s: the body is not JSON: %s", target, w.Body)
	}
	return w.Code, w.Body.String()
}

func TestTextInputs(t *testing.T) {
	const oneWord = `{"words":1,"characters":5,"sentences":1,"language":"und","sentiment":{"label":"neutral","score":0},"key_terms":[{"term":"hello","count":1}]}`
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		want                    string // part of the answer
	}{
		{"json", "application/json", `{"text":"Hello"}`, 200, oneWord},
		{"json with a charset", "application/json; charset=utf-8", `{"text":"Hello"}`, 200, oneWord},
		{"json with more in it", "application/json", `{"text":"Hello","lang":"en"}`, 200, oneWord},
		{"plain", "text/plain", "Hello", 200, oneWord},
		{"plain with a charset", "Text/Plain; charset=UTF-8", "Hello", 200, oneWord},
		{"no type", "", "Hello", 200, oneWord},
		{"curl -d", "application/x-www-form-urlencoded", "Hello", 200, oneWord},
		{"unicode", "text/plain", "Größe", 200, `{"words":1,"characters":5,`},
		{"largest", "text/plain", "a" + strings.Repeat(" ", maxTextBytes-1), 200, `"words":1,`},

		{"empty plain", "text/plain", "", 400, "empty"},
		{"empty json text", "application/json", `{"text":""}`, 400, "empty"},
		{"only spaces", "text/plain", " \n\t\u2003", 400, "empty"},
		{"empty json", "application/json", "", 400, "JSON"},
		{"no text", "application/json", `{"txt":"Hello"}`, 400, "JSON"},
		{"null", "application/json", `{"text":null}`, 400, "JSON"},
		{"not a string", "application/json", `{"text":1}`, 400, "JSON"},
		{"half a json", "application/json", `{"text":"Hel`, 400, "JSON"},
		{"two jsons", "application/json", `{"text":"a"}{"text":"b"}`, 400, "JSON"},
		{"not UTF-8", "text/plain", "Gr\xf6\xdfe", 400, "UTF-8"},
		{"an image", "image/png", "Hello", 400, "send application/json or text/plain"},
		{"a broken type", "te xt/plain;;", "Hello", 400, "send application/json or text/plain"},
		{"too large", "text/plain", strings.Repeat("a", maxTextBytes+1), 413, "10 MiB"},
		{"too large as json", "application/json", `{"text":"` + strings.Repeat("a", maxTextBytes) + `"}`, 413, "10 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := post(t, "/api/analyze", test.contentType, strings.NewReader(test.body))
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d and %q in it", status, clip(body, 300), test.status, test.want)
			}
		})
	}
}

func TestTextThatEndsEarlyIsRefused(t *testing.T) {
	body := io.MultiReader(strings.NewReader("Hel"), failingReader{})
	if status, body := post(t, "/api/analyze", "text/plain", body); status != 400 || !strings.Contains(body, "ended early") {
		t.Errorf("got %d %s, want 400", status, body)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestTextEndpointsAnswer(t *testing.T) {
	for path, want := range map[string]string{
		"/api/analyze": `"key_terms":`,
		"/api/redact":  `"text":"I asked [NAME]. She knows <all> of it."`,
		"/api/report":  `"title":"I asked Ada Lovelace",`,
		"/api/drill":   `"question":"I asked Ada _____.","answer":"Lovelace"`,
	} {
		status, body := post(t, path, "text/plain", strings.NewReader("I asked Ada Lovelace. She knows <all> of it."))
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("POST %s: got %d %s, want %s in it", path, status, body, want)
		}
		if status, body := post(t, path, "text/plain", http.NoBody); status != 400 || !strings.Contains(body, `"error":`) {
			t.Errorf("POST %s with no text: got %d %s, want 400", path, status, body)
		}
	}
}

func TestGetEndpointsAnswer(t *testing.T) {
	for _, test := range []struct {
		target string
		status int
		want   string
	}{
		{"/api/status", 200, `"uptime_seconds":0`},
		{"/api/health", 200, `{"status":"ok"}`},
		{"/healthz", 200, `{"status":"ok"}`},
		{"/healthz?fail=503", 503, `"status":503`},
		{"/api/analyze", 405, ""},
		{"/api/other", 404, ""},
	} {
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, httptest.NewRequest("GET", test.target, nil))
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("GET %s: got %d %s, want %d and %s in it", test.target, w.Code, w.Body, test.status, test.want)
		}
	}
}

func TestFailAndDelayParameters(t *testing.T) {
	for _, test := range []struct {
		query  string
		status int
		want   string
	}{
		{"fail=500", 500, `{"error":"failed, as requested","status":500}`},
		{"fail=300", 300, `"status":300`},
		{"fail=404", 404, `"status":404`},
		{"fail=599", 599, `"status":599`},
		{"fail=", 200, `"words":1`},
		{"fail=200", 400, "from 300 to 599, or abort"},
		{"fail=299", 400, "from 300 to 599, or abort"},
		{"fail=600", 400, "from 300 to 599, or abort"},
		{"fail=yes", 400, "from 300 to 599, or abort"},
		{"delay=0s", 200, `"words":1`},
		{"delay=1ms&fail=502", 502, `"status":502`},
		{"delay=soon", 400, "from 0s to 30s"},
		{"delay=2", 400, "from 0s to 30s"},
		{"delay=-1s", 400, "from 0s to 30s"},
		{"delay=31s", 400, "from 0s to 30s"},
	} {
		status, body := post(t, "/api/analyze?"+test.query, "text/plain", strings.NewReader("Hello"))
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("?%s: got %d %s, want %d and %s in it", test.query, status, body, test.status, test.want)
		}
	}
}

// A requested failure takes precedence over errors in the input.
func TestFailTakesPrecedenceOverBadInput(t *testing.T) {
	if status, body := post(t, "/api/report?fail=503", "text/plain", http.NoBody); status != 503 {
		t.Errorf("got %d %s, want 503", status, body)
	}
}

func TestFailWithStatusWithoutBody(t *testing.T) {
	s := httptest.NewServer(Handler())
	defer s.Close()
	res, err := http.Post(s.URL+"/api/analyze?fail=304", "text/plain", strings.NewReader("Hello"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 304 {
		t.Errorf("got %d, want 304", res.StatusCode)
	}
}

func TestAbortClosesConnection(t *testing.T) {
	s := httptest.NewServer(Handler())
	defer s.Close()
	for _, query := range []string{"fail=abort", "fail=abort&delay=10ms"} {
		res, err := http.Post(s.URL+"/api/analyze?"+query, "text/plain", strings.NewReader("Hello"))
		if err == nil {
			res.Body.Close()
			t.Errorf("?%s: got %s, want a broken connection", query, res.Status)
		} else if !errors.Is(err, io.EOF) {
			t.Errorf("?%s: got %v, want the end of the connection", query, err)
		}
	}
}

func TestDelayDelaysAnswer(t *testing.T) {
	for _, delay := range []time.Duration{2 * time.Second, maxDelay} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			status, _ := post(t, "/api/analyze?delay="+delay.String(), "text/plain", strings.NewReader("Hello"))
			if took := time.Since(start); status != 200 || took != delay {
				t.Errorf("got %d after %s, want 200 after %s", status, took, delay)
			}
		})
	}
}

// A delay ends when its client goes away, even if the request had a body.
func TestDelayEndsWithClient(t *testing.T) {
	entered, left := make(chan struct{}), make(chan any, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { left <- recover() }()
		close(entered)
		Handler().ServeHTTP(w, r)
	}))
	defer s.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	body := bytes.NewReader(make([]byte, 1<<20))
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/api/image-analysis?delay=30s", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "image/png")
	go func() {
		<-entered
		hangUp()
	}()
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Errorf("got %s, want the client's own cancellation", res.Status)
	}
	select {
	case v := <-left:
		if v != http.ErrAbortHandler {
			t.Errorf("the handler ended with %v, want http.ErrAbortHandler", v)
		}
	case <-time.After(10 * time.Second):
		t.Error("the handler is still waiting 10s after the client went away")
	}
}
