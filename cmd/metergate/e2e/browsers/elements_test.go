package browsers

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// browserYAML is a configuration for pages of other origins. Its gateway can come back on
// the same address.
const browserYAML = `
listen: "${LISTEN:-127.0.0.1:0}"
shutdown_timeout: 20s
admin: { listen: 127.0.0.1:0 }
store: { url: "${STORE}", timeout: 5s }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans:
  free:      { limits: [{ requests: 100, per: month }] }
  unlimited: { limits: [] }
upgrade_url: https://example.com/pricing
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "POST /api/report",  endpoint: report,  upstream: analysis }
cors: { allowed_origins: ["*"] }
log: { level: info }
`

// A frontEnd is a site that shows the usage. Its pages have an origin of their own, and a
// Content-Security-Policy that allows the scripts of the gateway and nothing else.
type frontEnd struct {
	pages *httptest.Server
	env   []string // of the gateways
}

func newFrontEnd(t testing.TB) *frontEnd {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The body of a call says how the call ends.
		switch body, _ := io.ReadAll(r.Body); string(body) {
		case "fail":
			w.WriteHeader(500)
		case "hang":
			<-r.Context().Done()
		default:
			w.Write([]byte("done"))
		}
	}))
	t.Cleanup(upstream.Close)
	f := &frontEnd{env: []string{"UPSTREAM=" + upstream.URL, "STORE=redis://" + redistest.Start(t).Addr}}
	f.servePages(t)
	return f
}

// servePages serves a page with two elements. Its query has the gateway, the token and, if the scripts
// are not to come from that gateway, where they come from.
func (f *frontEnd) servePages(t testing.TB) {
	f.pages = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gateway, token := html.EscapeString(r.FormValue("gateway")), html.EscapeString(r.FormValue("token"))
		scripts := cmp.Or(html.EscapeString(r.FormValue("scripts")), gateway)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src "+scripts+"; connect-src "+gateway+"; require-trusted-types-for 'script'")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>A front end</title>
<script type="module" src="%[1]s/usage/meter.js"></script>
<usage-meter id="full" base-url="%[2]s" token="%[3]s"></usage-meter>
<usage-meter id="small" compact base-url="%[2]s" token="%[3]s"></usage-meter>`, scripts, gateway, token)
	}))
	t.Cleanup(f.pages.Close)
}

// gateway starts a gateway, and returns its configuration file.
func (f *frontEnd) gateway(t testing.TB) (p *gatewaytest.Process, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, browserYAML)
	p = gatewaytest.Start(t, f.env, "serve", "-config", file)
	p.WaitUntilServing()
	return p, file
}

// open opens the page of a user, on the gateway at an address.
func (f *frontEnd) open(t testing.TB, b *browsertest.Browser, gateway, user, plan string) *browsertest.Tab {
	t.Helper()
	return f.openWithToken(t, b, gateway, testkit.Token(user, plan))
}

// openWithToken opens the page of the user of a token.
func (f *frontEnd) openWithToken(t testing.TB, b *browsertest.Browser, gateway, token string) *browsertest.Tab {
	t.Helper()
	return f.openPage(t, b, url.Values{"gateway": {gateway}, "token": {token}})
}

// pageScript defines what tests use in a page of servePages.
const pageScript = `
	addEventListener('DOMContentLoaded', () => {
		window.part = (name, id = 'full') => document.getElementById(id).shadowRoot.querySelector('[part="' + name + '"]');
		window.text = (name, id) => part(name, id).checkVisibility() ? part(name, id).innerText : '';
		window.colour = () => getComputedStyle(part('fill')).backgroundColor;
		window.call = (body) => full.client.fetch(full.client.baseUrl + 'api/analyze', { method: 'POST', body });
		window.loads = performance.timeOrigin;
	});
	addEventListener('securitypolicyviolation', (e) => console.error('violates ' + e.violatedDirective + ' ' + e.blockedURI));`

// openPage opens a page with a query of servePages.
func (f *frontEnd) openPage(t testing.TB, b *browsertest.Browser, query url.Values) *browsertest.Tab {
	t.Helper()
	tab := b.Open(t, f.pages.URL+"/?"+query.Encode(), pageScript)
	tab.Until("window.full?.client?.current")
	return tab
}

// use makes n calls of a user on the plan free, which must succeed.
func use(t *testing.T, p *gatewaytest.Process, user string, n int) {
	t.Helper()
	for range n {
		if status := gatewaytest.Post(http.DefaultClient, p.URL+"/api/analyze", testkit.Token(user, "free")); status != 200 {
			t.Fatalf("a call of %s: %d", user, status)
		}
	}
}

// streamsOf returns how many streams a gateway has open.
func streamsOf(t *testing.T, p *gatewaytest.Process) string {
	t.Helper()
	_, text := gatewaytest.Get(p.Admin+"/metrics", "")
	found := regexp.MustCompile(`(?m)^metergate_streams_open (\d+)$`).FindStringSubmatch(text)
	if found == nil {
		t.Fatal("no metric of the open streams")
	}
	return found[1]
}

// wantStreams waits until a gateway has so many streams open. It sees a little later that one has ended.
func wantStreams(t *testing.T, p *gatewaytest.Process, n string) {
	t.Helper()
	testkit.EventuallyWithin(t, time.Minute, n+" open streams", func() bool { return streamsOf(t, p) == n })
}

const (
	green  = "rgb(28, 140, 78)"
	yellow = "rgb(185, 129, 0)"
	red    = "rgb(217, 38, 38)"
)

// A twoGateways is a front end with two gateways that share a store, and a browser.
type twoGateways struct {
	*frontEnd
	browser  *browsertest.Browser
	one, two *gatewaytest.Process
}

// inEachBrowser runs a test in Chromium and in Firefox.
func inEachBrowser(t *testing.T, test func(t *testing.T, b *browsertest.Browser)) {
	for _, kind := range browsertest.Kinds {
		t.Run(string(kind), func(t *testing.T) { test(t, kind.Start(t)) })
	}
}

// The elements of meter.js show the usage that the gateways count.
func TestElementsShowUsage(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, b *browsertest.Browser) {
		g := &twoGateways{frontEnd: newFrontEnd(t), browser: b}
		g.one, _ = g.gateway(t)
		g.two, _ = g.gateway(t)
		t.Run("a frozen tab", g.frozenTab) // before others: Firefox has few processes for one site
		for name, test := range map[string]func(*twoGateways, *testing.T){
			"the bar follows the calls":          (*twoGateways).barFollowsCalls,
			"a failed call":                      (*twoGateways).failedCallIsNotCounted,
			"without a limit":                    (*twoGateways).noLimit,
			"a stream that is blocked":           (*twoGateways).blockedStream,
			"a gateway that goes and comes back": (*twoGateways).gatewayComesBack,
			"a reload while the gateway is away": (*twoGateways).reloadInOutage,
			"many tabs":                          (*twoGateways).manyTabs,
			"two devices":                        (*twoGateways).devicesAgreeSoon,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(g, t)
			})
		}
	})
}

// The bar, its colour and its texts follow the calls. The 101st is refused, and the page
// says so.
func (g *twoGateways) barFollowsCalls(t *testing.T) {
	use(t, g.one, "calls", 78)
	tab := g.open(t, g.browser, g.one.URL, "calls", "free")
	loads := tab.String("loads")
	for _, want := range []struct {
		used                 int
		colour, status, aria string
	}{
		{79, green, "", "79 of 100 used"},
		{80, yellow, "Almost used up", "80 of 100 used, Almost used up"},
		{99, yellow, "Almost used up", "99 of 100 used, Almost used up"},
		{100, red, "Limit reached", "100 of 100 used, Limit reached"},
	} {
		if want.used == 99 {
			use(t, g.two, "calls", 18)
		}
		tab.Want("call().then(r => r.text())", "done")
		tab.Want("text('count')", fmt.Sprint(want.used, " of 100 used"))
		tab.Want("text('count', 'small')", fmt.Sprint(want.used, "/100"))
		tab.Want("colour()", want.colour)
		tab.Want("text('status')", want.status)
		tab.Want("text('status', 'small')", want.status)
		tab.Want("part('bar').ariaValueText.startsWith('"+want.aria+"')", "true")
		tab.Want("Math.round(part('fill').getBoundingClientRect().width / part('bar').getBoundingClientRect().width * 100)", fmt.Sprint(want.used))
	}
	// The 101st.
	tab.Want("call().then(r => r.json()).then(p => p.status + ' ' + p.usage.used)", "429 100")
	tab.Want("text('prompt-title')", "Your last request was refused")
	tab.Want("text('upgrade-button') + ' ' + part('upgrade-button').href", "Upgrade https://example.com/pricing")
	tab.Want("full.shadowRoot.querySelector('[role=status]').textContent.includes('Your last request was refused')", "true")
	tab.Want("text('count')", "100 of 100 used")
	if now := tab.String("loads"); now != loads {
		t.Error("the page was loaded again")
	}
	for _, line := range tab.Console() {
		if !strings.Contains(line, "429") { // the browser itself writes about the 429
			t.Errorf("the console has %s", line)
		}
	}
}

// A call that fails or is cancelled shows as running, and is not counted.
func (g *twoGateways) failedCallIsNotCounted(t *testing.T) {
	use(t, g.one, "fails", 42)
	tab := g.open(t, g.browser, g.one.URL, "fails", "free")
	tab.Want("text('count')", "42 of 100 used")
	tab.Eval("void (window.stop = new AbortController(), window.hanging = full.client.fetch(full.client.baseUrl + 'api/analyze', { method: 'POST', body: 'hang', signal: stop.signal }).catch(e => e.name))", nil)
	tab.Want("text('running')", "1 running")
	tab.Want("text('count', 'small')", "42/100, 1 running")
	tab.Want("part('pending').getBoundingClientRect().width > 0", "true")
	tab.Want("call('fail').then(r => r.status)", "500")
	tab.Want("text('running')", "1 running")
	tab.Eval("stop.abort()", nil)
	tab.Want("hanging", "AbortError")
	tab.Want("text('running') + text('count', 'small')", "42/100")
	tab.Want("full.client.refresh().then(s => s.used)", "42")
}

// A plan without a limit shows the count and no bar.
func (g *twoGateways) noLimit(t *testing.T) {
	tab := g.open(t, g.browser, g.two.URL, "free of limits", "unlimited")
	tab.Want("call().then(r => r.headers.get('X-Usage'))", "1/unlimited")
	tab.Want("text('count') + text('remaining') + part('bar').role", "1 usedUnlimitednull")
}

// withoutStreams is the address of a proxy that passes everything but streams on to the first gateway.
func (g *twoGateways) withoutStreams(t *testing.T) string {
	t.Helper()
	target, err := url.Parse(g.one.URL)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/usage/stream" && r.Method == "GET" {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			http.Error(w, "no streams here", http.StatusForbidden)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// Where streams are blocked, the elements poll.
func (g *twoGateways) blockedStream(t *testing.T) {
	tab := g.open(t, g.browser, g.withoutStreams(t), "polls", "free")
	tab.Want("full.client.connection + text('count')", "polling0 of 100 used")
	use(t, g.two, "polls", 3)
	tab.Want("text('count')", "3 of 100 used")
	tab.Want("call().then(r => r.status)", "200")
	tab.Want("text('count')", "4 of 100 used")
	tab.Want("full.client.connection + text('notice')", "polling")
}

// While the gateway is away, the elements show the last count and that it may be old.
func (g *twoGateways) gatewayComesBack(t *testing.T) {
	p, file := g.gateway(t)
	use(t, p, "stays", 9)
	tab := g.open(t, g.browser, p.URL, "stays", "free")
	tab.Want("text('count')", "9 of 100 used")
	p.Signal(syscall.SIGTERM)
	<-p.Done()
	tab.Want("text('notice').startsWith('Not up to date') + text('count')", "true9 of 100 used")
	tab.Want("part('card').className", "card ok stale")
	use(t, g.two, "stays", 2)
	gatewaytest.Start(t, append([]string{"LISTEN=" + strings.TrimPrefix(p.URL, "http://")}, g.env...), "serve", "-config", file).WaitUntilServing()
	tab.Want("text('notice') + text('count')", "11 of 100 used")
	tab.Want("full.client.connection", "live")
}

// BenchmarkBrowser reports how long it takes until a page shows a call that succeeded on
// another gateway.
func BenchmarkBrowser(b *testing.B) {
	f := newFrontEnd(b)
	one, _ := f.gateway(b)
	two, _ := f.gateway(b)
	tab := f.open(b, browsertest.Start(b), one.URL, "bench", "unlimited")
	tab.Want("full.client.connection", "live")
	tab.Eval(`void (window.moved = {}, new MutationObserver(() => moved[parseInt(text('count').replace(',', ''))] ??= performance.timeOrigin + performance.now())
		.observe(part('used'), { childList: true, characterData: true, subtree: true }))`, nil)
	token := testkit.Token("bench", "unlimited")
	var delays []float64
	for i := 1; b.Loop(); i++ {
		time.Sleep(100 * time.Millisecond) // like a person who clicks: a stream sends at most 20 changes a second
		if status := gatewaytest.Post(http.DefaultClient, two.URL+"/api/analyze", token); status != 200 {
			b.Fatal("a call: ", status)
		}
		succeeded := float64(time.Now().UnixMicro()) / 1000
		tab.Until(fmt.Sprintf("moved[%d]", i))
		var at float64
		tab.Eval(fmt.Sprintf("moved[%d]", i), &at)
		delays = append(delays, at-succeeded)
	}
	slices.Sort(delays)
	b.ReportMetric(0, "ns/op") // mostly the test's own waiting
	b.ReportMetric(delays[len(delays)/2], "ms-median")
	b.ReportMetric(delays[len(delays)*99/100], "ms-p99")
}
