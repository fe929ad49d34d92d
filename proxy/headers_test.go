package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"metergate/proxy"
)

// TestUpstreamCannotSetUsageHeaders: an upstream cannot set them in any section of a
// response: neither in an informational response nor in a trailer, announced or not.
func TestUpstreamCannotSetUsageHeaders(t *testing.T) {
	const lies = "X-Usage: lie\r\nRateLimit: lie\r\nratelimit-policy: lie\r\nRateLimit-Remaining: lie\r\nX-RateLimit-Limit: lie\r\n" +
		"X-RateLimit-Used: lie\r\nX-Request-Id: lie\r\nAccess-Control-Allow-Origin: lie\r\naccess-control-expose-headers: lie\r\n"
	for name, c := range map[string]struct {
		announced, trailers string
		want                bool // the trailer X-Good
	}{
		"none announced":     {"", lies, false},
		"one is good":        {"", lies + "X-Good: 1\r\n", true},
		"all announced":      {"X-Good, X-Usage, RateLimit, X-Request-Id, Access-Control-Allow-Origin", lies + "X-Good: 1\r\n", true},
		"only bad announced": {"X-Usage, X-RateLimit-Used", lies, false},
		"good announced":     {"X-Good", lies + "X-Good: 1\r\n", true},
		"announced, unsent":  {"X-Usage, X-Good", "X-Good: 1\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{
				upstream: func(w http.ResponseWriter, r *http.Request) {
					conn, _, _ := w.(http.Hijacker).Hijack()
					defer conn.Close()
					for _, status := range []string{"102 Processing", "103 Early Hints", "199 Odd"} {
						fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%sLink: </a>\r\nConnection: X-Hop\r\nKeep-Alive: 1\r\nTrailer: X-Usage\r\n\r\n", status, lies)
					}
					announce := ""
					if c.announced != "" {
						announce = "Trailer: " + c.announced + "\r\n"
					}
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s%sTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n%s\r\n", lies, announce, c.trailers)
				},
				change: func(o *proxy.Options) { o.CORS = &proxy.CORS{AllowedOrigins: []string{"https://app.example.com"}} },
			})
			conn := r.dial()
			fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer %s\r\nTE: trailers\r\n\r\n", token("u", ""))
			read := bufio.NewReader(conn)
			for _, want := range []int{102, 103, 199, 200} {
				m, status, err := readResponse(read, "POST")
				if err != nil || status != want {
					t.Fatalf("%+v, error %v, want %d", m, err, want)
				}
				for _, f := range m.fields {
					if f.value == "lie" {
						t.Errorf("%d: the client got %s: %s", status, f.name, f.value)
					}
				}
				own := []string{"X-Usage", "RateLimit", "RateLimit-Policy", "X-Request-Id"}
				if status != 200 {
					if fmt.Sprint(m.values("Link")) != "[</a>]" || len(m.fields) != 1 {
						t.Errorf("%d has %v, want Link alone", status, m.fields)
					}
					continue
				}
				for _, name := range own {
					if len(m.values(name)) != 1 {
						t.Errorf("%s: %q, want the gateway's", name, m.values(name))
					}
					if announced := strings.Join(m.values("Trailer"), ","); strings.Contains(strings.ToLower(announced), strings.ToLower(name)) {
						t.Errorf("announced: %s", announced)
					}
				}
				if got := m.values("X-Good"); (len(got) == 1) != c.want {
					t.Errorf("X-Good: %q, wanted: %v", got, c.want)
				}
			}
			r.want("u", "", 1)
		})
	}
}

// TestHTTP10GetsNoInformationalResponses: a client of HTTP/1.0 does not know them, RFC
// 9110 section 15.2.
func TestHTTP10GetsNoInformationalResponses(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "ok")
	}})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", token("u", ""))
	if m, status, err := readResponse(bufio.NewReader(conn), "POST"); err != nil || status != 200 {
		t.Errorf("%+v, error %v", m, err)
	}
}

// TestUnmeteredRouteKeepsUpstreamRateLimits: on a route that is not metered, these
// headers are the upstream's, except for the request id.
func TestUnmeteredRouteKeepsUpstreamRateLimits(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-RateLimit-Limit", "7")
		w.Header().Set("X-Request-Id", "the upstream's own")
	}})
	res := r.do(token("u", ""), "GET", "/api/status", nil)
	if res.Header.Get("X-RateLimit-Limit") != "7" || len(res.Header.Values("X-Request-Id")) != 1 || res.Header.Get("X-Request-Id") == "the upstream's own" {
		t.Errorf("%v", res.Header)
	}
}

func TestUsageHeadersReplaceTheUpstreams(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Usage", "X-Request-Id"} {
			w.Header().Set(name, "the upstream's own")
		}
		w.Header().Set("X-Other", "stays")
	}})
	res := r.do(token("u", ""), "POST", "/api/image-analysis", nil)
	now := time.Now().UTC()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(0, 1, 0)
	seconds := int(end.Sub(start).Seconds())
	for name, want := range map[string]string{
		"RateLimit-Policy":      fmt.Sprintf(`"month";q=100;w=%d, "image-analysis-month";q=20;w=%[1]d`, seconds),
		"X-RateLimit-Limit":     "100",
		"X-RateLimit-Remaining": "99",
		"X-RateLimit-Reset":     fmt.Sprint(end.Unix()),
		"X-Usage":               "1/100",
		"X-Other":               "stays",
	} {
		if got := res.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var left, imagesLeft, in, imagesIn int
	if _, err := fmt.Sscanf(res.Header.Get("RateLimit"), `"month";r=%d;t=%d, "image-analysis-month";r=%d;t=%d`, &left, &in, &imagesLeft, &imagesIn); err != nil {
		t.Errorf("RateLimit: %q: %v", res.Header.Get("RateLimit"), err)
	}
	if left != 99 || imagesLeft != 19 || in != imagesIn || in <= 0 || in > int(end.Sub(now).Seconds())+1 {
		t.Errorf("RateLimit: %q", res.Header.Get("RateLimit"))
	}
	if id := res.Header.Values("X-Request-Id"); len(id) != 1 || len(id[0]) < 16 || strings.Contains(id[0], " ") {
		t.Errorf("X-Request-Id: %q", id)
	}
	if sent := r.requests()[0].Header.Get("X-Request-Id"); sent != res.Header.Get("X-Request-Id") {
		t.Errorf("the upstream got the request id %q, the client %q", sent, res.Header.Get("X-Request-Id"))
	}

	res = r.do(token("u", "enterprise"), "POST", "/api/analyze", nil)
	if got := res.Header.Get("X-Usage"); got != "2/unlimited" {
		t.Errorf("without limits X-Usage is %q, want 2/unlimited", got)
	}
	for _, name := range []string{"RateLimit", "RateLimit-Policy", "X-RateLimit-Limit"} {
		if got := res.Header.Values(name); got != nil {
			t.Errorf("without limits %s is %q", name, got)
		}
	}
}
