package bench

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// roleEnv makes the test binary play a role instead of running tests: "NAME ADDRESS
// [UPSTREAM [REDIS]]".
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
		handler = bareProxy(role[2], http.DefaultTransport)
	case "tuned":
		handler = bareProxy(role[2], tunedTransport())
	case "pings":
		handler = pingingProxy(role[2], role[3])
	}
	log.Fatal(http.ListenAndServe(role[1], handler))
}

// serveUpstream answers like a small analysis. With "?wait=2s" it answers after two
// seconds, and with "?cost=5" it says that the request cost 5 units.
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
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"words":7,"sentences":1,"language":"en","sentiment":0.25}`)
}

// bareProxy is the base of the ratios: the proxy of the standard library, which does
// nothing else.
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

func tunedTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.MaxIdleConns = 1024, 0
	return t
}

// pingingProxy sends a PING to Redis before each request and after it.
func pingingProxy(upstream, store string) http.Handler {
	o, err := redis.ParseURL(store)
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(o)
	proxy := bareProxy(upstream, tunedTransport())
	proxy.ModifyResponse = func(res *http.Response) error { return client.Ping(res.Request.Context()).Err() }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := client.Ping(r.Context()).Err(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	})
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
