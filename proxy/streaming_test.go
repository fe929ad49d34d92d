package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/quota/testkit"
)

func TestInformationalResponsesAndTrailersPass(t *testing.T) {
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.Header().Set("X-Sum", "42")
		},
		change: func(o *proxy.Options) { o.CORS = &proxy.CORS{AllowedOrigins: []string{"https://app.example.com"}} },
	})
	res := r.do(token("u", ""), "POST", "/api/analyze", nil, "Origin: https://app.example.com")
	if res.StatusCode != 200 || res.body != "body" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%s, trailer %q: %s", res.Status, res.Trailer, res.body)
	}
	// After a 1xx, ReverseProxy clears all headers, including those set before.
	if res.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || res.Header.Get("X-Request-Id") == "" {
		t.Errorf("after 103 the gateway's own headers are missing: %v", res.Header)
	}
	r.want("u", "", 1)
}

// TestBodiesAreStreamed: what the upstream sends arrives while it is still sending, and
// so does what the client sends.
func TestBodiesAreStreamed(t *testing.T) {
	got := make(chan string)
	more := make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			got <- lines.Text()
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-more
		}
	}})
	read, write := io.Pipe()
	req, _ := http.NewRequest("POST", r.gateway.URL+"/api/analyze", read)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	responded := make(chan *http.Response)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
		}
		responded <- res
	}()
	for _, line := range []string{"one", "two", "three"} {
		io.WriteString(write, line+"\n")
		if g := <-got; g != line {
			t.Errorf("the upstream got %q, want %q", g, line)
		}
	}
	write.Close()
	res := <-responded
	defer res.Body.Close()
	r.want("u", "", 1) // before the body has ended
	body := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := body.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
			t.Errorf("event %d is %q, error %v", i, line, err)
		}
		body.ReadString('\n')
		more <- true
	}
}

// TestResponseMayBeginBeforeUploadEnds: an upstream may answer while it still reads. The
// client gets the response then, not after the upload.
func TestResponseMayBeginBeforeUploadEnds(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "got %s\n", lines.Text())
			w.(http.Flusher).Flush()
		}
	}})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n", token("u", ""))
	read := bufio.NewReader(conn)
	res, err := http.ReadResponse(read, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	body := bufio.NewReader(res.Body)
	for _, line := range []string{"one", "two", "three"} {
		if got, err := body.ReadString('\n'); got != "got "+line+"\n" {
			t.Fatalf("%q, error %v", got, err)
		}
		switch line {
		case "one":
			io.WriteString(conn, "4\r\ntwo\n\r\n")
		case "two":
			io.WriteString(conn, "6\r\nthree\n\r\n")
		default:
			io.WriteString(conn, "0\r\n\r\n")
		}
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Errorf("%q, error %v", rest, err)
	}
	r.want("u", "", 1)
}

// TestResponseMayOutliveTimeoutAndLease: a response may last longer than the timeout and
// the lease: it is counted when it begins, and nothing ends it.
func TestResponseMayOutliveTimeoutAndLease(t *testing.T) {
	const timeout = 100 * time.Millisecond
	more := make(chan bool)
	r := newTestGateway(t, setup{timeout: timeout, upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}})
	var res *http.Response
	testkit.Eventually(t, "a response that begins in time", func() (begun bool) {
		req, _ := http.NewRequest("POST", r.gateway.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+token("u", ""))
		var err error
		if res, err = http.DefaultClient.Do(req); err != nil {
			t.Fatal(err)
		}
		if begun = res.StatusCode == 200; !begun {
			res.Body.Close()
		}
		return begun
	})
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", i) {
			t.Fatalf("event %d is %q, error %v", i, lines.Text(), lines.Err())
		}
		lines.Scan()
		r.want("u", "", 1)
		<-time.After(2 * timeout)
		more <- true
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the last event: %q, error %v", lines.Text(), lines.Err())
	}
	r.want("u", "", 1)
}

// TestResponseBeginsBeforeItsBody: the client gets the headers of a stream when the upstream
// sends them, not with the first event.
func TestResponseBeginsBeforeItsBody(t *testing.T) {
	more := make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, "data: 1\n\n")
	}})
	for _, version := range []string{"1.0", "1.1"} {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/%s\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", version, token("u", ""))
		read := bufio.NewReader(conn)
		m, err := readHead(read, statusLine)
		if err != nil {
			t.Fatalf("HTTP/%s: %v", version, err)
		}
		more <- true
		if chunked := m.values("Transfer-Encoding") != nil; chunked != (version == "1.1") {
			t.Errorf("HTTP/%s: chunked %v", version, chunked)
		}
		if err := m.readBody(read, true); err != nil || m.body != "data: 1\n\n" {
			t.Errorf("HTTP/%s: %q, error %v", version, m.body, err)
		}
	}
}

// TestContinueBeforeMalformedResponse: a client that was told to go on gets one 100 at most, and
// then the gateway's error. The malformed response may arrive before the client is told.
func TestContinueBeforeMalformedResponse(t *testing.T) {
	r := newTestGateway(t, setup{upstream: rawAnswer(t, func(*http.Request) string {
		return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nno header\r\n\r\n"
	})})
	for range 50 {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n", token("u", ""))
		read := bufio.NewReader(conn)
		m, status, err := readResponse(read, "POST")
		if status == 100 && err == nil {
			go io.CopyN(conn, zeros{}, 100000) // ends when the gateway closes the connection
			m, status, err = readResponse(read, "POST")
		}
		if status != 502 || err != nil {
			t.Fatalf("%+v, error %v", m, err)
		}
	}
	r.want("u", "", 0)
}
