package bench

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/cmd/metergate/host"
	"metergate/quota/redisstore/redistest"
)

// roleEnv makes the test binary play a role instead of running tests: "NAME ADDRESS
// [UPSTREAM [REDIS [LIMIT]]]".
const roleEnv = "METERGATE_TEST_ROLE"

// playRole plays the role that the environment names, and does not return. Without a role
// it returns at once.
func playRole() {
	role := strings.Fields(os.Getenv(roleEnv))
	if len(role) == 0 {
		return
	}
	var handler http.Handler
	switch role[0] {
	case "upstream":
		handler = http.HandlerFunc(serveUpstream)
	case "bare":
		handler = bareProxy(role[2], keepingTransport())
	case "tuned":
		host.Read().TuneGC()
		handler = tunedProxy(role[2])
	case "standard":
		handler = bareProxy(role[2], http.DefaultTransport)
	case "pings":
		handler = pingingProxy(role[2], role[3])
	case "pair":
		handler = pairProxy(role[2], role[3], role[4])
	}
	log.Fatal(http.ListenAndServe(role[1], handler))
}

// serveUpstream answers like a small analysis. With "?wait=2s" it answers after two
// seconds, with "?cost=5" it says that the request cost 5 units, with "?status=500" it fails, and
// with "?abort=1" it closes the connection without a response.
func serveUpstream(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	query := r.URL.Query()
	if cost := query.Get("cost"); cost != "" {
		w.Header().Set("X-Report-Cost", cost)
	}
	if wait, err := time.ParseDuration(query.Get("wait")); err == nil {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
	}
	if query.Has("abort") {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	if status, err := strconv.Atoi(query.Get("status")); err == nil {
		w.WriteHeader(status)
	}
	io.WriteString(w, `{"words":7,"sentences":1,"language":"en","sentiment":0.25}`)
}

// bareProxy is the proxy of the standard library, which only forwards. With keepingTransport
// it is the base of the ratios, and tunedProxy is the other one.
func bareProxy(upstream string, transport http.RoundTripper) *httputil.ReverseProxy {
	target, err := url.Parse(upstream)
	if err != nil {
		log.Fatal(err)
	}
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
	}}
}

// keepingTransport keeps every connection to the upstream, as the gateway does. The standard
// transport keeps two, and opens the others anew for most requests.
func keepingTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.MaxIdleConns = 1<<14, 0
	return t
}

// tunedProxy is a bare proxy that is tuned as the gateway is: it pools the buffers of bodies, and does
// not ask the upstream for gzip.
func tunedProxy(upstream string) http.Handler {
	transport := keepingTransport()
	transport.DisableCompression = true
	proxy := bareProxy(upstream, transport)
	proxy.BufferPool = &bufferPool{}
	return proxy
}

// A bufferPool is an httputil.BufferPool. It pools pointers to arrays: with slices, each Put would
// allocate.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[32 << 10]byte)(b)) }

// pingingProxy sends a PING to Redis before each request and after it.
func pingingProxy(upstream, store string) http.Handler {
	client := redisClient(store)
	proxy := bareProxy(upstream, keepingTransport())
	proxy.ModifyResponse = func(res *http.Response) error { return client.Ping(res.Request.Context()).Err() }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := client.Ping(r.Context()).Err(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

//go:embed testdata/reserve.lua
var reserveSource string

//go:embed testdata/settle.lua
var settleSource string

// pairProxy meters with the minimal pair of scripts: it reserves before each request, and counts a
// 2xx before its response. Whatever else happens to a request is not counted. It is the least that a proxy can do to count exactly, and what the gateway
// asks of Redis is compared with it. The user is the token: it is not verified.
func pairProxy(upstream, store, limit string) http.Handler {
	client := redisClient(store)
	reserve, settle := redis.NewScript(reserveSource), redis.NewScript(settleSource)
	const keptSeconds = 31 * 24 * 3600
	key := func(r *http.Request) []string { return []string{"pair:" + userOf(r)} }
	// The context of a client that has hung up is cancelled, but its request must be settled all the same.
	settled := func(r *http.Request, counts int) error {
		return settle.Run(context.WithoutCancel(r.Context()), client, key(r), counts).Err()
	}
	unsettled := errors.New("settling failed")
	proxy := bareProxy(upstream, keepingTransport())
	proxy.ModifyResponse = func(res *http.Response) error {
		counts := 0
		if res.StatusCode/100 == 2 {
			counts = 1
		}
		if err := settled(res.Request, counts); err != nil {
			return fmt.Errorf("%w: %w", unsettled, err)
		}
		return nil
	}
	// There is no response: the upstream failed, or the client hung up.
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		if !errors.Is(err, unsettled) { // else Redis may have settled it: not twice
			err = settled(r, 0)
		}
		if err != nil {
			log.Print(err)
		}
		w.WriteHeader(http.StatusBadGateway)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		taken, err := reserve.Run(r.Context(), client, key(r), limit, keptSeconds).Int()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if taken < 0 {
			http.Error(w, "quota exceeded", http.StatusTooManyRequests)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// userOf returns the user whom the request's token names, without verifying it.
func userOf(r *http.Request) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, _ := base64.RawURLEncoding.DecodeString(payload)
	var claims struct{ Sub string }
	json.Unmarshal(text, &claims)
	return claims.Sub
}

func redisClient(url string) *redis.Client {
	o, err := redis.ParseURL(url)
	if err != nil {
		log.Fatal(err)
	}
	return redis.NewClient(o)
}

// The rows that others are compared with.
const (
	bareName  = "bare, keeps connections"
	tunedName = "bare, tuned"
	pairName  = "bare, minimal pair"
)

func startBare(t testing.TB, upstream string) *server {
	t.Helper()
	return startRole(t, bareName, "bare", upstream)
}

// startPair runs the proxy with the minimal pair on a Redis of its own.
func startPair(t testing.TB, upstream string, limit int) *server {
	t.Helper()
	redis := redistest.Start(t)
	s := startRole(t, pairName, "pair", upstream, redis.URL(), strconv.Itoa(limit))
	s.redis = processOf(t, redis)
	return s
}

// startRole runs the test binary in a role.
func startRole(t testing.TB, name, role string, upstream ...string) *server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startServer(t, name, func(address string) *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), roleEnv+"="+strings.Join(append([]string{role, address}, upstream...), " "))
		return cmd
	})
}
