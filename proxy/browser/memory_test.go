package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// state is what a client shows: the user, the count, and whether they are marked as old.
const state = "[client.current?.user, client.current?.used, client.current?.stale, client.connection, client.problem].join()"

// reload loads the page of a tab again, and makes a client for a token.
func reload(tab *browsertest.Tab, g *fakeGateway, token string) {
	tab.Do(chromedp.Navigate(g.URL))
	tab.Until("window.ready")
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.seen = [], window.client = createUsageClient({ getToken: () => token, timing: %s }), client.subscribe(s => seen.push(s && s.user)))", token, fast), nil)
}

// down makes the gateway break off each request for numbers.
func down(g *fakeGateway) {
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
	g.CloseClientConnections()
}

const kept = "Object.keys(sessionStorage).join()"

func testNumbersAreKept(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(42)
	first := fakeToken(`{"iss":"i","sub":"alice","fva":[1]}`)
	tab := openPage(t, b, g)
	reload(tab, g, first)
	tab.Want(state, "alice,42,false,live,")
	down(g)
	// A token that was refreshed meanwhile is the same user's.
	reload(tab, g, fakeToken(`{"iss":"i","sub":"alice","fva":[2]}`))
	tab.Want(state, "alice,42,true,offline,unreachable")
	reload(tab, g, first) // and once more
	tab.Want(state, "alice,42,true,offline,unreachable")
	// Any answer of the gateway replaces them, even if its clock was set back.
	g.set(3, "as_of", "2020-01-01T00:00:00.000Z")
	g.answerWith(nil)
	tab.Want(state, "alice,3,false,live,")

	// A gateway that says nothing is an outage as well.
	reload(tab, g, first)
	tab.Want(state, "alice,3,false,live,")
	hang := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/usage" {
			<-r.Context().Done()
		}
		return r.URL.Path == "/usage"
	}
	g.answerWith(hang)
	tab.Do(chromedp.Navigate(g.URL))
	tab.Until("window.ready")
	tab.Eval(fmt.Sprintf("void (window.client = createUsageClient({ getToken: () => '%s', timing: { ...%s, impatience: 100, firstEvent: 60_000 } }))", first, fast), nil)
	tab.Want(state, "alice,3,true,idle,")
}

func testKeptNumbersOfOthers(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	alice := fakeToken(`{"iss":"i","sub":"alice"}`)
	g.set(42)
	tab := openPage(t, b, g)
	for name, token := range map[string]string{
		"another subject":  fakeToken(`{"iss":"i","sub":"bob"}`),
		"another issuer":   fakeToken(`{"iss":"j","sub":"alice"}`),
		"an organisation":  fakeToken(`{"iss":"i","sub":"alice","org_id":"acme"}`),
		"an opaque token":  "opaque",
		"nobody signed in": "",
	} {
		g.answerWith(nil)
		reload(tab, g, alice)
		tab.Want(state, "alice,42,false,live,")
		down(g)
		asked := len(g.requests())
		reload(tab, g, token)
		if token == "" {
			tab.Want(state, ",,,offline,unauthorized")
		} else {
			testkit.Eventually(t, "the gateway was asked twice", func() bool { return len(g.requests()) > asked+1 })
			tab.Want(state, ",,,offline,unreachable")
		}
		if seen := tab.String("seen.join()"); seen != "" {
			t.Errorf("%s: saw the numbers of %s", name, seen)
		}
		if token == "" {
			// Many applications have no token yet when the page begins.
			tab.Eval("(window.token = '"+alice+"', client.refresh().then(() => 0))", nil)
			tab.Want(state, "alice,42,true,offline,unreachable")
			tab.Eval("(window.token = '', client.refresh().then(() => 0))", nil)
			tab.Want(state, ",,,offline,unauthorized")
		}
		tab.Want(kept, "")
	}

	// Signing out removes them, whether the page says so to the client or closes it.
	for _, signOut := range []string{"(window.token = '', client.refresh().then(() => 0))", "client.close()"} {
		g.answerWith(nil)
		reload(tab, g, alice)
		tab.Want("client.connection", "live")
		reload(tab, g, alice)
		tab.Want("client.connection", "live")
		tab.Until(kept + " !== ''")
		tab.Eval("void "+signOut, nil)
		tab.Want(kept, "")
		tab.Do(chromedp.Navigate(g.URL))
		tab.Want(kept, "")
	}

	// A cookie does not tell whose the numbers are.
	tab.Do(chromedp.Navigate(g.URL))
	tab.Until("window.ready")
	tab.Eval("void (window.client = createUsageClient({ timing: "+fast+" }))", nil)
	tab.Want(state, "alice,42,false,live,")
	tab.Do(chromedp.Navigate(g.URL))
	tab.Want(kept, "")
}

// A client that shows kept numbers when the gateway is back, and hears so later than another one, leaves
// the numbers of the other one as they are.
func testKeptNumbersStayWithTheirClient(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(42)
	alice := fakeToken(`{"iss":"i","sub":"alice"}`)
	tab := openPage(t, b, g)
	reload(tab, g, alice)
	tab.Want(state, "alice,42,false,live,")
	down(g)
	reload(tab, g, alice)
	tab.Eval(fmt.Sprintf(`void (window.late = createUsageClient({ getToken: () => '%s', timing: %s, fetch: (...a) => window.held ? (window.waits = true, window.held) : fetch(...a) }))`, alice, fast), nil)
	tab.Want(state+" + late.current?.stale + late.connection", "alice,42,true,offline,unreachabletrueoffline")
	tab.Eval("void (window.held = new Promise((resolve) => { window.release = resolve; }))", nil)
	tab.Until("window.waits") // a request from before might still get an answer
	g.set(43)
	g.answerWith(nil)
	tab.Want(state, "alice,43,false,live,")
	tab.Eval("void (window.stale = [], client.subscribe((s) => stale.push(s.stale)), window.held = undefined, release(new Response(null, { status: 503 })))", nil)
	tab.Want("[late.current?.used, late.current?.stale, late.connection].join()", "43,false,live")
	g.set(44)
	tab.Want(state, "alice,44,false,live,")
	tab.Want("stale.includes(true)", "false")
}

// A page may have no storage, or it may be full, and anything may stand in it.
func testBadStorage(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	alice := fakeToken(`{"sub":"alice"}`)
	for name, before := range map[string]string{
		"forbidden": "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('no', 'SecurityError'); } })",
		"missing":   "Object.defineProperty(window, 'sessionStorage', { value: undefined })",
		"full":      "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }",
		"corrupt":   `Storage.prototype.getItem = () => ['{', 'null', '[]', '7', '{"claims":"x"}', '{"claims":null,"usage":{"used":1,"as_of":"x","period":{}}}'][Math.floor(Math.random() * 6)]`,
	} {
		g.set(7)
		g.answerWith(nil)
		tab := b.Open(t, g.URL, before)
		tab.Until("window.ready")
		for range 2 {
			reload(tab, g, alice)
			tab.Want(state, "alice,7,false,live,")
		}
		down(g)
		reload(tab, g, alice)
		tab.Want(state, ",,,offline,unreachable")
		for _, line := range tab.Console() {
			if !strings.Contains(line, "net::ERR_") {
				t.Errorf("%s: the console has %s", name, line)
			}
		}
		tab.Close()
	}
}

// A worker has no document, so nobody sees the numbers. A client in it follows them if it is asked to.
func testWorkerPolls(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	tab := openPage(t, b, g)
	start := func(options string) {
		tab.Eval(fmt.Sprintf(`void (window.worker?.terminate(), window.told = [], window.worker = new Worker(URL.createObjectURL(new Blob([%q], { type: 'text/javascript' })), { type: 'module' }),
			worker.onmessage = (e) => told.push(e.data), worker.onerror = (e) => told.push(e.message))`, fmt.Sprintf(`
			import { createUsageClient } from '%s/usage/client.js';
			const client = createUsageClient({ getToken: () => '%s', timing: %s, %s });
			client.subscribe((s) => postMessage([s.used, s.stale, s.connection].join(' ')));
			onmessage = async ({ data }) => postMessage(data === 'call' ? (await client.fetch('%[1]s/api/analyze')).status : (await client.refresh()).used);
			postMessage('ready');`, g.URL, fakeToken(`{"sub":"alice"}`), fast, options)), nil)
		tab.Until("told.includes('ready')")
	}
	start("poll: true")
	tab.Until("told.includes('1 false polling')")
	g.set(2)
	tab.Until("told.includes('2 false polling')")
	tab.Eval("worker.postMessage('call')", nil)
	tab.Until("told.includes(200)")
	down(g)
	tab.Until("told.includes('2 true offline')")
	g.answerWith(nil)
	g.set(3)
	tab.Until("told.includes('3 false polling')")
	if _, opened := g.streams(); opened != 0 {
		t.Errorf("%d streams, want none", opened)
	}

	start("")
	asked := len(g.requests())
	tab.Eval("worker.postMessage('call')", nil)
	tab.Until("told.includes(200)")
	tab.Eval("worker.postMessage('refresh')", nil)
	tab.Until("told.includes(3)")
	for _, request := range g.requests()[asked:] {
		if !strings.HasPrefix(request, "GET /api/analyze ") && !strings.HasPrefix(request, "GET /usage ") {
			t.Errorf("the worker has sent %s", request)
		}
	}
}
