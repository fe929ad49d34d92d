package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy"
)

// What the gateway says of usage it alone says, in whatever section of a response: an
// upstream cannot say it in an informational response or in a trailer, announced or not.
func TestOnlyTheGatewaySpeaksOfUsage(t *testing.T) {
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

// A client of HTTP/1.0 does not know informational responses: RFC 9110 section 15.2.
func TestNoInformationForHTTP10(t *testing.T) {
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

// On a route that is not metered these fields are the upstream's own, but for the id.
func TestUnmeteredFieldsStay(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-RateLimit-Limit", "7")
		w.Header().Set("X-Request-Id", "the upstream's own")
	}})
	res := r.do(token("u", ""), "GET", "/api/status", nil)
	if res.Header.Get("X-RateLimit-Limit") != "7" || len(res.Header.Values("X-Request-Id")) != 1 || res.Header.Get("X-Request-Id") == "the upstream's own" {
		t.Errorf("%v", res.Header)
	}
}
