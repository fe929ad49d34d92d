package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

func TestOnly2xxCounts(t *testing.T) {
	r := newTestGateway(t, setup{upstream: answerStatus})
	for _, status := range []int{200, 201, 202, 204, 206, 299, 300, 301, 304, 400, 401, 404, 429, 500, 502, 503} {
		user := fmt.Sprint("user-", status)
		res := r.do(token(user, ""), "POST", fmt.Sprint("/api/analyze?status=", status), strings.NewReader("text"))
		if res.StatusCode != status {
			t.Errorf("status %d came as %d", status, res.StatusCode)
		}
		used := 0
		if status/100 == 2 {
			used = 1
		}
		r.want(user, "", int64(used))
		if want := fmt.Sprintf("%d/100", used); res.Header.Get("X-Usage") != want {
			t.Errorf("status %d: X-Usage is %q, want %q", status, res.Header.Get("X-Usage"), want)
		}
	}
}

// TestTruncatedResponseCounts: a response that breaks off after a 2xx is counted: the
// model has been paid.
func TestTruncatedResponseCounts(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half of it")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}})
	if _, err := r.try(token("u", ""), "POST", "/api/analyze", nil); err == nil {
		t.Error("the client was not told that the body broke off")
	}
	r.want("u", "", 1)
}

func TestClientHangingUpReleases(t *testing.T) {
	arrived, gone := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		close(gone)
	}})
	conn := r.dial()
	io.WriteString(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token("u", "")+"\r\nContent-Length: 0\r\n\r\n")
	<-arrived
	conn.Close()
	<-gone // the upstream is told, so that it can stop its model
	testkit.Eventually(t, "the unit is given back", func() bool { return r.usage("u", "").InFlight == 0 })
	r.want("u", "", 0)
}

func TestStoreIsCalledTwicePerMeteredRequest(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "one")
	for _, c := range []struct {
		method, path string
		calls        int64
	}{
		{"POST", "/api/analyze", 2}, {"POST", "/api/analyze", 1}, // the second is refused
		{"GET", "/usage", 1}, {"POST", "/usage/track", 1},
		{"GET", "/api/status", 0}, {"GET", "/api/health", 0}, {"GET", "/nowhere", 0},
	} {
		before := r.store.calls.Load()
		r.do(tok, c.method, c.path, nil)
		if n := r.store.calls.Load() - before; n != c.calls {
			t.Errorf("%s %s took %d calls of the store, want %d", c.method, c.path, n, c.calls)
		}
	}
}

func TestHEADIsServedByGETRouteAndCounted(t *testing.T) {
	r := newTestGateway(t, setup{})
	if res := r.do(token("u", ""), "HEAD", "/api/lookup/7", nil); res.StatusCode != 200 || r.requests()[0].Method != "HEAD" {
		t.Errorf("%s", res.Status)
	}
	r.want("u", "", 1)
}

// TestClientGoneBeforeReserveCostsNoStoreCall: if a client is gone before its unit is
// reserved, the store is not called.
func TestClientGoneBeforeReserveCostsNoStoreCall(t *testing.T) {
	r := newTestGateway(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, "POST", "/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token("alice", "free"))
	r.gateway.Config.Handler.ServeHTTP(httptest.NewRecorder(), req)
	if n := r.store.calls.Load(); n != 0 || len(r.requests()) != 0 {
		t.Errorf("%d calls of the store, %d of the upstream", n, len(r.requests()))
	}
	r.want("alice", "free", 0)
}

func TestNoContentCounts(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }})
	res := r.do(token("u", ""), "POST", "/api/analyze", strings.NewReader("text"))
	if res.StatusCode != 204 || res.body != "" || res.Header.Get("X-Usage") != "1/100" {
		t.Errorf("%s, X-Usage %q, body %q", res.Status, res.Header.Get("X-Usage"), res.body)
	}
	r.want("u", "", 1)
}
