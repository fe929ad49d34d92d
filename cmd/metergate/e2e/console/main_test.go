// Package console proves, in Chromium and Firefox, that the page of the admin listener shows what a
// gateway does, and changes only what it says.
package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }

// A world is a gateway with users of all kinds, and a browser to look at it.
type world struct {
	*gatewaytest.Reloadable
	browser *browsertest.Browser
}

// TestConsole has what can share a gateway and a browser. Those that change something change what the
// others do not look at.
func TestConsole(t *testing.T) {
	w := world{startGateway(t), browsertest.Start(t)}
	importUsers(t, w.Process, users)
	send(t, w.Process, "analyze", testkit.Token(hostile, hostile))
	send(t, w.Process, "image-analysis", testkit.MemberToken(hostileOrg, hostile, "team"))
	t.Run("keyboard grants requests", w.testKeyboard) // keys go to the tab in front, so it is alone
	for name, test := range map[string]func(*testing.T){
		"views are accessible":         w.testViews,
		"views have addresses":         w.testAddresses,
		"viewer changes nothing":       w.testViewer,
		"plans say whom they block":    w.testWhatIf,
		"target is drained":            w.testDrain,
		"token stays in tab":           w.testToken,
		"is live":                      w.testLive,
		"views say that store is down": w.testStoreDown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

const (
	viewerToken = "a-viewer-token-for-tests-0123456789"
	// hostile is HTML that would run if the page took it for HTML.
	hostile    = `<img src=x onerror="window.harmed=true">`
	hostileOrg = `acme <b onclick="window.harmed=true">& sons</b>`
	// users is how many have counts in the gateway of TestConsole.
	users = 2000
)

const consoleYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 5s
admin: { listen: "${ADMIN:-127.0.0.1:0}", token: "${ADMIN_TOKEN:-` + gatewaytest.AdminToken + `}", viewer_token: "${VIEWER_TOKEN:-` + viewerToken + `}" }
store: { url: "${STORE:-embedded:data}", timeout: "${STORE_TIMEOUT:-20s}", journal: journal }
history: { keep: 35d }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256], claims: { org: org } } }
default_plan: free
plans:
  free: { limits: [{ requests: 100, per: month }, { requests: 20, per: month, endpoint: image-analysis }] }
  pro: { limits: [{ requests: 1000, per: month }, { requests: 60, per: minute }], concurrent: 3 }
  team:
    limits: [{ requests: 10, per: month }]
    shared: [{ requests: 100, per: month }]
  enterprise: { limits: [] }
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}", weight: 3 }, { url: "${SECOND}" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze",        endpoint: analyze,        upstream: analysis }
  - { match: "POST /api/image-analysis", endpoint: image-analysis, upstream: analysis }
log: { level: info }
`

// startGateway runs a gateway with consoleYAML.
func startGateway(t testing.TB, env ...string) *gatewaytest.Reloadable {
	t.Helper()
	first, second := gatewaytest.StartUpstream(t, "done"), gatewaytest.StartUpstream(t, "done")
	return gatewaytest.StartWith(t, consoleYAML, append([]string{"UPSTREAM=" + first.URL, "SECOND=" + second.URL}, env...)...)
}

// importUsers gives n users, from u-00000 on, counts from 1 to 100 requests.
func importUsers(t testing.TB, g *gatewaytest.Process, n int) {
	t.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		var lines strings.Builder
		for i := from; i < min(n, from+batch); i++ {
			fmt.Fprintf(&lines, "{\"user\": \"u-%05d\", \"endpoints\": {\"analyze\": %d}}\n", i, i%100+1)
		}
		r, err := http.NewRequest("PUT", g.Admin+"/admin/counts?per=month&reason=test", strings.NewReader(lines.String()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+gatewaytest.AdminToken)
		r.Header.Set("Content-Type", "application/jsonl")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatal("importing counts: ", res.Status)
		}
	}
}

// send makes a request that is counted.
func send(t testing.TB, g *gatewaytest.Process, endpoint, token string) {
	t.Helper()
	if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/"+endpoint, token); status != http.StatusOK {
		t.Fatalf("POST /api/%s: status %d", endpoint, status)
	}
}

// A page is a tab that shows the console.
type page struct{ *browsertest.Tab }

// open opens a view of the console, signed in with a token; empty: not signed in.
func open(t testing.TB, b *browsertest.Browser, g *gatewaytest.Process, token, view string) page {
	t.Helper()
	signedIn := ""
	if token != "" {
		signedIn = fmt.Sprintf("if (!sessionStorage.getItem('opened')) { sessionStorage.setItem('opened', 'yes'); sessionStorage.setItem('metergate-console-token', %q); }", token)
	}
	tab := b.Open(t, g.Admin+"/"+view, signedIn+`
		addEventListener('securitypolicyviolation', (e) => console.error('violates ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber));
		window.shown = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility()).map((e) => e.innerText.trim().replace(/\s+/g, ' ')).join(' | ');
		window.named = (name) => [...document.querySelectorAll('dialog[open] button, button, a')].filter((b) => b.checkVisibility() && (b.ariaLabel || b.innerText.trim()) === name);
		window.press = (name) => named(name)[0].click();
		window.fill = (label, value) => {
			const input = [...document.querySelectorAll('label')].find((l) => l.innerText.trim() === label && l.checkVisibility()).control;
			input.value = value;
			input.dispatchEvent(new Event('input', { bubbles: true }));
			input.dispatchEvent(new Event('change', { bubbles: true }));
		};`)
	p := page{tab}
	t.Cleanup(func() { p.wantQuiet(t) })
	return p
}

// wantQuiet fails the test if the page has written to its console, as the browser does when the page
// violates its policy. What the browser itself writes about failed responses does not count.
func (p page) wantQuiet(t testing.TB) {
	for _, line := range p.Console() {
		if !strings.Contains(line, "Failed to load resource") {
			t.Errorf("the console has %s", line)
		}
	}
}

// goTo shows another view and waits for its heading.
func (p page) goTo(view, heading string) {
	p.Eval(fmt.Sprintf("void (location.hash = %q)", view), nil)
	p.Want("shown('h1')", heading)
}

// wantLoaded waits until a view has all that it loads.
func (p page) wantLoaded() {
	p.Until("document.querySelectorAll('main .ghosts, main [aria-busy], main table[aria-busy]').length === 0 && document.querySelector('main h1')")
}
