package frameworks

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

type handler struct{ endpoint, method, path string }

// handlers are what each framework serves and the gateway meters, by the endpoint.
var handlers = []handler{
	{"analyze", "POST", "/api/analyze"},
	{"image-analysis", "POST", "/api/image-analysis"},
	{"tasks", "GET", "/api/tasks/5/results"},
	{"reports", "GET", "/reports/"},
}

// A nearMatch changes a request into one that some server may take for the same.
type nearMatch struct {
	name   string
	change func(method, path string) (changedMethod, target string)
}

const asItIs = "as it is"

var nearMatches = []nearMatch{
	{asItIs, path(func(p string) string { return p })},
	{"capital letter", path(func(p string) string { return p[:len(p)-3] + strings.ToUpper(p[len(p)-3:]) })},
	{"capital letters", path(strings.ToUpper)},
	{"capital letter first", path(func(p string) string { return "/" + strings.ToUpper(p[1:2]) + p[2:] })},
	{"method in small letters", func(m, p string) (string, string) { return strings.ToLower(m), p }},
	{"method with a capital letter", func(m, p string) (string, string) { return m[:1] + strings.ToLower(m[1:]), p }},
	{"HEAD", func(m, p string) (string, string) { return "HEAD", p }},
	{"other method", func(m, p string) (string, string) { return "PUT", p }},
	{"slash at the end", path(func(p string) string { return p + "/" })},
	{"no slash at the end", path(func(p string) string { return strings.TrimSuffix(p, "/") })},
	{"two slashes at the end", path(func(p string) string { return p + "//" })},
	{"two slashes first", path(func(p string) string { return "/" + p })},
	{"two slashes in the middle", path(func(p string) string { return p[:4] + strings.Replace(p[4:], "/", "//", 1) })},
	{"encoded slash at the end", path(func(p string) string { return p + "%2f" })},
	{"encoded slash", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", "%2F", 1) })},
	{"parameter", path(func(p string) string { return p + ";x=1" })},
	{"empty parameter", path(func(p string) string { return p + ";" })},
	{"parameter in the middle", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", ";x=1/", 1) })},
	{"parameter behind a slash", path(func(p string) string { return p + "/;x=1" })},
	{"encoded semicolon", path(func(p string) string { return p + "%3bx=1" })},
	{"parameter with a dot", path(func(p string) string { return p + ";x=.json" })},
	{"extension", path(func(p string) string { return p + ".json" })},
	{"two extensions", path(func(p string) string { return p + ".tar.gz" })},
	{"extension and slash", path(func(p string) string { return p + ".json/" })},
	{"encoded extension", path(func(p string) string { return p + "%2ejson" })},
	{"dot at the end", path(func(p string) string { return p + "." })},
	{"dot segment", path(func(p string) string { return "/." + p })},
	{"dot segment at the end", path(func(p string) string { return p + "/." })},
	{"two dots", path(func(p string) string { return "/x/.." + p })},
	{"two encoded dots", path(func(p string) string { return "/x/%2e%2e" + p })},
	{"one encoded dot", path(func(p string) string { return "/x/.%2E" + p })},
	{"two dots and a parameter", path(func(p string) string { return "/x/..;" + p })},
	{"two dots and an encoded slash", path(func(p string) string { return "/x/..%2f" + p[1:] })},
	{"backslash first", path(func(p string) string { return `\` + p[1:] })},
	{"backslash", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", `\`, 1) })},
	{"encoded backslash", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", "%5c", 1) })},
	{"blank at the end", path(func(p string) string { return p + "%20" })},
	{"plus at the end", path(func(p string) string { return p + "+" })},
	{"blank first", path(func(p string) string { return "/%20" + p[1:] })},
	{"blank in the middle", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", "%20/", 1) })},
	{"tab at the end", path(func(p string) string { return p + "%09" })},
	{"line feed at the end", path(func(p string) string { return p + "%0a" })},
	{"return and line feed at the end", path(func(p string) string { return p + "%0d%0a" })},
	{"no-break space at the end", path(func(p string) string { return p + "%C2%A0" })},
	{"zero byte at the end", path(func(p string) string { return p + "%00" })},
	{"zero byte and extension", path(func(p string) string { return p + "%00.json" })},
	{"raw zero byte", path(func(p string) string { return p + "\x00" })},
	{"encoded letter", path(func(p string) string { return p[:1] + fmt.Sprintf("%%%02x", p[1]) + p[2:] })},
	{"letter encoded twice", path(func(p string) string { return p[:1] + fmt.Sprintf("%%25%02x", p[1]) + p[2:] })},
	{"encoded capital letter", path(func(p string) string { return p[:1] + fmt.Sprintf("%%%02x", p[1]-'a'+'A') + p[2:] })},
	{"letter as %u", path(func(p string) string { return p[:1] + fmt.Sprintf("%%u00%02x", p[1]) + p[2:] })},
	{"long s", path(func(p string) string { return strings.ReplaceAll(p, "s", "%C5%BF") })},
	{"Kelvin sign", path(func(p string) string { return strings.ReplaceAll(p, "k", "%E2%84%AA") })},
	{"dotless i", path(func(p string) string { return strings.ReplaceAll(p, "i", "%C4%B1") })},
	{"capital i with a dot", path(func(p string) string { return strings.ReplaceAll(p, "i", "%C4%B0") })},
	{"full width", path(func(p string) string { return p[:1] + fmt.Sprintf("%%EF%%BD%%%02X", p[1]+0x20) + p[2:] })},
	{"full-width slash", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", "%EF%BC%8F", 1) })},
	{"combining accent", path(func(p string) string { return p + "%CC%81" })},
	{"zero-width space", path(func(p string) string { return p + "%E2%80%8B" })},
	{"overlong slash", path(func(p string) string { return "/" + strings.Replace(p[1:], "/", "%C0%AF", 1) })},
	{"overlong dots", path(func(p string) string { return "/x/%C0%AE%C0%AE" + p })},
	{"fragment", path(func(p string) string { return p + "#x" })},
	{"encoded fragment", path(func(p string) string { return p + "%23x" })},
	{"encoded question mark", path(func(p string) string { return p + "%3Fx" })},
	{"query", path(func(p string) string { return p + "?x=/api/health" })},
	{"whole URL", path(func(p string) string { return "http://h.example" + p })},
	{"whole URL with a capital letter", path(func(p string) string { return "http://h.example" + strings.ToUpper(p) })},
	{"no slash first", path(func(p string) string { return p[1:] })},
	{"tilde", path(func(p string) string { return p + "~" })},
	{"comma", path(func(p string) string { return p + ",x" })},
	{"capital letter, parameter and slash", path(func(p string) string { return strings.ToUpper(p) + ";x=1/" })},
	{"capital letters and extension", path(func(p string) string { return strings.ToUpper(p) + ".JSON" })},
}

// changed returns the request that n makes of a handler's; ok is false if it is the same one.
func (n nearMatch) changed(h handler) (method, target string, ok bool) {
	method, target = n.change(h.method, h.path)
	return method, target, n.name == asItIs || method != h.method || target != h.path
}

// path makes a change of the path alone.
func path(change func(string) string) func(method, path string) (string, string) {
	return func(method, path string) (string, string) { return method, change(path) }
}

// catchAlls are routes beside the metered ones that lead to the same upstream.
var catchAlls = map[string]struct{ route, prefix string }{
	"with a token":     {`{ match: "/{rest...}", upstream: app }`, ""},
	"without a token":  {`{ match: "/{rest...}", upstream: app, auth: none }`, ""},
	"another endpoint": {`{ match: "/{rest...}", upstream: app, endpoint: other }`, ""},
	// The metered routes strip a prefix, and the upstream's own paths are not routed.
	"another prefix": {`{ match: "/{rest...}", upstream: app, auth: none }`, "/v1"},
}

const nearYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { url: "embedded:data", timeout: 20s }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans: { free: { limits: [{ requests: 100000, per: month }] } }
upstreams: { app: { targets: [{ url: "http://%s" }] } }
log: { level: info }
routes:
  - %s
`

// TestNoHandlerRunsUncounted sends every near match of each metered request. Where a
// framework runs the handler, the request is counted, and under the handler's endpoint.
func TestNoHandlerRunsUncounted(t *testing.T) {
	for _, f := range frameworks(t) {
		t.Run(f.name, func(t *testing.T) {
			addr := f.start(t)
			served := map[string]bool{}
			for _, n := range nearMatches {
				for _, h := range handlers {
					if method, target, ok := n.changed(h); ok && send(t, addr, method, target, "") == h.endpoint {
						served[n.name] = true
					}
				}
			}
			var names []string
			for _, n := range nearMatches {
				if served[n.name] {
					names = append(names, n.name)
				}
			}
			t.Logf("without a gateway, a handler runs for: %s", strings.Join(names, ", "))
			for name := range strings.SplitSeq(asItIs+", "+f.serves, ", ") {
				if !served[name] {
					t.Errorf("no handler runs for: %s", name)
				}
			}
			for name, c := range catchAlls {
				t.Run(name, func(t *testing.T) { wantCounted(t, addr, c.route, c.prefix) })
			}
		})
	}
}

// wantCounted sends the near matches through a gateway with one more route. The metered routes
// strip a prefix.
func wantCounted(t *testing.T, addr, route, prefix string) {
	for _, h := range handlers {
		path := strings.Replace(h.path, "/5/", "/{id}/", 1)
		if strings.HasSuffix(path, "/") {
			path += "{$}"
		}
		strip := ""
		if prefix != "" {
			strip = ", strip_prefix: " + prefix
		}
		route += fmt.Sprintf("\n  - { match: \"%s %s%s\", endpoint: %s, upstream: app%s }", h.method, prefix, path, h.endpoint, strip)
	}
	g := gatewaytest.StartWith(t, fmt.Sprintf(nearYAML, addr, route))
	gateway := strings.TrimPrefix(g.URL, "http://")
	token := testkit.Token("u", "")
	counted := map[string]int64{}
	wantRun := func(what, ran string) {
		t.Helper()
		if ran == "" {
			return
		}
		used := gatewaytest.Usage(t, g.Process, token).Endpoints[ran].Used
		if used != counted[ran]+1 {
			t.Errorf("%q runs %s, and is not counted as that", what, ran)
		}
		counted[ran] = used
	}
	for _, n := range nearMatches {
		for _, h := range handlers {
			method, target, ok := n.changed(h)
			if !ok {
				continue
			}
			for _, sent := range []string{"", token} {
				ran := send(t, gateway, method, prefix+target, sent)
				if n.name == asItIs && (ran == h.endpoint) != (sent != "") {
					t.Fatalf("%s %s, with a token: %v, runs %q", method, prefix+target, sent != "", ran)
				}
				wantRun(n.name+": "+method+" "+prefix+target, ran)
				if prefix != "" {
					wantRun(n.name+": "+method+" "+target, send(t, gateway, method, target, sent))
				}
			}
		}
	}
}

// send sends a request byte for byte, and returns the name of the handler that ran.
func send(t *testing.T, addr, method, target, token string) (ran string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	authorization := ""
	if token != "" {
		authorization = "Authorization: Bearer " + token + "\r\n"
	}
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: h.example\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n", method, target, authorization)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return "" // some frameworks close the connection, or answer as HTTP/0.9 did
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.Header.Get("X-Ran")
}
