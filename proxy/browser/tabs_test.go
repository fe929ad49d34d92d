package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

func testTabsShareStream(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(10)
	answer := held(g)
	var tabs []*browsertest.Tab
	for range 3 {
		tab := openClient(t, b, g, "")
		tab.Want("client.connection + client.current?.used", "live10")
		tabs = append(tabs, tab)
	}
	if open, opened := g.streams(); open != 1 || opened != 1 {
		t.Fatalf("%d streams are open, %d were", open, opened)
	}
	// A running call shows in all tabs.
	tabs[1].Eval("void (window.call = client.fetch('/api/analyze'))", nil)
	for _, tab := range tabs {
		tab.Want(shown, "10,1")
	}
	g.set(11)
	answer <- func(http.ResponseWriter) {}
	for _, tab := range tabs {
		tab.Want(shown, "11,0")
	}
	// When a tab is closed, its calls are no longer pending, and another tab leads.
	tabs[0].Eval("void client.fetch('/api/analyze').catch(() => {})", nil)
	tabs[2].Want(shown, "11,1")
	tabs[0].Close()
	tabs[2].Want(shown, "11,0")
	testkit.Eventually(t, "another tab streams", func() bool { open, opened := g.streams(); return open == 1 && opened == 2 })
	g.set(12)
	for _, tab := range tabs[1:] {
		tab.Want("client.connection + client.current.used", "live12")
	}
	// All tabs show it when the gateway is gone.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
	g.CloseClientConnections()
	for _, tab := range tabs[1:] {
		tab.Want("client.connection + client.current.stale", "offlinetrue")
	}
	g.answerWith(nil)
	for _, tab := range tabs[1:] {
		tab.Want("client.connection + client.current.stale", "livefalse")
	}
}

func testFrozenLeaderIsReplaced(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	frozen := openClient(t, b, g, "")
	frozen.Want("client.connection", "live")
	// This tab holds the lock but is silent.
	frozen.Eval("void (BroadcastChannel.prototype.postMessage = () => {})", nil)
	tab := openClient(t, b, g, "timing: { ..."+fast+", impatience: 100, leaderSilent: 100 }")
	g.set(2)
	tab.Want("client.connection + client.current?.used", "live2")
	testkit.Eventually(t, "the frozen tab has given up its stream", func() bool { open, _ := g.streams(); return open == 1 })
}

// hide makes a page believe that it is hidden, or visible.
const hide = `((hidden) => {
	Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
	document.dispatchEvent(new Event('visibilitychange'));
})`

func testHiddenTabsPause(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	tab := openClient(t, b, g, "")
	tab.Want("client.connection", "live")
	tab.Eval(hide+"(true)", nil)
	tab.Want("client.connection", "idle")
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	g.set(2)
	tab.Eval(hide+"(false)", nil)
	tab.Want("client.connection + client.current.used + client.current.stale", "live2false")

	// A hidden tab keeps leading for a visible one, and stops once there is none.
	other := openClient(t, b, g, "")
	other.Want("client.connection", "live")
	_, before := g.streams()
	tab.Eval("void (window.queries = 0, window.query = navigator.locks.query, navigator.locks.query = () => (queries++, query.call(navigator.locks)))", nil)
	tab.Eval(hide+"(true)", nil)
	tab.Until("queries") // it looks for visible tabs
	g.set(3)
	other.Want("client.current.used", "3")
	other.Eval(hide+"(true)", nil)
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	if _, opened := g.streams(); opened != before {
		t.Errorf("%d streams were opened, want none", opened-before)
	}
	tab.Want("client.connection", "idle")
	other.Want("client.connection", "idle")
	// A hidden tab follows the visible one.
	other.Eval(hide+"(false)", nil)
	g.set(4)
	other.Want("client.connection + client.current.used", "live4")
	tab.Want("client.connection + client.current.used", "live4")
}

func testUserChanges(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	alice, bob := fakeToken(`{"sub":"alice"}`), fakeToken(`{"sub":"bob"}`)
	g.usedBy = map[string]int{"alice": 3, "bob": 7}
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.seen = [], window.client = createUsageClient({ getToken: async () => token, timing: %s }), client.subscribe(s => seen.push(s ? s.user + s.used : null)))", alice, fast), nil)
	tab.Want("client.current?.user + client.current?.used", "alice3")
	// Nothing of one user is ever shown to the other.
	tab.Eval("(window.token = '"+bob+"', client.refresh())", nil)
	tab.Want("client.current?.user + client.current?.used", "bob7")
	tab.Want("client.connection", "live")
	tab.Want("[...new Set(seen)].join()", "alice3,,bob7")
	testkit.Eventually(t, "one stream", func() bool { open, _ := g.streams(); return open == 1 })

	// Tokens share a stream if the gateway names the same user and plan for them, whatever else
	// they claim.
	other := openPage(t, b, g)
	_, before := g.streams()
	other.Eval(fmt.Sprintf("void (window.client = createUsageClient({ getToken: () => '%s', timing: %s }))", fakeToken(`{"exp":5,"sub":"bob","fva":[3,-1]}`), fast), nil)
	other.Want("client.connection + client.current?.user", "livebob")
	if _, opened := g.streams(); opened != before {
		t.Errorf("%d more streams", opened-before)
	}
	other.Eval("client.close()", nil)
	other.Eval(fmt.Sprintf("void (window.client = createUsageClient({ getToken: () => '%s', timing: %s }))", fakeToken(`{"sub":"bob","plan":"pro"}`), fast), nil)
	testkit.Eventually(t, "a stream more", func() bool { _, opened := g.streams(); return opened == before+1 })
}

// getToken is slow: its answer for the previous user arrives after that for the next one.
func testLateTokenOfPreviousUser(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	alice, bob := fakeToken(`{"sub":"alice"}`), fakeToken(`{"sub":"bob"}`)
	g.usedBy = map[string]int{"alice": 3, "bob": 7}
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.seen = [], window.client = createUsageClient({ getToken: async () => token, timing: %s }), client.subscribe(s => seen.push(s ? s.user + s.used : null)))", alice, fast), nil)
	tab.Want("client.connection", "live")
	tab.Eval("void (window.token = new Promise((resolve) => window.resolve = resolve), window.late = client.fetch('/api/analyze'))", nil)
	tab.Eval("(window.token = '"+bob+"', client.refresh())", nil)
	tab.Want("client.connection + client.current?.user", "livebob")
	tab.Eval("resolve('"+alice+"')", nil)
	tab.Want("late.then(r => r.status)", "200")
	tab.Want("seen.filter((s, i) => s !== seen[i - 1]).join()", "alice3,,bob7")
}

// A page goes to the back/forward cache. When it comes back, another user is signed in.
func testUserChangesBehindCachedPage(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	alice, bob := fakeToken(`{"sub":"alice"}`), fakeToken(`{"sub":"bob"}`)
	g.usedBy = map[string]int{"alice": 3, "bob": 7}
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.client = createUsageClient({ getToken: () => token, timing: %s }))", alice, fast), nil)
	tab.Want("client.connection", "live")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s ? s.user + s.used : null)))", nil)
	const hideAndShow = `(dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })), %s dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })))`
	tab.Eval(fmt.Sprintf(hideAndShow, ""), nil)
	testkit.Eventually(t, "another stream", func() bool { open, opened := g.streams(); return open == 1 && opened == 2 })
	tab.Want("[...new Set(seen)].join()", "alice3") // the same user's numbers stay
	// The gateway does not answer for a while.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
	tab.Eval(fmt.Sprintf(hideAndShow, "window.token = '"+bob+"',"), nil)
	tab.Want("client.current", "null")
	g.answerWith(nil)
	tab.Want("client.current?.user + client.connection", "boblive")
	tab.Want("[...new Set(seen)].join()", "alice3,,bob7")
}

func testCloseEndsEverything(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	tab := openClient(t, b, g, "")
	tab.Want("client.connection", "live")
	tab.Eval("void (window.other = createUsageClient({ getToken: () => '"+fakeToken(`{"sub":"alice"}`)+"' }))", nil)
	tab.Want("other.connection", "live") // it is waiting for the lock
	tab.Eval("void (client.close(), client.close(), other.close())", nil)
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	tab.Want("navigator.locks.query().then(q => q.held.length + q.pending.length)", "0")
	tab.Want("client.fetch('/api/analyze').then(r => r.status + ' ' + client.current.pending)", "200 0")
	tab.Want("client.refresh().then(s => s.used)", "1")
	asked := len(g.requests())
	// The page runs its timers in the order in which they are due: a poll that is left would be the
	// first of these requests.
	tab.Eval("new Promise((resolve) => setTimeout(resolve, 3 * 100)).then(() => fetch('/api/last'))", nil)
	if after := g.requests()[asked:]; len(after) != 1 || !strings.HasPrefix(after[0], "GET /api/last") {
		t.Errorf("requests after close: %q", after)
	}
}

// A page on plain HTTP has no Web Locks. Browsers open six connections to a host for all of its tabs, so two
// tabs stream and the others poll.
func testPageWithoutLocks(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	var tabs []*browsertest.Tab
	for n := range 4 {
		tab := b.Open(t, g.URL, "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })")
		tab.Until("window.ready")
		tab.Eval("void (window.client = createUsageClient({ getToken: () => 'opaque', timing: "+fast+" }))", nil)
		tab.Want("client.connection", []string{"live", "live", "polling", "polling"}[n])
		tabs = append(tabs, tab)
	}
	wantStreams := func(want int) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprint(want, " streams"), func() bool { open, _ := g.streams(); return open == want })
	}
	wantStreams(2)
	g.set(2)
	for _, tab := range tabs {
		tab.Want("client.current.used", "2")
	}
	// A tab that closes lets another one stream, and so does one that is hidden. It still shows the numbers.
	tabs[0].Close()
	tabs[2].Want("client.connection", "live")
	tabs[1].Eval(hide+"(true)", nil)
	tabs[3].Want("client.connection", "live")
	wantStreams(2)
	g.set(3)
	for _, tab := range tabs[1:] {
		tab.Want("client.connection + client.current.used", "live3")
	}
	// The oldest goes first when it is back.
	tabs[1].Eval(hide+"(false)", nil)
	tabs[3].Want("client.connection", "polling")
	wantStreams(2)
	// One that dies without a word is forgotten, once it has been silent for long.
	tabs[2].Eval("void (BroadcastChannel.prototype.postMessage = () => {})", nil)
	tabs[2].Close()
	wantStreams(1)
	tabs[3].Eval("void (Date.now = () => new Date().getTime() + 60_000)", nil)
	wantStreams(2)
	tabs[3].Want("client.connection", "live")
	// Alone and hidden, nobody streams.
	tabs[1].Eval(hide+"(true)", nil)
	tabs[3].Eval(hide+"(true)", nil)
	wantStreams(0)
	tabs[3].Want("client.connection", "idle")
	tabs[3].Eval(hide+"(false)", nil)
	tabs[3].Want("client.connection + client.current.used", "live3")
}

// A hidden tab may lead for a visible one. Its timers run late, but it answers.
func testLeaderThatAnswersStays(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool { // one event, and then silence
		if r.URL.Path != "/usage/stream" {
			return false
		}
		g.countStream()
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	leader := openClient(t, b, g, "timing: { ..."+fast+", dead: 60_000 }")
	leader.Want("client.connection", "live")
	tab := b.Open(t, g.URL, slowTimers)
	tab.Until("window.ready")
	tab.Eval(`void (window.client = createUsageClient({ getToken: () => '`+fakeToken(`{"sub":"alice"}`)+`', timing: { ...`+fast+`, leaderSilent: slow } }))`, nil)
	tab.Want("client.connection + waiting.size", "live1")
	for range 5 { // after three without an answer it would lead
		tab.Eval("void (window.asked = lastTimer, elapse())", nil)
		tab.Until("lastTimer > asked + 1") // it has waited anew for an answer, and after the answer
	}
	tab.Want("client.connection", "live")
	if _, opened := g.streams(); opened != 1 {
		t.Errorf("%d streams, want 1", opened)
	}
}
