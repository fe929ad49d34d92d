package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/proxy/upstream"
)

// TestRawRequests sends the requests of testdata/requests byte for byte, each case on a
// connection of its own, and looks at both ends. The upstream has to get one well-formed
// request for each that should come through, counted under the user who sent it, and
// nothing else. The client has to get one well-formed response for each, and the end of
// the connection where it is expected. testdata/requests/README.md says how to add a case.
func TestRawRequests(t *testing.T) {
	files, _ := filepath.Glob("testdata/requests/*.txt")
	var cases []*requestCase
	for _, file := range files {
		cases = append(cases, readRequestCases(t, file)...)
	}
	if len(cases) < 150 {
		t.Fatalf("%d cases in %d files", len(cases), len(files))
	}
	r, rec := newRawGateway(t)
	total := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, r, rec)
			for _, e := range c.expect {
				if e.method != "" {
					total++
				}
			}
			total += c.probes
		})
	}
	r.gateway.Close()
	if n := len(rec.requests()); n != total && !t.Failed() {
		t.Errorf("%d requests reached the upstream in all, want %d", n, total)
	}
}

// newRawGateway returns a gateway with the routes of testdata/requests/README.md.
func newRawGateway(t *testing.T) (*testGateway, *strictUpstream) {
	u := newStrictUpstream(t)
	r := newTestGateway(t, setup{
		maxBody: 1 << 20,
		routes: []proxy.Route{
			{Pattern: "GET /files/{rest...}", Endpoint: "lookup"},
			{Pattern: "/any/", Endpoint: "lookup"},
			{Pattern: "POST /sites/{$}", Endpoint: "lookup"},
			{Pattern: "POST free.example/sites/{$}"},
			{Pattern: "GET /socket", Upgrade: true},
			{Pattern: "POST /near/analyze", Endpoint: "analyze"},
			{Pattern: "GET /near/items/{id}/run", Endpoint: "lookup"},
			{Pattern: "/near/{rest...}"},
			{Pattern: "GET /near/Literal"},
			{Pattern: "GET /near/literal", Endpoint: "lookup"},
			{Pattern: "POST /exact/analyze", Endpoint: "analyze"},
			{Pattern: "/exact/{rest...}", ExactPaths: true},
		},
		change: func(o *proxy.Options) {
			up, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: u.url}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(up.Retire)
			for i := range o.Routes {
				route := &o.Routes[i]
				route.Upstream = up
				if !route.Public {
					route.UserHeader, route.PlanHeader = "X-User-Id", "X-User-Plan"
				}
			}
		},
	})
	r.handler.SetBounds(time.Minute, 100*time.Millisecond)
	return r, u
}

// TestClientClosingAnywhereLeavesNothingHeld: wherever and however a client closes its
// connection, nothing stays held. The count is between what clients saw and what the
// upstream sent.
func TestClientClosingAnywhereLeavesNothingHeld(t *testing.T) {
	r, u := newRawGateway(t)
	request := fmt.Sprintf("POST /api/analyze HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer %s\r\nContent-Length: 64\r\n\r\n%064d", token("u", ""), 0)
	seen := int64(0)
	for cut := 0; cut <= len(request)+16; cut += 16 {
		for _, leave := range []func(*net.TCPConn){
			func(c *net.TCPConn) { c.Close() },
			func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
			func(c *net.TCPConn) {
				c.CloseWrite()
				if _, status, err := readResponse(bufio.NewReader(c), "POST"); err == nil && status == 200 {
					seen++
				}
			},
		} {
			conn := r.dial().(*net.TCPConn)
			io.WriteString(conn, request[:min(cut, len(request))])
			leave(conn)
		}
	}
	r.gateway.Close() // waits for the requests that run
	server := httptest.NewServer(r.handler)
	defer server.Close()
	r.gateway = server
	used, sent := r.usage("u", ""), int64(len(u.requests()))
	if used.InFlight != 0 || used.Used < seen || used.Used > sent {
		t.Errorf("clients saw %d, %d are counted and %d held, the upstream sent %d", seen, used.Used, used.InFlight, sent)
	}
}

// metered reports whether the routes above count a request, judged by what reached the
// upstream and not by the router.
func metered(q recorded) bool {
	if host := q.values("X-Forwarded-Host"); len(host) == 1 && strings.HasPrefix(strings.ToLower(host[0]), "free.example") {
		return false
	}
	return meteredLine.MatchString(q.method + " " + q.target)
}

var meteredLine = regexp.MustCompile(`^(POST /api/(analyze|image-analysis)|(GET|HEAD) /(api/lookup|files)/[^?]+|\S+ /any/[^?]*|POST /sites/|POST /(near|exact)/analyze|GET /near/(items/[^/?]+/run|literal))(\?|$)`)

// A requestCase is one connection of testdata/requests.
type requestCase struct {
	name   string
	token  string // made once: the same token a second later is another one
	steps  []requestStep
	expect []expectation
	closed bool
	probes int
}

// A requestStep is bytes to send, or something to do.
type requestStep struct{ send, do string }

// An expectation is a response, and the request that reached the upstream for it.
type expectation struct {
	status               int
	method, target, body string
	fields               []string // at the upstream: "Name: value", or "!Name" for none
}

// unescape returns the bytes that a line of a case stands for.
func (c *requestCase) unescape(t *testing.T, s string) string {
	auth := "Authorization: Bearer " + c.token
	s = strings.NewReplacer("{usual}", `Host: api.example\r\n`+auth, "{auth}", auth).Replace(s)
	s = regexp.MustCompile(`\{(\d+)\*([^}]*)\}`).ReplaceAllStringFunc(s, func(m string) string {
		n, text, _ := strings.Cut(m[1:len(m)-1], "*")
		times, _ := strconv.Atoi(n)
		return strings.Repeat(text, times)
	})
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%s: %q: %v", c.name, s, err)
	}
	return text
}

func readRequestCases(t *testing.T, file string) (cases []*requestCase) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c *requestCase
	var ended bool
	for i, line := range strings.Split(string(text), "\n") {
		bad := func(why string) { t.Fatalf("%s:%d: %s: %q", file, i+1, why, line) }
		kind, rest := line, ""
		if len(line) > 1 && line[1] == ' ' {
			kind, rest = line[:1], line[2:]
		}
		if name, ok := strings.CutPrefix(line, "--- "); ok {
			if c != nil && !ended {
				bad("the previous case does not say how its connection ends")
			}
			c, ended = &requestCase{name: strings.TrimSuffix(filepath.Base(file), ".txt") + ": " + name}, false
			c.token = token(c.name, "")
			cases = append(cases, c)
			continue
		}
		switch {
		case kind == "" || kind == "#":
		case c == nil || ended:
			bad("the line belongs to no case")
		case kind == ">":
			c.steps = append(c.steps, requestStep{send: c.unescape(t, rest) + "\r\n"})
		case kind == "+":
			c.steps = append(c.steps, requestStep{send: c.unescape(t, rest)})
		case kind == "!" && slices.Contains([]string{"wait", "half-close"}, rest):
			c.steps = append(c.steps, requestStep{do: rest})
		case kind == "=" && (rest == "closed" || rest == "open"):
			c.closed, ended = rest == "closed", true
		case kind == "=":
			parts := append(strings.SplitN(rest, " ", 4), "", "", "")
			status, err := strconv.Atoi(parts[0])
			if err != nil {
				bad("not a status")
			}
			c.expect = append(c.expect, expectation{status: status, method: parts[1], target: c.unescape(t, parts[2]), body: c.unescape(t, parts[3])})
		case kind == "*" && len(c.expect) > 0:
			times, err := strconv.Atoi(rest)
			if err != nil {
				bad("not a number")
			}
			c.expect = append(c.expect, slices.Repeat(c.expect[len(c.expect)-1:], times-1)...)
		case kind == "&" && len(c.expect) > 0:
			e := &c.expect[len(c.expect)-1]
			e.fields = append(e.fields, c.unescape(t, rest))
		default:
			bad("unknown kind of line")
		}
	}
	if c == nil || !ended {
		t.Fatalf("%s: the last case does not say how its connection ends", file)
	}
	return cases
}

func (c *requestCase) run(t *testing.T, r *testGateway, rec *strictUpstream) {
	before := len(rec.requests())
	conn := r.dial()
	read := bufio.NewReader(conn)
	answered := 0 // of c.expect
	receive := func() bool {
		if answered == len(c.expect) {
			t.Fatal("the case waits for one answer too many")
		}
		e := c.expect[answered]
		m, status, err := readResponse(read, e.method)
		if errors.Is(err, syscall.ECONNRESET) && c.closed && e.method == "" && answered == len(c.expect)-1 {
			// Closed while bytes were unread, which can cost the client the answer.
			answered++
			return true
		}
		if err != nil {
			t.Errorf("answer %d: %v", answered+1, err)
			return false
		}
		if status != e.status {
			t.Errorf("answer %d: %s, want %d: %s", answered+1, m.start, e.status, m.body)
		}
		answered++
		return true
	}
	// Everything up to the next wait is sent at once. Writes fail once the gateway has
	// closed the connection.
	var send string
	for i, step := range c.steps {
		send += step.send
		if step.do == "" && i < len(c.steps)-1 {
			continue
		}
		io.WriteString(conn, send)
		send = ""
		switch step.do {
		case "wait":
			if !receive() {
				return
			}
		case "half-close":
			conn.(*net.TCPConn).CloseWrite()
		}
	}
	for answered < len(c.expect) {
		if !receive() {
			return
		}
	}
	if c.closed {
		b, err := read.ReadByte()
		if err == nil {
			rest, _ := read.Peek(read.Buffered())
			t.Errorf("after the last answer came %q", string(b)+string(rest))
		} else if err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection is not closed: %v", err)
		}
	} else {
		c.probes = 1
		io.WriteString(conn, "GET /api/health?probe HTTP/1.1\r\nHost: api.example\r\n\r\n")
		if m, status, err := readResponse(read, "GET"); err != nil || status != 200 {
			t.Errorf("the connection cannot be used any more: %v, error %v", m, err)
		}
	}

	var came []recorded
	for _, q := range rec.requests()[before:] {
		if q.target != "/api/health?probe" {
			came = append(came, q)
		}
	}
	count := int64(0)
	for _, e := range c.expect {
		if e.method == "" {
			continue
		}
		if len(came) == 0 {
			t.Errorf("%s %s did not reach the upstream", e.method, e.target)
			continue
		}
		q := came[0]
		came = came[1:]
		if q.method != e.method || q.target != e.target || q.body != e.body {
			t.Errorf("the upstream got %s %s with %.100q, want %s %s with %.100q", q.method, q.target, q.body, e.method, e.target, e.body)
		}
		if metered(q) && q.status/100 == 2 {
			count++
			user, _ := url.PathUnescape(strings.Join(q.values("X-User-Id"), ", "))
			if user != c.name {
				t.Errorf("the upstream was told that the user is %q, want %s", user, c.name)
			}
		}
		for _, want := range e.fields {
			if name, ok := strings.CutPrefix(want, "!"); ok {
				if got := q.values(name); got != nil {
					t.Errorf("the upstream got %s: %q", name, got)
				}
			} else if name, value, _ := strings.Cut(want, ": "); fmt.Sprint(q.values(name)) != fmt.Sprint([]string{value}) {
				t.Errorf("the upstream got %s: %q, want %q", name, q.values(name), value)
			}
		}
	}
	for _, q := range came {
		t.Errorf("the upstream also got %s with %.100q", q.start, q.body)
	}
	r.want(c.name, "", count)
}
