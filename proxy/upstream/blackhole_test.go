package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"metergate/proxy/upstream"
)

// A target that accepts connections and never answers is ejected, even if requests time
// out before the dial timeout. Clients that go away do not count.
func TestSilentTargetIsEjected(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close() // nobody accepts, so no handshake completes
	good := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer good.Close()
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	p, err := upstream.New(upstream.Options{Balance: upstream.RoundRobin, Targets: []upstream.Target{
		{URL: parse("https://" + hole.Addr().String())}, {URL: parse(good.URL)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Retire()
	// send gives up a request that has been with the silent target for a while. However long the other
	// one takes on a busy machine, it answers.
	send := func(cause error) error {
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		ended := make(chan error, 1)
		go func() {
			req, _ := http.NewRequestWithContext(ctx, "POST", "http://upstream/", nil)
			res, err := p.RoundTrip(req)
			if err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			ended <- err
		}()
		for looks := 0; ; {
			select {
			case err := <-ended:
				return err
			case <-time.After(5 * time.Millisecond):
			}
			if p.Targets()[0].InFlight > 0 {
				if looks++; looks == 10 {
					cancel(cause)
				}
			}
		}
	}
	ejected := func() bool { return !p.Targets()[0].EjectedUntil.IsZero() }
	for range 10 {
		send(nil) // the client goes away
	}
	if ejected() {
		t.Fatal("clients that went away have ejected a target")
	}
	failed := 0
	for range 20 {
		if send(errors.New("out of time")) != nil {
			failed++
		}
	}
	if !ejected() || failed > 3 {
		t.Errorf("ejected %v after %d failures, want it after 3", ejected(), failed)
	}
}
