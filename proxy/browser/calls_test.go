package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

func testTokenGoesToGatewayOnly(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openPage(t, b, g)
	// The token is only for URLs under /gw. Nothing is really sent.
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

// held makes API calls wait until the test sends their answer.
func held(g *fakeGateway) (answer chan func(http.ResponseWriter)) {
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

// shown is what the client shows: the count and the pending calls.
const shown = "[client.current?.used, client.current?.pending].join()"

func testPendingCalls(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(42)
	answer := held(g)
	tab := openClient(t, b, g, "timing: { ..."+fast+", floor: 60_000 }")
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
	ended := make(chan struct{})
	go func() { // the browser repeats a request if a connection that it has used before breaks off
		for {
			select {
			case answer <- func(http.ResponseWriter) { panic(http.ErrAbortHandler) }:
			case <-ended:
				return
			}
		}
	}()
	tab.Want("call.then(() => 'no', e => e.name)", "TypeError")
	close(ended)
	tab.Want(shown, "42,0")

	// Two calls at a time; the number changes with what the gateway says.
	tab.Eval("void (window.calls = Promise.all([client.fetch('/api/analyze'), client.fetch('/api/analyze')]))", nil)
	tab.Want(shown, "42,2")
	answer <- func(w http.ResponseWriter) { w.Header().Set("X-Usage", "43/100") }
	tab.Want(shown, "43,1")
	answer <- func(w http.ResponseWriter) { g.set(44) }
	tab.Want(shown, "44,0")

	// The client knows that a route is not metered after its first call. /usage never is.
	tab.Eval("void (client.fetch('/api/status'), client.fetch('/usage'))", nil)
	tab.Want(shown, "44,1")
	answer <- func(http.ResponseWriter) {}
	tab.Want(shown, "44,0")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s.pending)), window.call = client.fetch('/api/status'))", nil)
	answer <- func(http.ResponseWriter) {}
	tab.Want("call.then(r => r.status)", "200")
	tab.Want("seen.some(Boolean)", "false")
}

func testRefusedCalls(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
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
	// The refusal is forgotten once a call would be admitted.
	g.set(100, "allowed", false)
	g.set(10)
	tab.Want("client.current.refused", "null")

	// A 429 for too many attempts is not a reached limit: an upgrade would not help.
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

	// Any other 429 is the API's own.
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

	// Too many running calls are not a reached limit either. What is not in the plan is one.
	problem := ""
	status := 429
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, problem, g.usage())
		return true
	})
	problem = `{"type":"about:blank","reason":"concurrency","status":429,"endpoint":"analyze","usage":%s}`
	tab.Want("client.fetch('/api/analyze').then(r => r.json()).then(p => p.reason)", "concurrency")
	tab.Want("[seen.length, client.current.refused].join()", "1,")
	problem, status = `{"type":"about:blank","reason":"not_in_plan","status":403,"endpoint":"drill","violated-policies":["drill-month"],"usage":%s}`, 403
	tab.Want("client.fetch('/api/drill').then(r => r.json()).then(p => p.reason)", "not_in_plan")
	tab.Want("[seen.length, seen[1]?.reason, seen[1]?.endpoint, seen[1]?.retry_after].join()", "2,not_in_plan,drill,")
}

func testFaultsDoNotBreakCalls(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
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
	tab.Want("client.connection + client.current?.used", "live0") // although a subscriber throws
	tab.Want("client.fetch('/api/analyze').then(r => r.status)", "200")

	tab.Eval("void (window.other = createUsageClient({ getToken() { throw new Error('no session') }, timing: "+fast+" }))", nil)
	tab.Want("other.fetch('/api/analyze').then(() => 'sent', e => e.message)", "no session")
	tab.Want("other.connection + other.problem", "offlinetoken")
	tab.Want("other.fetch('data:,hello').then(r => r.text())", "hello")
}

func testXUsageHeader(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(42)
	answer := held(g)
	open := func(floor string) *browsertest.Tab {
		t.Helper()
		tab := openClient(t, b, g, "timing: { ..."+fast+", floor: "+floor+" }", "window.seen = [], client.subscribe(s => seen.push(s.used))")
		tab.Want("client.connection", "live")
		return tab
	}
	tab := open("60_000")
	tab.Want(shown, "42,0")
	call := func(field string) {
		t.Helper()
		tab.Eval("void (window.call = client.fetch('/api/analyze'))", nil)
		answer <- func(w http.ResponseWriter) { w.Header().Set("X-Usage", field) }
		tab.Want("call.then(r => r.status)", "200")
	}
	// Responses may arrive out of order, and the stream may lag.
	call("45/100")
	call("44/100")
	g.set(43)
	g.set(45)
	tab.Until("client.current.used === 45")
	call("100/100")
	tab.Want("[client.current.used, client.current.status, client.current.remaining, client.current.percent].join()", "100,blocked,0,100")
	tab.Want("[...new Set(seen)].join()", "42,45,100")
	tab.Close()
	// If nothing confirms the number, the client asks the gateway and believes it.
	tab = open("300")
	call("100/100")
	tab.Until("seen.includes(100)")
	tab.Want(shown, "45,0")
	// A plan in observe mode may be over its limit, and its user is still allowed.
	g.set(150, "allowed", true)
	tab.Want(shown, "150,0")
	tab.Eval("void (window.states = [], client.subscribe(s => states.push([s.used, s.status, s.allowed].join())))", nil)
	call("151/100")
	tab.Want("[...new Set(states)].slice(0, 2).join('; ')", "150,blocked,true; 151,blocked,true")
}

// Requests of one user are answered after another one has signed in.
func testLateAnswersOfPreviousUser(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	alice, bob := fakeToken(`{"sub":"alice"}`), fakeToken(`{"sub":"bob"}`)
	release := make(chan struct{})
	g.usedBy = map[string]int{"alice": 3, "bob": 7}
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf("void (window.token = '%s', window.client = createUsageClient({ getToken: () => token, timing: %s }))", alice, fast), nil)
	tab.Want("client.connection", "live")
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer "+alice || r.URL.Path == "/usage/stream" {
			return false
		}
		select {
		case <-release:
		case <-r.Context().Done():
			return true
		}
		w.Header().Set("X-Usage", "90/100")
		if r.URL.Path == "/usage" {
			w.Write([]byte(strings.NewReplacer(`"used":3`, `"used":91`).Replace(string(g.usage()))))
		}
		return true
	})
	asked := len(g.requests())
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s && [s.user, s.used, s.pending].join(' '))), window.late = Promise.all([client.refresh(), client.fetch('/api/analyze')]))", nil)
	testkit.Eventually(t, "both were asked", func() bool {
		n := 0
		for _, r := range g.requests()[asked:] {
			if strings.HasSuffix(r, alice) && !strings.Contains(r, "stream") {
				n++
			}
		}
		return n == 2
	})
	tab.Eval("(window.token = '"+bob+"', client.refresh())", nil)
	tab.Want("client.connection + client.current?.used", "live7")
	close(release)
	tab.Want("late.then(() => [...new Set(seen)].join())", "alice 3 0,alice 3 1,,bob 7 0")
	tab.Want(shown, "7,0")
}
