package proxy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"metergate/proxy"
)

// TestCORSAllowsOrigins: a * in an allowed origin stands for one label of a name, and for nothing
// else. The answers to the request and to its preflight agree.
func TestCORSAllowsOrigins(t *testing.T) {
	allowed := []string{"https://app.example.com", "https://*.Example.app", "http://*.pr.internal:8080", "http://[::1]:5173", "capacitor://localhost"}
	r := newTestGateway(t, setup{change: func(o *proxy.Options) { o.CORS = &proxy.CORS{AllowedOrigins: allowed} }})
	for origin, want := range map[string]bool{
		"https://app.example.com":           true,
		"http://[::1]:5173":                 true,
		"capacitor://localhost":             true,
		"https://pr-7.example.app":          true,
		"https://PR-7.EXAMPLE.app":          true, // browsers write lower case; other clients may not
		"https://a_b--c.example.app":        true,
		"https://xn--bcher-kva.example.app": true,
		"http://a.pr.internal:8080":         true,

		"https://example.app":              false,
		"https://.example.app":             false,
		"https://a.b.example.app":          false,
		"https://a..example.app":           false,
		"https://evil-example.app":         false,
		"https://evil.com/.example.app":    false,
		"https://evil.com#.example.app":    false,
		"https://evil.com?.example.app":    false,
		"https://evil.com:80.example.app":  false,
		"https://evil@.example.app":        false,
		"https://u@a.example.app":          false,
		"https://u:p@a.example.app":        false,
		`https://a\.example.app`:           false,
		"https://a%2e.example.app":         false,
		"https://*.example.app":            false,
		"https://a.example.app.evil.com":   false,
		"https://a.example.app@evil.com":   false,
		"https://a.example.app.":           false,
		"https://a.example.app:443":        false, // browsers leave the usual port out
		"https://a.example.app:8443":       false,
		"http://a.example.app":             false,
		"httpss://a.example.app":           false,
		"xhttps://a.example.app":           false,
		"https://bücher.example.app":       false, // browsers write xn--bcher-kva
		"https://a.example.app https://b":  false,
		" https://a.example.app":           true, // HTTP ignores space around a header's value
		"http://a.pr.internal":             false,
		"http://a.pr.internal:80800":       false,
		"http://a.pr.internal:808":         false,
		"https://a.pr.internal:8080":       false,
		"https://app.example.com.evil.com": false,
		"null":                             false,
		"":                                 false,
	} {
		preflight := r.do("", "OPTIONS", "/api/analyze", nil, "Origin: "+origin, "Access-Control-Request-Method: POST")
		answer := r.do("", "GET", "/usage", nil, "Origin: "+origin)
		for kind, res := range map[string]reply{"preflight": preflight, "answer": answer} {
			echoed := ""
			if want {
				echoed = strings.TrimSpace(origin)
			}
			if got := res.Header.Get("Access-Control-Allow-Origin"); got != echoed {
				t.Errorf("%q: the %s allows %q", origin, kind, got)
			}
			if !strings.Contains(strings.Join(res.Header.Values("Vary"), ","), "Origin") {
				t.Errorf("%q: the %s has Vary: %q", origin, kind, res.Header.Values("Vary"))
			}
		}
	}
}

// TestCORSExposesUpstreamHeaders: a script may read the headers that the upstream exposes, as it
// could without the gateway, and those of the gateway. Each list has each name once.
func TestCORSExposesUpstreamHeaders(t *testing.T) {
	const app = "https://app.example.com"
	for name, c := range map[string]struct {
		exposed, vary  []string // of the upstream
		origin         string
		credentials    bool
		also, wantVary string // in addition to the gateway's own; joined
		notExposed     bool
	}{
		"nothing":           {origin: app, wantVary: "Origin"},
		"names":             {exposed: []string{"X-Total-Count, link", "ETag,"}, vary: []string{"Accept-Encoding"}, origin: app, also: "X-Total-Count, link, ETag", wantVary: "Origin, Accept-Encoding"},
		"names of both":     {exposed: []string{"x-usage , X-Total-Count, X-TOTAL-count, X-Request-ID"}, vary: []string{"accept-encoding, origin", "Accept"}, origin: app, also: "X-Total-Count", wantVary: "Origin, accept-encoding, Accept"},
		"all":               {exposed: []string{"*"}, origin: app, also: "*", wantVary: "Origin"},
		"all, credentials":  {exposed: []string{"*, X-Total-Count"}, origin: app, credentials: true, also: "*, X-Total-Count", wantVary: "Origin"},
		"another origin":    {exposed: []string{"X-Total-Count"}, vary: []string{"Origin"}, origin: "https://other.example", notExposed: true, wantVary: "Origin"},
		"no origin":         {exposed: []string{"X-Total-Count"}, notExposed: true, wantVary: "Origin"},
		"everything varies": {vary: []string{"*"}, origin: app, wantVary: "Origin, *"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{
				upstream: func(w http.ResponseWriter, _ *http.Request) {
					for header, values := range map[string][]string{"Access-Control-Expose-Headers": c.exposed, "Vary": c.vary} {
						if values != nil {
							w.Header()[header] = values
						}
					}
					w.Header().Set("Access-Control-Allow-Origin", "https://upstream.example")
					w.Header().Set("Access-Control-Max-Age", "1")
					w.Header().Set("Timing-Allow-Origin", "*")
				},
				change: func(o *proxy.Options) {
					o.CORS = &proxy.CORS{AllowedOrigins: []string{app}, AllowCredentials: c.credentials}
				},
			})
			var origin []string
			if c.origin != "" {
				origin = []string{"Origin: " + c.origin}
			}
			own := r.do(token("u", ""), "GET", "/usage", nil, origin...).Header.Values("Access-Control-Expose-Headers")
			for _, path := range []string{"/api/analyze", "/api/status"} {
				method := map[string]string{"/api/analyze": "POST", "/api/status": "GET"}[path]
				h := r.do(token("u", ""), method, path, nil, origin...).Header
				want := own
				if c.also != "" {
					want = []string{own[0] + ", " + c.also}
				}
				if got := h.Values("Access-Control-Expose-Headers"); !slices.Equal(got, want) || c.notExposed && got != nil {
					t.Errorf("%s: exposed are %q, want %q", path, got, want)
				}
				if got := strings.Join(h.Values("Vary"), "|"); got != c.wantVary {
					t.Errorf("%s: Vary is %q, want %q", path, got, c.wantVary)
				}
				if h.Get("Timing-Allow-Origin") != "*" || h.Get("Access-Control-Max-Age") != "" || h.Get("Access-Control-Allow-Origin") == "https://upstream.example" {
					t.Errorf("%s: %v", path, h)
				}
			}
		})
	}
}

// TestEventStreamsAskForUnbufferedDelivery: nginx in front of the gateway holds back what does not
// say that it must not.
func TestEventStreamsAskForUnbufferedDelivery(t *testing.T) {
	for name, c := range map[string]struct {
		contentType, own, want string
		none                   bool
	}{
		"events":                {contentType: "text/event-stream", want: "no"},
		"events, parameter":     {contentType: "Text/Event-Stream ; charset=utf-8", want: "no"},
		"the upstream's choice": {contentType: "text/event-stream", own: "yes", want: "yes"},
		"JSON":                  {contentType: "application/json"},
		"a similar type":        {contentType: "text/event-stream-2"},
		"no type":               {none: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{c.contentType}
				if c.none {
					w.Header()["Content-Type"] = nil
				}
				if c.own != "" {
					w.Header().Set("X-Accel-Buffering", c.own)
				}
				w.Write([]byte("data: 1\n\n"))
			}})
			for _, path := range []string{"/api/analyze", "/api/status"} {
				method := map[string]string{"/api/analyze": "POST", "/api/status": "GET"}[path]
				res := r.do(token("u", ""), method, path, nil)
				if got := strings.Join(res.Header.Values("X-Accel-Buffering"), "|"); got != c.want {
					t.Errorf("%s: X-Accel-Buffering is %q, want %q", path, got, c.want)
				}
			}
		})
	}
}
