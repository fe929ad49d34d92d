package gatewaytest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// NewClient returns a client that opens as many connections as it has requests, and
// keeps them.
func NewClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 2000}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

// KeepRedirects makes a client return redirects instead of following them.
func KeepRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Get reads a URL. An empty token is not sent. Status 0 means that there was no
// response; body is then the error.
func Get(url, token string) (status int, body string) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		panic(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

// Post sends a request without a body and returns the status that the client saw; 0 if
// there was no response.
func Post(client *http.Client, url, token string) (status int) {
	req, err := http.NewRequest("POST", url, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// Usage reads a user's usage, which must succeed.
func Usage(t testing.TB, gateway *Process, token string) quota.Usage {
	t.Helper()
	status, body := Get(gateway.URL+"/usage", token)
	var u quota.Usage
	if err := json.Unmarshal([]byte(body), &u); err != nil || status != 200 {
		t.Fatalf("GET /usage: status %d, error %v: %s", status, err, body)
	}
	return u
}

// Administer sends a request to the admin API that must succeed, and returns the body
// of the response.
func Administer(t testing.TB, p *Process, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, p.Admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+AdminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s %s: status %d, error %v: %s", method, path, res.StatusCode, err, text)
	}
	return string(text)
}

// Zeros is a reader of zero bytes that never ends.
type Zeros struct{}

func (Zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
