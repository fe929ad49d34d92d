package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRawResponses lets an upstream send what testdata/responses has, byte for byte, and
// compares what the client gets. testdata/responses/README.md says how to add a case.
func TestRawResponses(t *testing.T) {
	files, _ := filepath.Glob("testdata/responses/*.txt")
	cases := map[string]*responseCase{}
	for _, file := range files {
		for _, c := range readResponseCases(t, file) {
			cases[c.name] = c
		}
	}
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, req *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, cases[req.URL.Query().Get("case")].send)
	}})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { c.run(t, r) })
	}
}

// A responseCase is one response of testdata/responses.
type responseCase struct {
	name   string
	method string
	send   string
	expect []expectedResponse
	cut    bool // the body of the last one breaks off
}

type expectedResponse struct {
	status int
	body   string
	fields []string // "Name: value", or "!Name" for none
}

func (c *responseCase) run(t *testing.T, r *testGateway) {
	user := strings.ReplaceAll(c.name, " ", "-")
	conn := r.dial()
	fmt.Fprintf(conn, "%s /api/lookup/7?case=%s HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer %s\r\nTE: trailers\r\n\r\n",
		c.method, strings.ReplaceAll(c.name, " ", "+"), token(user, ""))
	read := bufio.NewReader(conn)
	var used int64
	for i, want := range c.expect {
		m, status, err := readResponse(read, c.method)
		if m == nil {
			t.Fatalf("response %d: %v, want %d", i+1, err, want.status)
		}
		last := i == len(c.expect)-1
		if cut := errors.Is(err, io.ErrUnexpectedEOF); cut != (last && c.cut) || err != nil && !cut {
			t.Errorf("response %d: error %v", i+1, err)
		}
		if body := strings.TrimRight(m.body, "\x00"); status != want.status || status < 400 && body != want.body {
			t.Errorf("response %d is %s with %q, want %d with %q", i+1, m.start, body, want.status, want.body)
		}
		for _, f := range want.fields {
			if name, ok := strings.CutPrefix(f, "!"); ok {
				if got := m.values(name); got != nil {
					t.Errorf("response %d has %s: %q", i+1, name, got)
				}
			} else if name, value, _ := strings.Cut(f, ": "); !slices.Equal(m.values(name), []string{value}) {
				t.Errorf("response %d has %s: %q, want %q", i+1, name, m.values(name), value)
			}
		}
		if status/100 == 2 {
			used = 1
		}
	}
	r.want(user, "", used)
}

func readResponseCases(t *testing.T, file string) (cases []*responseCase) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c *responseCase
	for i, line := range strings.Split(string(text), "\n") {
		bad := func(why string) { t.Fatalf("%s:%d: %s: %q", file, i+1, why, line) }
		if name, ok := strings.CutPrefix(line, "--- "); ok {
			c = &responseCase{name: strings.TrimSuffix(filepath.Base(file), ".txt") + ": " + name, method: "GET"}
			cases = append(cases, c)
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		if kind == "" || kind == "#" {
			continue
		}
		if c == nil {
			bad("the line belongs to no case")
		}
		rest, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		if err != nil {
			bad(err.Error())
		}
		switch {
		case kind == "?":
			c.method = rest
		case kind == ">":
			c.send += rest + "\r\n"
		case kind == "+":
			c.send += rest
		case kind == "=" && rest == "cut":
			c.cut = true
		case kind == "=":
			status, body, _ := strings.Cut(rest, " ")
			number, err := strconv.Atoi(status)
			if err != nil {
				bad("not a status")
			}
			c.expect = append(c.expect, expectedResponse{status: number, body: body})
		case kind == "&" && len(c.expect) > 0:
			e := &c.expect[len(c.expect)-1]
			e.fields = append(e.fields, rest)
		default:
			bad("unknown")
		}
	}
	return cases
}

// The same with HTTP/2, which has its own server.
func TestNoContentTypeIsAddedWithHTTP2(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<html><script>1</script>")
	}})
	server := httptest.NewUnstartedServer(r.handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	req, _ := http.NewRequest("GET", server.URL+"/api/health", nil)
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, ok := res.Header["Content-Type"]; ok || res.ProtoMajor != 2 || res.StatusCode != 404 {
		t.Errorf("%s %s: %v", res.Proto, res.Status, res.Header)
	}
}
