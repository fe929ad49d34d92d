package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/quota"
)

const token = "the-token-of-the-tests"

// A listener is the handler, with what it logs and counts.
type listener struct {
	http.Handler
	log      bytes.Buffer
	registry *prometheus.Registry
	reloads  atomic.Int64
}

func newListener() *listener {
	l := &listener{registry: prometheus.NewRegistry()}
	l.Handler = Handler(Options{
		Gateway:  l,
		Registry: l.registry,
		Log:      slog.New(slog.NewTextHandler(&l.log, nil)),
	})
	return l
}

func (l *listener) AdminToken() string              { return token }
func (l *listener) ReloadConfig() ([]string, error) { l.reloads.Add(1); return nil, nil }
func (l *listener) EffectiveConfig() any            { return nil }
func (l *listener) Terms(string) quota.PlanChoice   { return quota.PlanChoice{} }

// from sends a token, as it is if it has a blank, from an address.
func (l *listener) from(address, token string) *http.Response {
	r := httptest.NewRequest("POST", "/admin/reload", nil)
	r.RemoteAddr = address
	if token != "" && !strings.Contains(token, " ") {
		token = "Bearer " + token
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w.Result()
}

// want is one line of a timeline.
func (l *listener) want(t *testing.T, address, token string, status int, retryAfter string) {
	t.Helper()
	res := l.from(address, token)
	if res.StatusCode != status || res.Header.Get("Retry-After") != retryAfter {
		t.Errorf("%s with %q: %d, Retry-After %q; want %d, %q", address, token, res.StatusCode, res.Header.Get("Retry-After"), status, retryAfter)
	}
	if challenge := res.Header.Get("WWW-Authenticate"); (challenge != "") != (status == 401) {
		t.Errorf("%s with %q: %d, WWW-Authenticate %q", address, token, status, challenge)
	}
}

// counts compares what was refused.
func (l *listener) counts(t *testing.T, noToken, wrongToken, lockedOut int) {
	t.Helper()
	w := httptest.NewRecorder()
	l.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for reason, want := range map[string]int{"no_token": noToken, "wrong_token": wrongToken, "locked_out": lockedOut} {
		if line := fmt.Sprintf("\nmetergate_admin_refused_total{reason=%q} %d\n", reason, want); !strings.Contains(w.Body.String(), line) {
			t.Errorf("the metrics have no %s:\n%s", line, w.Body)
		}
	}
}

// Of who guesses one token a second is looked at for the rest of a minute; others are
// heard as ever.
func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		for range 20 { // no guess
			l.want(t, "10.0.0.1:1000", "", 401, "")
			l.want(t, "10.0.0.1:1000", "Basic "+token, 401, "")
		}
		l.want(t, "10.0.0.1:1000", token, 200, "")
		for i := range 9 {
			l.want(t, fmt.Sprint("10.0.0.1:", 1000+i), fmt.Sprint("wrong-", i), 401, "")
		}
		time.Sleep(20 * time.Second)
		l.want(t, "10.0.0.1:1000", token, 200, "") // which forgives nothing
		l.want(t, "10.0.0.1:1000", "wrong-10", 401, "")
		l.want(t, "10.0.0.1:1000", "wrong-11", 429, "1")
		l.want(t, "10.0.0.1:2000", token, 429, "1")
		l.want(t, "[::ffff:10.0.0.1]:1", token, 429, "1") // the same address
		l.want(t, "10.0.0.1:2000", "", 401, "")
		l.want(t, "10.0.0.2:1000", token, 200, "")
		l.want(t, "10.0.0.2:1000", "wrong", 401, "")
		l.want(t, "10.0.0.2:1000", token, 200, "")
		time.Sleep(999 * time.Millisecond)
		l.want(t, "10.0.0.1:1000", token, 429, "1")
		time.Sleep(time.Millisecond) // a second after the last one that was looked at
		l.want(t, "10.0.0.1:1000", token, 200, "")
		l.want(t, "10.0.0.1:1000", token, 200, "") // no guess: as many as he likes
		l.want(t, "10.0.0.1:1000", "wrong-12", 401, "")
		l.want(t, "10.0.0.1:1000", token, 429, "1")
		time.Sleep(39 * time.Second) // the window is over
		for i := range 10 {
			l.want(t, "10.0.0.1:1000", fmt.Sprint("wrong-", i), 401, "")
		}
		l.want(t, "10.0.0.1:1000", token, 429, "1")
		l.counts(t, 41, 22, 6)
		if got := l.reloads.Load(); got != 6 {
			t.Errorf("%d reloads, want 6", got)
		}
		log := l.log.String()
		if strings.Count(log, "\n") != 2 || strings.Count(log, "address=10.0.0.1/32") != 2 {
			t.Errorf("the log of two lock-outs is\n%s", log)
		}
		if strings.Contains(log, "wrong-") || strings.Contains(log, token) {
			t.Errorf("the log has a token:\n%s", log)
		}
	})
}

// Somebody who guesses all the time at the operator's own address is looked at ten times
// a minute and once a second, and keeps the operator out for about a second.
func TestOperatorBesideAGuesser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		const tick, minutes = 10 * time.Millisecond, 10
		looked, heard := 0, time.Now()
		var longest time.Duration
		for i := range int(minutes * time.Minute / tick) {
			if i%30 == 0 && l.from("127.0.0.1:1", "wrong").StatusCode == 401 {
				looked++
			}
			if i%7 == 0 && l.from("127.0.0.1:2", token).StatusCode == 200 {
				longest, heard = max(longest, time.Since(heard)), time.Now()
			}
			time.Sleep(tick)
		}
		if longest = max(longest, time.Since(heard)); longest > lookEvery+2*7*tick { // one between two of his before the look, one after
			t.Errorf("the operator was kept out for %v", longest)
		}
		if most := minutes * (guesses + 60); looked > most {
			t.Errorf("%d guesses were looked at, want %d at the most", looked, most)
		}
	})
}

// A customer's network of IPv6 is one address.
func TestLockoutIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		for i := range 10 {
			l.want(t, fmt.Sprintf("[2001:db8:0:1::%x]:1", i), "wrong", 401, "")
		}
		l.want(t, "[2001:db8:0:1:ffff::]:1", token, 429, "1")
		l.want(t, "[2001:db8:0:2::1]:1", token, 200, "")
	})
}

// Of guesses that come at once ten are looked at. Good tokens at once are all good.
func TestLockoutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		count := func(token string) map[int]int {
			var mu sync.Mutex
			var wait sync.WaitGroup
			got := map[int]int{}
			for range 500 {
				wait.Go(func() {
					res := l.from("10.0.0.1:1", token)
					mu.Lock()
					defer mu.Unlock()
					got[res.StatusCode]++
				})
			}
			wait.Wait()
			return got
		}
		if got := count(token); got[200] != 500 {
			t.Errorf("good tokens got %v", got)
		}
		if got := count("wrong"); got[401] != 10 || got[429] != 490 {
			t.Errorf("wrong tokens got %v", got)
		}
	})
}

// After many guesses each address has one a second, and those that have not guessed yet
// have one together.
func TestLockoutOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener()
		address := func(i int) string { return fmt.Sprintf("10.1.%d.%d:1", i/256, i%256) }
		for i := range manyGuesses {
			l.want(t, address(i), "wrong", 401, "")
		}
		for i := range 3 * manyGuesses {
			l.want(t, address(i), "wrong", 429, "1")
		}
		l.want(t, "10.0.0.1:1", token, 429, "1")
		time.Sleep(time.Second)
		l.want(t, "10.0.0.1:1", token, 200, "")
		l.want(t, "10.0.0.2:1", token, 200, "")
		l.want(t, address(2*manyGuesses), "wrong", 401, "") // the one of this second
		l.want(t, address(2*manyGuesses+1), "wrong", 429, "1")
		l.want(t, "10.0.0.1:1", token, 429, "1")
		l.want(t, address(0), "wrong", 401, "") // has one of his own
		l.want(t, address(0), "wrong", 429, "1")
		time.Sleep(59 * time.Second)
		l.want(t, address(0), token, 200, "")
		l.want(t, "10.0.0.1:1", token, 200, "")
		if log := l.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "many wrong tokens") {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// Guesses from a fresh address each, five hundred a second for a minute, are looked at a
// hundred times and once a second. They take the memory of no more addresses, and one
// line of the log.
func TestLockoutIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLockout(slog.New(slog.NewTextHandler(&log, nil)))
		looked := 0
		for i := range 30_000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String()
			same, wait := l.compare(from, "wrong", token)
			if same {
				t.Fatalf("guess %d is the token", i)
			}
			if wait == 0 {
				looked++
			}
			if wait < 0 || wait > lookEvery {
				t.Fatalf("guess %d is to wait for %v", i, wait)
			}
			time.Sleep(2 * time.Millisecond)
		}
		if most := manyGuesses + 60; looked < manyGuesses || looked > most || len(l.known) > most {
			t.Errorf("%d guesses were looked at, %d addresses are remembered, want %d at the most", looked, len(l.known), most)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines of log", lines)
		}
	})
}

// Whatever is answered is not kept, not sniffed, not framed, and not for other origins.
func TestFields(t *testing.T) {
	l := newListener()
	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/livez", "", 200},
		{"HEAD", "/livez", "", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/metrics", "", 200},
		{"POST", "/admin/reload", token, 200},
		{"POST", "/admin/reload", "", 401},
		{"POST", "/admin/reload", "wrong", 401},
		{"GET", "/admin/reload", token, 405},
		{"OPTIONS", "/admin/reload", token, 405},
		{"GET", "/nowhere", "", 404},
		{"GET", "/", "", 404},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Header.Set("Origin", "http://example.com") // the request's own
		r.Header.Set("Access-Control-Request-Method", "POST")
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
		for name, want := range map[string]string{
			"Cache-Control":                "no-store",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"X-Content-Type-Options":       "nosniff",
			"Access-Control-Allow-Origin":  "",
			"Access-Control-Allow-Headers": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", c.method, c.path, name, got, want)
			}
		}
	}
}

// A page of another site does nothing, even with the token.
func TestOtherSites(t *testing.T) {
	l := newListener()
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"Sec-Fetch-Site", "cross-site", 403},
		{"Sec-Fetch-Site", "same-site", 403},
		{"Sec-Fetch-Site", "same-origin", 200},
		{"Sec-Fetch-Site", "none", 200},
		{"Origin", "https://elsewhere.example", 403},
		{"Origin", "null", 403},
		{"Origin", "http://example.com", 200}, // httptest's Host
	} {
		r := httptest.NewRequest("POST", "/admin/reload", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set(c.name, c.value)
		before := l.reloads.Load()
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != c.status || (l.reloads.Load() > before) != (c.status == 200) {
			t.Errorf("%s: %s: %d, %d reloads", c.name, c.value, w.Code, l.reloads.Load()-before)
		}
		var problem struct{ Status int }
		if c.status == 403 && (json.Unmarshal(w.Body.Bytes(), &problem) != nil || problem.Status != 403) {
			t.Errorf("%s: %s: %s", c.name, c.value, w.Body)
		}
	}
}

// No body is read without end.
func TestBodyIsBounded(t *testing.T) {
	var err error
	serve := bounded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err = bytes.NewBuffer(nil).ReadFrom(r.Body)
	}))
	serve.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, maxBody))))
	if err != nil {
		t.Error(err)
	}
	serve.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, maxBody+1))))
	if tooLarge := new(http.MaxBytesError); !errors.As(err, &tooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}
