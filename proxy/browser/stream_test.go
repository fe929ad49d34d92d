package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy/browser/browsertest"
)

func testEventStreamParser(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
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
		// In one piece, and in pieces of a few bytes.
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

func testExpiredAndRefusedTokens(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
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
	tab.Eval(fmt.Sprintf(`void (window.asked = [], window.client = createUsageClient({ timing: { ...%s, backoff: 60_000, settled: 0 },
		getToken({ refresh }) { asked.push(refresh); return refresh ? '%s' : '%s'; } }),
		window.states = [], client.subscribe(s => states.push(s.connection + s.stale)))`, fast, second, first), nil)
	tab.Want("client.connection", "live")
	g.set(2)
	close(expire)
	tab.Want("client.current.used", "2") // at once: the backoff is a minute
	tab.Want("asked.join()", "false,false,true")
	tab.Want("[...new Set(states)].join()", "idlefalse,livefalse")
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

func testDeadAndBufferedStreams(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	// At first no event arrives; then one does, and no more.
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

// The stream is silent for longer than its first event may take.
func testQuietStreamStaysOpen(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	opened := make(chan struct{}, 10)
	more := make(chan struct{})
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/usage/stream" {
			return false
		}
		opened <- struct{}{}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return true
		}
		fmt.Fprintf(w, "event: usage\ndata: %s\n\n", g.usage())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	tab := b.Open(t, g.URL, slowTimers)
	tab.Until("window.ready")
	tab.Eval("void (window.client = createUsageClient({ getToken: () => 'opaque', timing: { ..."+fast+", firstEvent: slow } }))", nil)
	tab.Want("client.connection + client.current?.used", "live1")
	tab.Eval("elapse()", nil)
	g.set(2)
	close(more)
	tab.Want("client.connection + client.current?.used", "live2")
	if len(opened) != 1 {
		t.Errorf("%d streams, want 1", len(opened))
	}
}

func testPollingWithoutStream(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
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
		g.set(3) // after a call the client reads the usage
		tab.Want("client.fetch('/api/analyze').then(() => client.refresh()).then(s => s.used)", "3")
		g.answerWith(nil)
		tab.Want("client.connection", "live")
		tab.Eval("client.close()", nil)
	}
}

// Polls are spread, but never farther apart than the 10 seconds that docs/frontend.md promises.
func testPollsInTime(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	for _, random := range []string{"0", "0.999999"} {
		tab := b.Open(t, g.URL, slowTimers+"Math.random = () => "+random+"; slow = 6_000;")
		tab.Until("window.ready")
		tab.Eval("void (window.client = createUsageClient({ getToken: () => 'opaque', poll: true, timing: (({ poll, ...others }) => others)("+fast+") }))", nil)
		g.set(0)
		for used := range 3 {
			tab.Want("client.current?.used", fmt.Sprint(used))
			tab.Want("waiting.size", "1")
			tab.Want("[...waiting.values()].every(({ ms }) => ms <= 10_000)", "true")
			g.set(used + 1)
			tab.Eval("elapse()", nil)
		}
		tab.Close()
	}
}

func testGatewayGoneAndBack(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
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
