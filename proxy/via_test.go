package proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"metergate/proxy"
)

// TestViaNamesTheGatewayToUpstreams: RFC 9110 section 7.6.3. A response has no entry of
// the gateway, and keeps what the upstream sent.
func TestViaNamesTheGatewayToUpstreams(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Via", "1.1 upstream") }})
	for _, c := range []struct{ version, fields, want string }{
		{"1.1", "", `^1\.1 metergate-[a-z2-7]{26}$`},
		{"1.0", "", `^1\.0 metergate-[a-z2-7]{26}$`},
		{"1.1", "Via: 1.0 fred, 1.1 p.example.net (Apache, 1.1)\r\n", `^1\.0 fred, 1\.1 p\.example\.net \(Apache, 1\.1\)\|1\.1 metergate-\w+$`},
		{"1.1", "Via: 1.1 a\r\nVia: 1.1 b\r\n", `^1\.1 a\|1\.1 b\|1\.1 metergate-\w+$`},
		{"1.1", "Via: 1.1 metergate-another\r\n", `^1\.1 metergate-another\|1\.1 metergate-\w+$`},
		{"1.1", "Connection: Via\r\nVia: 1.1 a\r\n", `^1\.1 metergate-\w+$`},
	} {
		conn := r.dial()
		io.WriteString(conn, "POST /api/analyze HTTP/"+c.version+"\r\nHost: x\r\nAuthorization: Bearer "+token("u", "")+"\r\n"+c.fields+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != 200 || strings.Join(res.Header["Via"], "|") != "1.1 upstream" {
			t.Fatalf("%+v, error %v", res, err)
		}
		sent := r.requests()
		if got := strings.Join(sent[len(sent)-1].Header["Via"], "|"); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("HTTP/%s %q: the upstream got %q, want %s", c.version, c.fields, got, c.want)
		}
	}
	client, address := r.secure(2)
	req, _ := http.NewRequest("POST", address+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	if res, err := client.Do(req); err != nil || res.ProtoMajor != 2 {
		t.Fatal(res, err)
	}
	sent := r.requests()
	if got := sent[len(sent)-1].Header.Get("Via"); !strings.HasPrefix(got, "2 metergate-") {
		t.Errorf("HTTP/2: the upstream got %q", got)
	}
}

// TestLoopAnswers508: a request that comes back, directly or through other proxies, is
// answered once, and neither forwarded again nor counted.
func TestLoopAnswers508(t *testing.T) {
	for name, proxies := range map[string]int{"directly": 0, "through two proxies": 2} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{})
			next, passed := r.gateway.URL, 0
			for range proxies {
				target, _ := url.Parse(next)
				forward := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
					passed++
					p.SetURL(target)
					p.Out.Header["Via"] = []string{strings.Join(append(p.In.Header["Via"], "1.1 between (one, or two)"), ", ")}
				}}
				s := httptest.NewServer(forward)
				defer s.Close()
				next = s.URL
			}
			around, _ := url.Parse(next)
			r.target.Host = around.Host
			for _, path := range []string{"/api/analyze", "/api/image-analysis"} {
				passed = 0
				res := r.do(token("u", ""), "POST", path, strings.NewReader("text"))
				if res.StatusCode != 508 || res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(res.body, `"title":"Loop Detected"`) {
					t.Errorf("%s: %s", res.Status, res.body)
				}
				if passed != proxies || res.Header.Get("X-Usage") != "0/100" {
					t.Errorf("it passed %d proxies, want %d; X-Usage %q", passed, proxies, res.Header.Get("X-Usage"))
				}
			}
			r.want("u", "", 0)
		})
	}
}

// TestGatewaysInARowAreNoLoop: a gateway may be the upstream of another one.
func TestGatewaysInARowAreNoLoop(t *testing.T) {
	second := newTestGateway(t, setup{})
	first := newTestGateway(t, setup{change: func(o *proxy.Options) { o.DefaultPlan = "enterprise" }})
	first.target.Host = second.gateway.Listener.Addr().String()
	if res := first.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 200 {
		t.Errorf("%s: %s", res.Status, res.body)
	}
	if sent := second.requests(); len(sent) != 1 || len(sent[0].Header["Via"]) != 2 {
		t.Errorf("the upstream got %v", sent)
	}
}
