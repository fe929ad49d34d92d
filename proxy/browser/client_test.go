package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// fast makes the client try again soon. How long it waits for others stays long
// enough for a busy machine; tests of that shorten it.
const fast = `{ poll: 100, firstEvent: 5000, impatience: 5000, dead: 5000, backoff: 20, backoffMax: 100, settled: 100, floor: 300, grace: 50, leaderLost: 10_000 }`

// The tests of the client share one browser. Each has a gateway of its own, and so
// an origin, a channel and a lock.
func TestClient(t *testing.T) {
	b := browsertest.Start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *browsertest.Browser, *gateway)
	}{
		{"event stream", testEventStream},
		{"token goes to the gateway only", testToken},
		{"pending", testPending},
		{"refused", testRefused},
		{"usage cannot break calls", testUnbreakable},
		{"older states", testOlder},
		{"X-Usage", testUsageField},
		{"events", testEvents},
		{"expired and refused tokens", testExpiry},
		{"dead and buffered streams", testDead},
		{"quiet stream", testQuiet},
		{"no stream", testNoStream},
		{"gone and back", testGone},
		{"tabs", testTabs},
		{"frozen leader", testFrozen},
		{"hidden tabs", testHidden},
		{"users", testUsers},
		{"late answers", testLate},
		{"close", testClose},
		{"insecure page", testUnshared},
		{"meter", testMeter},
		{"meter words", testMeterWords},
		{"meter upgrade", testUpgrade},
		{"meter contrast", testContrast},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b, newGateway(t)) })
	}
}

// openPage opens a page with the modules loaded.
func openPage(t *testing.T, b *browsertest.Browser, g *gateway) *browsertest.Tab {
	t.Helper()
	tab := b.Open(t, g.URL, "")
	tab.Until("window.ready")
	return tab
}

// openClient opens a page with a client of user alice, `client`.
func openClient(t *testing.T, b *browsertest.Browser, g *gateway, options string) *browsertest.Tab {
	t.Helper()
	tab := openPage(t, b, g)
	tab.Eval(`void (window.client = createUsageClient({ getToken: () => '`+fakeToken(`{"sub":"alice"}`)+`', timing: `+fast+`, `+options+` }))`, nil)
	return tab
}

func testEventStream(t *testing.T, b *browsertest.Browser, g *gateway) {
	tab := openPage(t, b, g)
	for _, test := range []struct{ name, stream, want string }{
		{"one", "event: usage\ndata: 1\n\n", "usage=1"},
		{"all line ends", "data: 1\r\ndata: 2\rdata: 3\n\ndata: 4\r\r\ndata: 5\r\n\r\n", "message=1\n2\n3|message=4|message=5"},
		{"comments", ":\n\n: hello\nevent: a\n:\ndata: 1\n\n", "a=1"},
		{"no data, no event", "event: a\n\ndata: 1\n\n", "message=1"},
		{"empty data", "data\n\ndata:\ndata:\n\n", "message=|message=\n"},
		{"one space is dropped", "data:1\ndata:  2\n\n", "message=1\n 2"},
		{"unknown fields", "id: 7\nretry: 10\nfoo: bar\ndata: 1\n data: 2\n\n", "message=1"},
		{"unfinished", "data: 1\n\ndata: 2\n", "message=1"},
		{"byte order mark", "\ufeffdata: 1\n\n", "message=1"},
		{"letters", "data: für 日本 🎈\n\n", "message=für 日本 🎈"},
		{"colons", "data: a: b\nevent: x:y\n\n", "x:y=a: b"},
	} {
		// In one piece, and byte by byte.
		for _, size := range []int{1 << 20, 1, 2, 3} {
			got := tab.String(fmt.Sprintf(`(() => {
				const events = [];
				const parser = new EventStreamParser((type, data) => events.push(type + '=' + data));
				const bytes = new TextEncoder().encode(%q);
				for (let i = 0; i < bytes.length; i += %d) parser.push(bytes.slice(i, i + %d));
				return events.join('|');
			})()`, test.stream, size, size))
			if got != test.want {
				t.Errorf("%s, in pieces of %d: %q, want %q", test.name, size, got, test.want)
			}
		}
	}
}

func testToken(t *testing.T, b *browsertest.Browser, g *gateway) {
	tab := openPage(t, b, g)
	// Under /gw only; nothing is really sent.
	tab.Eval(`Promise.all((() => {
		const c = createUsageClient({ baseUrl: 'https://api.example.com/gw', getToken: () => 'secret',
			fetch: async (input, init) => {
				const r = new Request(input, init);
				(window.sent ??= []).push(r.method + ' ' + r.url + ' ' + r.headers.get('Authorization') + ' ' + r.headers.get('X'));
				return new Response(null, { status: 204 });
			} });
		return [
			c.fetch('https://api.example.com/gw/a', { headers: { X: '1' } }),
			c.fetch(new URL('https://api.example.com/gw/b'), { method: 'POST' }),
			c.fetch(new Request('https://api.example.com/gw/c', { method: 'PUT', headers: { X: '2' }, body: 'x' })),
			c.fetch('https://api.example.com/gw/d', { headers: { Authorization: 'mine' } }),
			c.fetch('https://api.example.com/gateway'), c.fetch('https://api.example.com/gw/../e'),
			c.fetch('https://api.example.com.evil.example/gw/f'), c.fetch('http://api.example.com/gw/g'),
			c.fetch('https://api.example.com:444/gw/h'), c.fetch('/gw/i'),
		].map((p) => p.then((r) => r.status));
	})())`, nil)
	var sent []string
	tab.Eval("sent.filter(line => !line.includes('/usage'))", &sent)
	want := []string{
		"GET https://api.example.com/gw/a Bearer secret 1", "POST https://api.example.com/gw/b Bearer secret null",
		"PUT https://api.example.com/gw/c Bearer secret 2", "GET https://api.example.com/gw/d mine null",
		"GET https://api.example.com/gateway null null", "GET https://api.example.com/e null null",
		"GET https://api.example.com.evil.example/gw/f null null", "GET http://api.example.com/gw/g null null",
		"GET https://api.example.com:444/gw/h null null", "GET " + g.URL + "/gw/i null null",
	}
	slices.Sort(sent)
	slices.Sort(want)
	if !slices.Equal(sent, want) {
		t.Errorf("sent\n%s\nwant\n%s", strings.Join(sent, "\n"), strings.Join(want, "\n"))
	}
}

// held answers calls of the API only once told to.
func held(g *gateway) (answer chan func(http.ResponseWriter)) {
	answer = make(chan func(http.ResponseWriter))
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		select {
		case f := <-answer:
			f(w)
		case <-r.Context().Done():
		}
		return true
	})
	return answer
}

const shown = "[client.current?.used, client.current?.pending].join()"

func testPending(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(42)
	answer := held(g)
	tab := openClient(t, b, g, "")
	tab.Want(shown, "42,0")
	tab.Eval("void (window.call = client.fetch('/api/analyze', { method: 'POST', body: 'x' }))", nil)
	tab.Want(shown, "42,1")
	answer <- func(w http.ResponseWriter) { http.Error(w, "no", 500) }
	tab.Want("call.then(r => r.status)", "500")
	tab.Want(shown, "42,0")

	tab.Eval("void (window.abort = new AbortController(), window.call = client.fetch('/api/analyze', { signal: abort.signal }))", nil)
	tab.Want(shown, "42,1")
	tab.Eval("abort.abort()", nil)
	tab.Want("call.then(() => 'no', e => e.name)", "AbortError")
	tab.Want(shown, "42,0")

	tab.Eval("void (window.call = client.fetch('/api/analyze'))", nil)
	tab.Want(shown, "42,1")
	answer <- func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	tab.Want("call.then(() => 'no', e => e.name)", "TypeError")
	tab.Want(shown, "42,0")

	// Two at a time; the gateway's word moves the number.
	tab.Eval("void (window.calls = Promise.all([client.fetch('/api/analyze'), client.fetch('/api/analyze')]))", nil)
	tab.Want(shown, "42,2")
	answer <- func(w http.ResponseWriter) { w.Header().Set("X-Usage", "43/100") }
	tab.Want(shown, "43,1")
	answer <- func(w http.ResponseWriter) { g.set(44) }
	tab.Want(shown, "44,0")

	// A route that is not metered is known after its first call; usage never is.
	tab.Eval("void (client.fetch('/api/status'), client.fetch('/usage'))", nil)
	tab.Want(shown, "44,1")
	answer <- func(http.ResponseWriter) {}
	tab.Want(shown, "44,0")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s.pending)), window.call = client.fetch('/api/status'))", nil)
	answer <- func(http.ResponseWriter) {}
	tab.Want("call.then(r => r.status)", "200")
	tab.Want("seen.some(Boolean)", "false")
}

func testRefused(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(99)
	tab := openClient(t, b, g, "")
	tab.Want(shown, "99,0")
	tab.Eval("void (window.seen = [], client.addEventListener('usage-exceeded', e => seen.push(e.detail)))", nil)
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		g.set(100)
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(429)
		fmt.Fprintf(w, `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","status":429,"endpoint":"analyze","violated-policies":["month"],"usage":%s,"upgrade_url":"https://example.com/pricing"}`, g.usage())
		return true
	})
	// The caller can still read the body.
	tab.Want("client.fetch('/api/analyze').then(r => r.json()).then(p => p.endpoint)", "analyze")
	tab.Want("seen.map(s => [s.used, s.status, s.endpoint, s.violated, s.upgrade_url, s.retry_after, s.refused.endpoint]).join()", "100,blocked,analyze,month,https://example.com/pricing,60,analyze")
	tab.Want(shown, "100,0")
	// It is over once a call would be admitted.
	g.set(100, "allowed", false)
	g.set(10)
	tab.Want("client.current.refused", "null")

	// Who tried too often has not reached a limit, and no upgrade would help.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "1")
		w.Header().Set("X-Usage", "10/100")
		w.WriteHeader(429)
		fmt.Fprintf(w, `{"type":"https://iana.org/assignments/http-problem-types#abnormal-usage-detected","status":429,"endpoint":"analyze","usage":%s}`, g.usage())
		return true
	})
	tab.Want("client.fetch('/api/analyze').then(r => r.json()).then(p => p.type.split('#')[1])", "abnormal-usage-detected")
	tab.Want("[seen.length, client.current.refused].join()", "1,")
	tab.Want(shown, "10,0")

	// Another 429 is not ours.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(429)
			w.Write([]byte(`{"type":"about:blank"}`))
			return true
		}
		return false
	})
	tab.Want("client.fetch('/api/analyze').then(r => r.status)", "429")
	tab.Want("[seen.length, client.current.refused].join()", "1,")
}

func testUnbreakable(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/usage") {
			w.Write([]byte(`{"what":`))
			return true
		}
		w.Header().Set("X-Usage", "many")
		w.Write([]byte("fine"))
		return true
	})
	tab := openClient(t, b, g, "")
	tab.Eval("void client.subscribe(() => { throw new Error('of the application') })", nil)
	tab.Want("client.fetch('/api/analyze').then(r => r.text())", "fine")
	tab.Want("client.connection", "offline")
	tab.Want("client.refresh()", "null")
	g.answerWith(nil)
	tab.Want("client.connection + client.current?.used", "live0") // in spite of the subscriber that throws
	tab.Want("client.fetch('/api/analyze').then(r => r.status)", "200")

	tab.Eval("void (window.other = createUsageClient({ getToken() { throw new Error('no session') }, timing: "+fast+" }))", nil)
	tab.Want("other.fetch('/api/analyze').then(() => 'sent', e => e.message)", "no session")
	tab.Want("other.connection + other.problem", "offlinetoken")
	tab.Want("other.fetch('data:,hello').then(r => r.text())", "hello")
}

func testOlder(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(50, "as_of", "2026-11-23T12:00:10.000Z")
	tab := openClient(t, b, g, "")
	tab.Want(shown, "50,0")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s.used + (s.stale ? ' stale' : ''))))", nil)
	for _, s := range []struct {
		used  int
		as_of string
		stale bool
	}{
		{49, "2026-11-23T12:00:09.999Z", false}, // older
		{40, "2026-11-23T12:00:11.000Z", true},  // a gateway that has lost its store, and saw less
		{51, "2026-11-23T12:00:12.000Z", false},
		{52, "2026-11-23T12:00:12.000Z", false}, // the same millisecond, later on the stream
		{0, "2026-11-23T12:00:13.000Z", false},  // a reset
	} {
		last := tab.String("seen.length")
		g.set(s.used, "as_of", s.as_of, "stale", s.stale)
		tab.Until("seen.length > " + last)
	}
	tab.Want("[...new Set(seen)].join()", "50,50 stale,51,52,0")
}

func testUsageField(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(42)
	answer := held(g)
	tab := openClient(t, b, g, "")
	tab.Want(shown, "42,0")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s.used)))", nil)
	call := func(field string) {
		t.Helper()
		tab.Eval("void (window.call = client.fetch('/api/analyze'))", nil)
		answer <- func(w http.ResponseWriter) { w.Header().Set("X-Usage", field) }
		tab.Want("call.then(r => r.status)", "200")
	}
	// Responses may overtake one another, and the stream may lag.
	call("45/100")
	call("44/100")
	g.set(43)
	g.set(45)
	tab.Until("client.current.used === 45")
	call("100/100")
	tab.Want("[client.current.used, client.current.status, client.current.remaining, client.current.percent].join()", "100,blocked,0,100")
	tab.Want("[...new Set(seen)].join()", "42,45,100")
	// Nothing confirms it: the gateway is asked, and believed.
	tab.Want(shown, "45,0")
	// A plan that observes is over its limit, and its user allowed all the same.
	g.set(150, "allowed", true)
	tab.Want(shown, "150,0")
	tab.Eval("void (window.states = [], client.subscribe(s => states.push([s.used, s.status, s.allowed].join())))", nil)
	call("151/100")
	tab.Want("[...new Set(states)].slice(0, 2).join('; ')", "150,blocked,true; 151,blocked,true")
}

func testEvents(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(79)
	tab := openClient(t, b, g, "")
	tab.Eval(`void (window.seen = [], ['usage-warning', 'usage-exceeded', 'connection'].forEach(type =>
		client.addEventListener(type, e => seen.push(type + ' ' + (e.detail.used ?? e.detail.connection)))))`, nil)
	tab.Want(shown, "79,0")
	for _, used := range []int{80, 81, 100, 90, 10, 85} {
		g.set(used)
		tab.Want("client.current.used", fmt.Sprint(used))
	}
	tab.Want("seen.join()", "connection live,usage-warning 80,usage-warning 85")
	// subscribe ends.
	tab.Eval("void (window.n = 0, window.off = client.subscribe(() => n++))", nil)
	g.set(86)
	tab.Until("client.current.used === 86 && n > 1")
	tab.Eval("off()", nil)
	n := tab.String("n")
	g.set(87)
	tab.Until("client.current.used === 87")
	tab.Want("n", n)
}

func testExpiry(t *testing.T, b *browsertest.Browser, g *gateway) {
	first, second := fakeToken(`{"sub":"alice","exp":1}`), fakeToken(`{"sub":"alice","exp":2}`)
	g.set(1)
	expire := make(chan struct{})
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/usage/stream" || r.Header.Get("Authorization") != "Bearer "+first {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		<-expire
		fmt.Fprint(w, "event: end\ndata: {\"reason\":\"token_expired\"}\n\n")
		return true
	})
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf(`void (window.asked = [], window.client = createUsageClient({ timing: { ...%s, backoff: 60_000, backoffMax: 60_000, settled: 0 },
		getToken({ refresh }) { asked.push(refresh); return refresh ? '%s' : '%s'; } }),
		window.states = [], client.subscribe(s => states.push(s.connection + s.stale)))`, fast, second, first), nil)
	tab.Want("client.connection", "live")
	g.set(2)
	close(expire)
	tab.Want("client.current.used", "2") // at once: the backoff is a minute
	tab.Want("asked.join()", "false,false,true")
	tab.Want("[...new Set(states)].join()", "livefalse")
	tab.Eval("client.close()", nil)

	// A refused token is asked for once more; then the client backs off.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+second {
			return false
		}
		w.WriteHeader(401)
		return true
	})
	tab.Eval(fmt.Sprintf(`void (window.client = createUsageClient({ timing: %s, getToken: ({ refresh }) => refresh ? '%s' : '%s' }))`, fast, second, first), nil)
	tab.Want("client.connection", "live")
	tab.Eval("client.close()", nil)
	tab.Eval(fmt.Sprintf(`void (window.client = createUsageClient({ timing: %s, getToken: () => (window.asks = (window.asks ?? 0) + 1, window.signedIn ?? '%s') }))`, fast, first), nil)
	tab.Want("client.connection + client.problem", "offlineunauthorized")
	tab.Eval("(window.signedIn = '', window.asks = 0)", nil) // signed out: nothing is sent
	tab.Until("asks > 2")
	tab.Want("client.connection + client.problem", "offlineunauthorized")
	tab.Eval("window.signedIn = '"+second+"'", nil)
	tab.Want("client.connection", "live")
	for _, request := range g.requests() {
		if !strings.Contains(request, "Bearer") {
			t.Errorf("%s: without a token", request)
		}
	}
}

func testDead(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	// Nothing comes through; then one event does, and no more.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/usage/stream" {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	tab := openClient(t, b, g, "timing: { ..."+fast+", firstEvent: 300, impatience: 100, dead: 500 }")
	tab.Want("client.connection + client.current?.used", "polling1")
	g.set(2)
	tab.Want("client.connection + client.current?.used", "polling2")
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/usage/stream" {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	tab.Want("client.connection", "live")
	g.answerWith(nil)
	g.set(3)
	tab.Want("client.connection + client.current?.used", "live3")
}

// testQuiet is a stream that says nothing for longer than its first event may take.
func testQuiet(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	opened := make(chan struct{}, 10)
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/usage/stream" {
			return false
		}
		opened <- struct{}{}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		select {
		case <-time.After(600 * time.Millisecond):
		case <-r.Context().Done():
			return true
		}
		g.set(2)
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	tab := openPage(t, b, g)
	tab.Eval("void (window.client = createUsageClient({ getToken: () => 'opaque', timing: { ..."+fast+", firstEvent: 300 } }))", nil)
	tab.Want("client.connection + client.current?.used", "live2")
	if len(opened) != 1 {
		t.Errorf("%d streams, want 1", len(opened))
	}
}

func testNoStream(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	for _, refuse := range []func(w http.ResponseWriter){
		func(w http.ResponseWriter) { w.WriteHeader(404) },
		func(w http.ResponseWriter) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) },
		func(w http.ResponseWriter) { w.Write([]byte("<!doctype html>Welcome to this hotel")) },
		func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/usage/stream" {
				refuse(w)
				return true
			}
			return false
		})
		tab := openClient(t, b, g, "")
		tab.Want("client.connection", "polling")
		g.set(2)
		tab.Want("[client.current.used, client.current.stale].join()", "2,false")
		g.set(3) // a call is followed by a read
		tab.Want("client.fetch('/api/analyze').then(() => client.refresh()).then(s => s.used)", "3")
		g.answerWith(nil)
		tab.Want("client.connection", "live")
		tab.Eval("client.close()", nil)
	}
}

func testGone(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(7)
	tab := openClient(t, b, g, "")
	tab.Want("client.connection + client.current?.used", "live7")
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
	g.CloseClientConnections()
	tab.Want("[client.connection, client.problem, client.current.used, client.current.stale].join()", "offline,unreachable,7,true")
	g.answerWith(nil)
	g.set(8)
	tab.Want("[client.connection, client.problem, client.current.used, client.current.stale].join()", "live,,8,false")
}

func testTabs(t *testing.T, b *browsertest.Browser, g *gateway) {
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
	// A running call shows in all.
	tabs[1].Eval("void (window.call = client.fetch('/api/analyze'))", nil)
	for _, tab := range tabs {
		tab.Want(shown, "10,1")
	}
	g.set(11)
	answer <- func(http.ResponseWriter) {}
	for _, tab := range tabs {
		tab.Want(shown, "11,0")
	}
	// A call whose tab is closed is not pending for ever. Another tab leads on.
	tabs[0].Eval("void client.fetch('/api/analyze').catch(() => {})", nil)
	tabs[2].Want(shown, "11,1")
	tabs[0].Close()
	tabs[2].Want(shown, "11,0")
	testkit.Eventually(t, "another tab streams", func() bool { open, opened := g.streams(); return open == 1 && opened == 2 })
	g.set(12)
	for _, tab := range tabs[1:] {
		tab.Want("client.connection + client.current.used", "live12")
	}
	// So it is when the gateway is gone.
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

func testFrozen(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	frozen := openClient(t, b, g, "")
	frozen.Want("client.connection", "live")
	// It holds the lock and says nothing.
	frozen.Eval("void (BroadcastChannel.prototype.postMessage = () => {})", nil)
	tab := openClient(t, b, g, "timing: { ..."+fast+", impatience: 100, leaderLost: 300 }")
	g.set(2)
	tab.Want("client.connection + client.current?.used", "live2")
	testkit.Eventually(t, "the frozen tab has given up its stream", func() bool { open, _ := g.streams(); return open == 1 })
}

// hide makes a page believe that it is hidden, or seen.
const hide = `((hidden) => {
	Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
	document.dispatchEvent(new Event('visibilitychange'));
})`

func testHidden(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	tab := openClient(t, b, g, "")
	tab.Want("client.connection", "live")
	tab.Eval(hide+"(true)", nil)
	tab.Want("client.connection", "idle")
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	g.set(2)
	tab.Eval(hide+"(false)", nil)
	tab.Want("client.connection + client.current.used + client.current.stale", "live2false")

	// It leads on for a tab that is seen, and stops once there is none.
	other := openClient(t, b, g, "")
	other.Want("client.connection", "live")
	_, before := g.streams()
	tab.Eval("void (window.queries = 0, window.query = navigator.locks.query, navigator.locks.query = () => (queries++, query.call(navigator.locks)))", nil)
	tab.Eval(hide+"(true)", nil)
	tab.Until("queries") // it looks for tabs that are seen
	g.set(3)
	other.Want("client.current.used", "3")
	other.Eval(hide+"(true)", nil)
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	if _, opened := g.streams(); opened != before {
		t.Errorf("%d streams were opened, want none", opened-before)
	}
	tab.Want("client.connection", "idle")
	other.Want("client.connection", "idle")
	// A hidden tab follows the one that is seen.
	other.Eval(hide+"(false)", nil)
	g.set(4)
	other.Want("client.connection + client.current.used", "live4")
	tab.Want("client.connection + client.current.used", "live4")
}

func testUsers(t *testing.T, b *browsertest.Browser, g *gateway) {
	alice, bob := fakeToken(`{"sub":"alice"}`), fakeToken(`{"sub":"bob"}`)
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+bob {
			g.set(7, "user", "bob")
		} else {
			g.set(3, "user", "alice")
		}
		return false
	})
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.seen = [], window.client = createUsageClient({ getToken: async () => token, timing: %s }), client.subscribe(s => seen.push(s ? s.user + s.used : null)))", alice, fast), nil)
	tab.Want("client.current?.user + client.current?.used", "alice3")
	// Nothing of one user is shown to the other.
	tab.Eval("(window.token = '"+bob+"', client.refresh())", nil)
	tab.Want("client.current?.user + client.current?.used", "bob7")
	tab.Want("client.connection", "live")
	tab.Want("[...new Set(seen)].join()", "alice3,,bob7")
	testkit.Eventually(t, "one stream", func() bool { open, _ := g.streams(); return open == 1 })

	// Tokens of one user with other times share a stream, with another plan they do not.
	other := openPage(t, b, g)
	_, before := g.streams()
	other.Eval(fmt.Sprintf("void (window.client = createUsageClient({ getToken: () => '%s', timing: %s }))", fakeToken(`{"exp":5,"sub":"bob","iat":3}`), fast), nil)
	other.Want("client.connection + client.current?.user", "livebob")
	if _, opened := g.streams(); opened != before {
		t.Errorf("%d more streams", opened-before)
	}
	other.Eval("client.close()", nil)
	other.Eval(fmt.Sprintf("void (window.client = createUsageClient({ getToken: () => '%s', timing: %s }))", fakeToken(`{"sub":"bob","plan":"pro"}`), fast), nil)
	testkit.Eventually(t, "a stream more", func() bool { _, opened := g.streams(); return opened == before+1 })
}

// testLate is what was asked for one user and answered after another has signed in.
func testLate(t *testing.T, b *browsertest.Browser, g *gateway) {
	alice, bob := fakeToken(`{"sub":"alice"}`), fakeToken(`{"sub":"bob"}`)
	release := make(chan struct{})
	g.set(7, "user", "bob")
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer "+alice || r.URL.Path == "/usage/stream" {
			return false
		}
		<-release
		w.Header().Set("X-Usage", "90/100")
		if r.URL.Path == "/usage" {
			w.Write([]byte(strings.NewReplacer(`"bob"`, `"alice"`, `"used":7`, `"used":91`).Replace(string(g.usage()))))
		}
		return true
	})
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.client = createUsageClient({ getToken: () => token, timing: %s }))", alice, fast), nil)
	tab.Want("client.connection", "live")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s?.used)), window.late = Promise.all([client.refresh(), client.fetch('/api/analyze')]))", nil)
	testkit.Eventually(t, "both were asked", func() bool {
		n := 0
		for _, r := range g.requests() {
			if strings.HasSuffix(r, alice) && !strings.Contains(r, "stream") {
				n++
			}
		}
		return n == 2
	})
	tab.Eval("(window.token = '"+bob+"', client.fetch('/api/report').then(() => 0))", nil)
	tab.Want("client.connection + client.current?.used", "live7")
	close(release)
	tab.Want("late.then(() => [...new Set(seen)].join())", "7,")
	tab.Want(shown, "7,0")
}

func testClose(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	tab := openClient(t, b, g, "")
	tab.Want("client.connection", "live")
	tab.Eval("void (window.other = createUsageClient({ getToken: () => '"+fakeToken(`{"sub":"alice"}`)+"' }))", nil)
	tab.Want("other.connection", "live") // it waits for the lock
	tab.Eval("void (client.close(), client.close(), other.close())", nil)
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	tab.Want("navigator.locks.query().then(q => q.held.length + q.pending.length)", "0")
	tab.Want("client.fetch('/api/analyze').then(r => r.status + ' ' + client.current.pending)", "200 0")
	tab.Want("client.refresh().then(s => s.used)", "1")
	asked := len(g.requests())
	time.Sleep(300 * time.Millisecond) // three polls
	if n := len(g.requests()); n != asked {
		t.Errorf("%d requests after close", n-asked)
	}
}

// testUnshared is a page without Web Locks, as those on plain HTTP are.
func testUnshared(t *testing.T, b *browsertest.Browser, g *gateway) {
	g.set(1)
	for n := range 2 {
		tab := b.Open(t, g.URL, "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })")
		tab.Until("window.ready")
		tab.Eval("void (window.client = createUsageClient({ getToken: () => 'opaque', timing: "+fast+" }))", nil)
		tab.Want("client.connection + client.current?.used", "live1")
		if open, _ := g.streams(); open != n+1 {
			t.Errorf("%d streams, want %d", open, n+1)
		}
		if n == 0 {
			continue
		}
		tab.Eval(hide+"(true)", nil)
		tab.Want("client.connection", "idle")
		g.set(2)
		tab.Eval(hide+"(false)", nil)
		tab.Want("client.connection + client.current?.used", "live2")
	}
}
