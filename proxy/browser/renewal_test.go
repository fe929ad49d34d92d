package browser_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// expiringTokens makes the gateway refuse all tokens but the last. It returns "body, token" of each call
// with a token that it takes.
func expiringTokens(g *fakeGateway, last string) (taken func() []string) {
	var calls []string
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer "+last {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(401)
			return true
		}
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		g.mu.Lock()
		calls = append(calls, r.Method+" "+string(body))
		g.mu.Unlock()
		return true
	})
	return func() []string {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Clone(calls)
	}
}

func testRefusedCallsAreRepeated(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	old, renewed := fakeToken(`{"sub":"alice","exp":1}`), fakeToken(`{"sub":"alice","exp":2}`)
	tab := openPage(t, b, g)
	g.set(1)
	tab.Eval(fmt.Sprintf(`void (window.token = '%s', window.asked = [], window.client = createUsageClient({ timing: %s,
		getToken({ refresh }) { asked.push(refresh); if (refresh) token = '%s'; return token; } }))`, old, fast, renewed), nil)
	tab.Want("client.connection", "live") // with the old token
	for _, call := range []struct{ input, want string }{
		{"'/api/a'", "GET "},
		{"'/api/a', { method: 'POST', body: 'text' }", "POST text"},
		{"new URL('/api/a', location), { method: 'PUT', body: new Blob(['blob']) }", "PUT blob"},
		{"'/api/a', { method: 'POST', body: new Uint8Array([104, 105]) }", "POST hi"},
		{"new Request('/api/a')", "GET "},
		{"new Request('/api/a', { method: 'POST', body: JSON.stringify('json'), headers: { 'Content-Type': 'application/json' } })", `POST "json"`},
		{"new Request('/api/a', { method: 'POST', body: 'first' }), { body: 'second' }", "POST second"},
		{"new Request('/api/a', { method: 'POST', body: new URLSearchParams({ a: 1 }) })", "POST a=1"},
	} {
		taken := expiringTokens(g, renewed)
		tab.Eval("(window.token = '"+old+"', client.refresh().then(() => 0))", nil)
		tab.Eval("(window.token = '"+old+"', window.asked = [])", nil)
		tab.Want("client.fetch("+call.input+").then(r => r.status)", "200")
		if got := taken(); !slices.Equal(got, []string{call.want}) {
			t.Errorf("%s: %q, want %q", call.input, got, call.want)
		}
		tab.Want("asked.join()", "false,true")
	}
	// Many calls at once ask for one new token.
	expiringTokens(g, renewed)
	tab.Eval("(window.token = '"+old+"', client.refresh().then(() => 0))", nil)
	tab.Eval("(window.token = '"+old+"', window.asked = [])", nil)
	tab.Want("Promise.all(Array.from({ length: 5 }, () => client.fetch('/api/a'))).then(all => all.map(r => r.status).join())", "200,200,200,200,200")
	tab.Want("asked.filter(Boolean).length", "1")
}

// What cannot be sent twice, or is not the client's to repeat, is answered as it was.
func testCallsThatAreNotRepeated(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	old, renewed := fakeToken(`{"sub":"alice","exp":1}`), fakeToken(`{"sub":"alice","exp":2}`)
	g.set(1)
	for _, test := range []struct{ name, next, call string }{
		{"a token of its own", renewed, "client.fetch('/api/a', { headers: { Authorization: 'mine' } })"},
		{"a file in a request", renewed, "client.fetch(new Request('/api/a', { method: 'POST', body: new Blob(['x'], { type: 'image/png' }) }))"},
		{"no other token", old, "client.fetch('/api/a')"},
		{"signed out", "", "client.fetch('/api/a')"},
		{"another user", fakeToken(`{"sub":"bob"}`), "client.fetch('/api/a')"},
	} {
		tab := openPage(t, b, g)
		g.answerWith(nil)
		tab.Eval(fmt.Sprintf("void (window.sent = 0, window.client = createUsageClient({ timing: %s, getToken: ({ refresh }) => refresh ? '%s' : '%s', fetch(...a) { if (String(a[0].url ?? a[0]).includes('/api/')) sent++; return fetch(...a); } }))", fast, test.next, old), nil)
		tab.Want("client.connection", "live")
		g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(401)
			}
			return strings.HasPrefix(r.URL.Path, "/api/")
		})
		if got := tab.String(test.call + ".then(r => r.status + ' ' + sent)"); got != "401 1" {
			t.Errorf("%s: %s", test.name, got)
		}
		tab.Eval("client.close()", nil)
	}

	// A call that is aborted while the application gets the token ends at once.
	tab := openPage(t, b, g)
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(401); return true })
	tab.Eval(`void (window.abort = new AbortController(), window.client = createUsageClient({ getToken: ({ refresh }) => refresh ? new Promise(() => { window.waits = true; }) : 'x' }),
		window.call = client.fetch('/api/a', { signal: abort.signal }).then(r => r.status, e => e.name))`, nil)
	tab.Until("window.waits")
	tab.Eval("abort.abort()", nil)
	tab.Want("call", "AbortError")
}

// A tab that follows another tab's stream makes calls with a token of its own.
func testFollowingTabRenewsItsToken(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	leader := openClient(t, b, g, "")
	leader.Want("client.connection", "live")
	old, renewed := fakeToken(`{"sub":"alice","exp":1}`), fakeToken(`{"sub":"alice","exp":2}`)
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.client = createUsageClient({ timing: %s, getToken({ refresh }) { if (refresh) token = '%s'; return token; } }))", old, fast, renewed), nil)
	tab.Want("client.connection", "live")
	_, before := g.streams()
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer "+old {
			return false
		}
		w.WriteHeader(401)
		return true
	})
	tab.Eval("void (window.states = [], client.subscribe(s => states.push(s?.connection)))", nil)
	tab.Want("client.fetch('/api/a').then(r => r.status)", "200")
	tab.Want("token", renewed)
	g.set(2)
	tab.Want("client.connection + client.current?.used", "live2")
	tab.Want("[...new Set(states)].join()", "live")
	if _, opened := g.streams(); opened != before {
		t.Errorf("%d more streams", opened-before)
	}
	testkit.Eventually(t, "one stream", func() bool { open, _ := g.streams(); return open == 1 })
}
