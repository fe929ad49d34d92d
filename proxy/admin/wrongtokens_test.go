package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// After ten wrong tokens, further wrong ones from that address are answered 429 for the
// rest of the minute. The right one always passes.
func TestWrongTokensAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		for range 20 { // no token, so not a guess
			l.want(t, "10.0.0.1:1000", "", 401, "")
			l.want(t, "10.0.0.1:1000", "Basic "+token, 401, "")
		}
		for i := range 9 {
			l.want(t, fmt.Sprint("10.0.0.1:", 1000+i), fmt.Sprint("wrong-", i), 401, "")
		}
		time.Sleep(20 * time.Second)
		l.want(t, "10.0.0.1:1000", token, 200, "") // a right token does not reset the count
		l.want(t, "10.0.0.1:1000", "wrong-10", 401, "")
		l.want(t, "10.0.0.1:1000", "wrong-11", 429, "40")
		l.want(t, "[::ffff:10.0.0.1]:1", "wrong-12", 429, "40") // the same address
		l.want(t, "10.0.0.1:2000", token, 200, "")
		l.want(t, "10.0.0.1:2000", viewerToken, 403, "") // a right token as well
		l.want(t, "10.0.0.1:2000", "", 401, "")
		l.want(t, "10.0.0.2:1000", "wrong", 401, "")
		l.want(t, "10.0.0.2:1000", token, 200, "")
		time.Sleep(39500 * time.Millisecond)
		l.want(t, "10.0.0.1:1000", "wrong-13", 429, "1")
		time.Sleep(500 * time.Millisecond) // the window is over
		for i := range 10 {
			l.want(t, "10.0.0.1:1000", fmt.Sprint("wrong-", i), 401, "")
		}
		l.want(t, "10.0.0.1:1000", "wrong", 429, "60")
		l.want(t, "10.0.0.1:1000", token, 200, "")
		l.wantRefused(t, 41, 21, 4, 1)
		if got := l.reloads.Load(); got != 4 {
			t.Errorf("%d reloads, want 4", got)
		}
		log := l.log.String()
		if strings.Count(log, "\n") != 2 || strings.Count(log, "address=10.0.0.1/32") != 2 {
			t.Errorf("the log of two minutes with many wrong tokens is\n%s", log)
		}
		if strings.Contains(log, "wrong-") || strings.Contains(log, token) {
			t.Errorf("the log has a token:\n%s", log)
		}
	})
}

// The IPv6 addresses of a /64 network count as one.
func TestWrongTokensOfIPv6Network(t *testing.T) {
	l := newListener()
	for i := range 10 {
		l.want(t, fmt.Sprintf("[2001:db8:0:1::%x]:1", i), "wrong", 401, "")
	}
	if res := l.send("[2001:db8:0:1:ffff::]:1", "wrong"); res.StatusCode != 429 {
		t.Errorf("another address of the network: %d", res.StatusCode)
	}
	l.want(t, "[2001:db8:0:1:ffff::]:1", token, 200, "")
	l.want(t, "[2001:db8:0:2::1]:1", "wrong", 401, "")
}

// Of guesses from a new address each, a hundred are answered 401. No more addresses are
// remembered, and the log gets one line.
func TestWrongTokensBoundMemoryAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newWrongTokens(slog.New(slog.NewTextHandler(&log, nil)))
		unbounded := 0
		for i := range 29_000 {
			wait := w.add(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String())
			if wait == 0 {
				unbounded++
			}
			if wait < 0 || wait > wrongTokenWindow {
				t.Fatalf("guess %d must wait for %v", i, wait)
			}
			time.Sleep(2 * time.Millisecond)
		}
		if unbounded != maxWrongInTotal || len(w.senders) != maxWrongInTotal {
			t.Errorf("%d guesses need no wait, %d addresses are remembered, want %d", unbounded, len(w.senders), maxWrongInTotal)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines of log", lines)
		}
	})
}

// While strangers send wrong tokens as fast as they can, from the operator's own address,
// each request with the right token is served.
func TestRightTokenPassesWhileOthersGuess(t *testing.T) {
	l := newListener()
	server := httptest.NewServer(l)
	defer server.Close()
	send := func(client *http.Client, token string) int {
		req, _ := http.NewRequest("POST", server.URL+"/admin/reload", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	var guessers sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		guessers.Go(func() {
			client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
					send(client, "wrong")
				}
			}
		})
	}
	for send(http.DefaultClient, "wrong") != 429 {
	}
	for range 200 {
		if got := send(http.DefaultClient, token); got != 200 {
			t.Fatalf("the right token: %d", got)
		}
	}
	close(stop)
	guessers.Wait()
}
