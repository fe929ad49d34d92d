package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestBodyOverMaxBodyAnswers413(t *testing.T) {
	r := newTestGateway(t, setup{maxBody: 1000, upstream: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}})
	tok := token("u", "")
	post := func(n int, chunked bool) reply {
		var body io.Reader = bytes.NewReader(make([]byte, n))
		if chunked {
			body = io.MultiReader(body) // hides its length
		}
		return r.do(tok, "POST", "/api/analyze", body)
	}
	for _, chunked := range []bool{false, true} {
		if res := post(1000, chunked); res.StatusCode != 200 {
			t.Errorf("1000 bytes, chunked %v: %s", chunked, res.Status)
		}
		if res := post(1001, chunked); res.StatusCode != 413 || !strings.Contains(res.body, "1 KB") {
			t.Errorf("1001 bytes, chunked %v: %s %s", chunked, res.Status, res.body)
		}
	}
	r.want("u", "", 2)
	calls, sent := r.store.calls.Load(), len(r.requests())
	post(1001, false)
	if r.store.calls.Load() != calls || len(r.requests()) != sent {
		t.Error("a body that is too large by its Content-Length cost a call of the store or the upstream")
	}
}

// TestUploadEndsAtTimeout: an upload that takes longer than the timeout is ended, and
// nothing stays held.
func TestUploadEndsAtTimeout(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 100 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}})
	conn := r.dial()
	io.WriteString(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token("u", "")+"\r\nContent-Length: 1000000\r\n\r\nthe first bytes")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 504 {
		t.Fatalf("%v, error %v; want 504", res, err)
	}
	r.want("u", "", 0)
}

// TestLargeUploadEndsAtTimeout: an upload of 30 MiB that is slower than the timeout ends
// with 504, at whatever byte, and nothing stays held.
func TestLargeUploadEndsAtTimeout(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 150 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/image-analysis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token("u", ""), 30<<20)
	answered := make(chan *http.Response)
	go func() {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	piece := make([]byte, 8<<10)
	for sending := true; sending; {
		select {
		case res := <-answered:
			if res == nil || res.StatusCode != 504 || !res.Close {
				t.Errorf("%+v, want 504 and the connection's end", res)
			}
			sending = false
		case <-time.After(5 * time.Millisecond):
			conn.Write(piece) // fails once the gateway has closed
		}
	}
	r.want("u", "", 0)
}

// TestMalformedBodyAnswers400: a body that the client breaks is the client's fault, not
// the upstream's.
func TestMalformedBodyAnswers400(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}})
	for name, chunks := range map[string]string{"at once": "zz\r\n", "later": "5\r\nhello\r\nzz\r\n"} {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n%s", token("u", ""), chunks)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != 400 || !res.Close || res.Header.Get("X-Usage") != "0/100" {
			t.Errorf("%s: %v, error %v; want 400 and 0/100", name, res, err)
		}
	}
	r.want("u", "", 0)
}
