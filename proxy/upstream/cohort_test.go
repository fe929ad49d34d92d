package upstream_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

// A connection gets no request when it is older than MaxConnectionAge, however many requests there
// are. Connections are not renewed all at once.
func TestMaxConnectionAgeBoundsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age, together = time.Minute, 12
		n := newNetwork(t, "a")
		p := n.pool(t, upstream.Options{MaxConnectionAge: age}, "a")
		var mu sync.Mutex
		first, last := map[net.Conn]time.Time{}, map[net.Conn]time.Time{}
		most, total := 0, 0
		for range 3 * 60 {
			time.Sleep(time.Second)
			mu.Lock()
			before := len(first)
			mu.Unlock()
			arrived, goOn := make(chan bool, together), make(chan bool)
			var wait sync.WaitGroup
			for range together {
				wait.Go(func() {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
						mu.Lock()
						defer mu.Unlock()
						if first[info.Conn].IsZero() {
							first[info.Conn] = time.Now()
						}
						last[info.Conn] = time.Now()
					}})
					res, err := p.RoundTrip(newRequest("GET", "/", "").WithContext(ctx))
					arrived <- true
					<-goOn
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				})
			}
			for range together {
				<-arrived
			}
			close(goOn)
			wait.Wait()
			if total > 0 {
				most = max(most, len(first)-before)
			}
			total++
		}
		for c := range first {
			if got := last[c].Sub(first[c]); got > age {
				t.Errorf("a connection got a request when it was %v old", got)
			}
		}
		// 3 minutes have 3 to 5 handovers.
		if got := len(first); got < 3*together || got > 7*together {
			t.Errorf("%d connections in 3 minutes for %d requests at once", got, together)
		}
		if most == 0 || most > together*3/4 {
			t.Errorf("of %d connections, %d were renewed in the same second", together, most)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if open := n.hosts["a"].open; open > 2*together {
			t.Errorf("%d connections are open", open)
		}
	})
}

// A running request ends by itself; then its connection is closed. After a time without requests
// the next one gets a new connection.
func TestMaxConnectionAgeLetsRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a")
		p := n.pool(t, upstream.Options{MaxConnectionAge: time.Minute, IdleTimeout: time.Hour}, "a")
		stream, err := p.RoundTrip(newRequest("GET", "/stream", ""))
		if err != nil {
			t.Fatal(err)
		}
		open := func() int {
			synctest.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.hosts["a"].open
		}
		for range 10 {
			time.Sleep(time.Minute)
			want(t, p, newRequest("GET", "/", ""))
		}
		if got := open(); got != 2 {
			t.Errorf("%d connections are open, want that of the stream and the latest", got)
		}
		close(n.hosts["a"].end)
		if _, err := io.ReadAll(stream.Body); err != nil {
			t.Errorf("the stream: %v", err)
		}
		stream.Body.Close()
		if got := open(); got != 1 {
			t.Errorf("%d connections are open after the stream", got)
		}
		dials, _ := n.counts("a")
		time.Sleep(30 * time.Minute)
		want(t, p, newRequest("GET", "/", ""))
		if after, _ := n.counts("a"); after != dials+1 || open() != 1 {
			t.Errorf("%d dials after half an hour, and %d open; want one new connection", after-dials, open())
		}
		p.Retire()
		if got := open(); got != 0 {
			t.Errorf("%d connections are open after Retire", got)
		}
		time.Sleep(time.Hour)
		want(t, p, newRequest("GET", "/late", ""))
		if got := open(); got != 0 {
			t.Errorf("%d connections are open after a late request", got)
		}
	})
}

// A nameServer answers every question for an address with the present one, or fails.
type nameServer struct {
	address atomic.Pointer[[4]byte]
	fails   atomic.Bool
}

// startNameServer returns a server on loopback, and a resolver that asks it.
func startNameServer(t *testing.T) (*nameServer, *net.Resolver) {
	s := new(nameServer)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 1024); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := s.answer(buf[:n]); err == nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended })
	return s, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) set(a, b, c, d byte) { s.address.Store(&[4]byte{a, b, c, d}) }

func (s *nameServer) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	if s.fails.Load() {
		m.RCode = dnsmessage.RCodeServerFailure
		return m.Pack()
	}
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: *s.address.Load()}}}
	}
	return m.Pack()
}

// serveTwice starts a server on 127.0.0.1 and another on 127.0.0.2, with the same port. Each
// answers with its address and the protocol.
func serveTwice(t *testing.T, withTLS bool) (port string, certificate *x509.Certificate) {
	t.Helper()
	start := func(l net.Listener) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, l.Addr().(*net.TCPAddr).IP.String()+" "+r.Proto)
		}))
		s.Listener.Close()
		s.Listener, s.EnableHTTP2 = l, withTLS
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if withTLS {
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	for range 20 {
		one, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(one.Addr().String())
		two, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			one.Close()
			continue
		}
		start(two)
		return port, start(one).Certificate()
	}
	t.Fatal("no port is free on both addresses")
	return "", nil
}

// A changed DNS name takes effect although the old server lives, and no request fails.
func TestChangedNameTakesEffect(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			names, resolver := startNameServer(t)
			names.set(127, 0, 0, 1)
			port, certificate := serveTwice(t, proto == "HTTP/2.0")
			o, scheme := upstream.Options{MaxConnectionAge: 500 * time.Millisecond, Resolver: resolver}, "http"
			if certificate != nil {
				roots := x509.NewCertPool()
				roots.AddCert(certificate)
				o.TLS, scheme = &tls.Config{RootCAs: roots}, "https"
			}
			p := newPool(t, o, fmt.Sprintf("%s://example.com:%s", scheme, port))
			var stop, changed atomic.Bool
			var sent, fromOld, fromNew atomic.Int64
			var wait sync.WaitGroup
			for range 4 {
				wait.Go(func() {
					for !stop.Load() {
						_, body, err := send(p, newRequest("POST", "/", "text"))
						if err != nil {
							t.Error(err)
							return
						}
						sent.Add(1)
						switch body {
						case "127.0.0.1 " + proto:
							fromOld.Add(1)
						case "127.0.0.2 " + proto:
							fromNew.Add(1)
							if !changed.Load() {
								t.Error("the new server answered too early")
							}
						default:
							t.Errorf("answer %q", body)
						}
					}
				})
			}
			testkit.Eventually(t, "requests go on", func() bool { return fromOld.Load() > 100 || t.Failed() })
			changed.Store(true)
			names.set(127, 0, 0, 2)
			time.Sleep(o.MaxConnectionAge)
			testkit.Eventually(t, "all requests reach the new server", func() bool {
				old, n := fromOld.Load(), fromNew.Load()
				time.Sleep(o.MaxConnectionAge / 5)
				return fromOld.Load() == old && fromNew.Load() > n || t.Failed()
			})
			stop.Store(true)
			wait.Wait()
			t.Logf("%d requests, none failed", sent.Load())
		})
	}
}

// While names cannot be looked up, connections are renewed all the same, also after a reload. The
// outage over, a changed name takes effect.
func TestLastAddressStaysInUse(t *testing.T) {
	names, resolver := startNameServer(t)
	names.set(127, 0, 0, 1)
	port, _ := serveTwice(t, false)
	var log syncBuffer
	newOne := func() *upstream.Pool {
		p := newPool(t, upstream.Options{MaxConnectionAge: 50 * time.Millisecond, Resolver: resolver, Log: slog.New(slog.NewTextHandler(&log, nil))}, "http://api.example:"+port)
		p.SetRetryNameAfter(100 * time.Millisecond)
		return p
	}
	p := newOne()
	from := func(want string, wait time.Duration) func() bool {
		return func() bool {
			var body string
			var err error
			for end := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
				if _, body, err = send(p, newRequest("POST", "/", "")); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(end) {
					return body == want+" HTTP/1.1"
				}
			}
		}
	}
	testkit.Eventually(t, "the old server answers", from("127.0.0.1", 200*time.Millisecond))
	names.fails.Store(true)
	names.set(127, 0, 0, 2)
	testkit.Eventually(t, "lookups fail, and the old server answers", func() bool {
		return from("127.0.0.1", 100*time.Millisecond)() && strings.Contains(log.String(), "cannot be found; the last one stays in use")
	})
	next := newOne()
	next.AdoptState(p)
	p.Retire()
	p = next
	testkit.Eventually(t, "the old server answers after a reload", from("127.0.0.1", 100*time.Millisecond))
	if n := strings.Count(log.String(), "cannot be found"); n != 1 {
		t.Errorf("%d log lines about one outage:\n%s", n, log.String())
	}
	names.fails.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "the new server answers", from("127.0.0.2", 100*time.Millisecond))
	if !strings.Contains(log.String(), "can be found again") {
		t.Errorf("log:\n%s", log.String())
	}
}

// A syncBuffer can be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
