package upstream_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"testing"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

// Pools share one bound. Idle connections make room for new ones. If none is idle, a request
// fails, which is not the target's fault: it is not ejected.
func TestConnectionsBoundAllPools(t *testing.T) {
	release := make(chan bool)
	slow := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		if r.URL.Path == "/slow" {
			<-release
		}
	}
	bound := upstream.NewConnections()
	bound.SetMax(2)
	options := upstream.Options{Connections: bound, Ejection: upstream.Ejection{ConnectionErrors: 1}}
	a, b := newPool(t, options, serve(t, slow).URL), newPool(t, options, serve(t, slow).URL, serve(t, slow).URL)
	a.Start()
	b.Start()
	for range 3 {
		want(t, a, newRequest("GET", "/", ""))
	}
	if n := bound.Open(); n != 1 {
		t.Errorf("%d connections are open, want one that is idle", n)
	}
	var open []*http.Response
	for _, p := range []*upstream.Pool{b, a} {
		res, err := p.RoundTrip(newRequest("GET", "/slow", ""))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	for range 3 {
		if _, _, err := send(b, newRequest("GET", "/", "")); !errors.Is(err, upstream.ErrNoConnection) {
			t.Errorf("error %v, want ErrNoConnection", err)
		}
	}
	for _, target := range b.Targets() {
		if !target.EjectedUntil.IsZero() {
			t.Errorf("%s was ejected", target.URL)
		}
	}
	close(release)
	for _, res := range open {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	testkit.Eventually(t, "the connections are idle, and make room", func() bool {
		_, _, err := send(b, newRequest("GET", "/", ""))
		return err == nil && bound.Open() <= 2
	})
}

// Connections with TLS are counted as well, and there is one for all requests of HTTP/2.
func TestConnectionsCountTLS(t *testing.T) {
	bound := upstream.NewConnections()
	bound.SetMax(1)
	for _, s := range []*server{serve(t, nil, withHTTP2)} {
		p := newPool(t, upstream.Options{Connections: bound, TLS: &tls.Config{InsecureSkipVerify: true}}, s.URL)
		p.Start()
		for range 2 {
			want(t, p, newRequest("POST", "/", "text"))
		}
		if n := bound.Open(); n != 1 {
			t.Errorf("%s: %d connections are open, want 1", s.URL, n)
		}
	}
}
