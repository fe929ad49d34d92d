package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"metergate/proxy/browser/browsertest"
)

// byCookie makes the gateway count for the user that a cookie names, and refuse requests without one. A
// stream stays that of the user who has opened it.
func byCookie(g *fakeGateway) {
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		user, err := r.Cookie("user")
		if err != nil {
			w.WriteHeader(401)
			return true
		}
		r.Header.Set("Authorization", "Bearer "+fakeToken(`{"sub":"`+user.Value+`"}`))
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(429)
		fmt.Fprintf(w, `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","endpoint":"analyze","usage":%s}`, g.usageFor(r))
		return true
	})
}

func testCookieOfAnotherUser(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.usedBy = map[string]int{"alice": 3, "bob": 100, "carol": 7}
	byCookie(g)
	var tabs []*browsertest.Tab
	for range 2 {
		tab := openPage(t, b, g)
		tab.Eval(`void (document.cookie = 'user=alice', window.seen = [], window.client = createUsageClient({ timing: `+fast+` }),
			client.subscribe(s => seen.push(s && s.user + s.used)))`, nil)
		tab.Want(state, "alice,3,false,live,")
		tabs = append(tabs, tab)
	}
	first, second := tabs[0], tabs[1]
	t.Cleanup(func() { second.Eval("void (document.cookie = 'user=; max-age=0')", nil) })
	// Another user signs in, and one tab is told.
	second.Eval("(document.cookie = 'user=carol', client.refresh().then(() => 0))", nil)
	for _, tab := range tabs {
		tab.Want(state, "carol,7,false,live,")
		tab.Want("[...new Set(seen)].join()", "alice3,,carol7")
	}
	second.Eval("client.close()", nil)

	// No tab is told, and the user looks at one.
	first.Eval("void (document.cookie = 'user=alice', document.dispatchEvent(new Event('visibilitychange')))", nil)
	first.Want(state, "alice,3,false,live,")
	// It comes back from the back/forward cache.
	first.Eval(`void (document.cookie = 'user=carol', dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })), dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })))`, nil)
	first.Want(state, "carol,7,false,live,")
	// A refusal names another user.
	first.Eval("void (document.cookie = 'user=bob', window.exceeded = [], client.addEventListener('usage-exceeded', e => exceeded.push(e.detail.user)))", nil)
	first.Want("client.fetch('/api/analyze').then(r => r.status)", "429")
	first.Want("exceeded.join() + client.current?.refused?.endpoint", "bobanalyze")
	first.Want(state, "bob,100,false,live,")

	// Nobody is signed in any more.
	const signOut = "document.cookie = 'user=; max-age=0'"
	first.Want("("+signOut+", client.refresh())", "null")
	first.Want(state, ",,,offline,unauthorized")
	first.Eval("(document.cookie = 'user=alice', client.refresh().then(() => 0))", nil)
	first.Want(state, "alice,3,false,live,")
	first.Want("("+signOut+", client.fetch('/api/analyze').then(r => r.status))", "401")
	first.Want(state, ",,,offline,unauthorized")
}

// getToken may never answer.
func testHangingGetToken(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	old, renewed := fakeToken(`{"sub":"alice","exp":1}`), fakeToken(`{"sub":"alice","exp":2}`)
	g.set(5)
	tab := openPage(t, b, g)
	tab.Eval(fmt.Sprintf(`void (window.token = new Promise((resolve) => { window.resolve = resolve; }), window.renewal = new Promise(() => {}), window.asked = 0,
		window.client = createUsageClient({ timing: { ...%s, firstEvent: 300 }, getToken: ({ refresh }) => (asked++, refresh ? renewal : token) }))`, fast), nil)
	tab.Want(state, ",,,offline,token")
	tab.Want("asked", "1")
	tab.Eval("resolve('"+old+"')", nil) // late is not never
	tab.Until("client.current?.used === 5 && client.problem === null")

	// A call gets its 401, and the next 401 leads to another attempt.
	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		refused := strings.HasPrefix(r.URL.Path, "/api/") && r.Header.Get("Authorization") != "Bearer "+renewed
		if refused {
			w.WriteHeader(401)
		}
		return refused
	})
	tab.Want("client.fetch('/api/a', { method: 'POST' }).then(r => r.status)", "401")
	tab.Eval("void (window.renewal = '"+renewed+"')", nil)
	tab.Want("client.fetch('/api/a', { method: 'POST' }).then(r => r.status)", "200")

	// A page that comes back does not claim to be up to date.
	tab.Until("client.problem === null")
	tab.Want(`(window.token = new Promise(() => {}), dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })),
		dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })), client.connection)`, "idle")
	tab.Want(state, "alice,5,true,offline,token")
}

// Before the gateway has named the user, the tokens tell whether a call may be sent again.
func testFirstCallIsNotRepeatedForAnother(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	old := fakeToken(`{"sub":"alice","exp":1}`)
	for _, test := range []struct{ name, next, want string }{
		{"renewed", fakeToken(`{"sub":"alice","exp":2}`), "200"},
		{"another user", fakeToken(`{"sub":"bob"}`), "401"},
		{"another issuer", fakeToken(`{"sub":"alice","iss":"j"}`), "401"},
		{"another organisation", fakeToken(`{"sub":"alice","org_id":"acme"}`), "401"},
		{"opaque", "opaque", "401"},
	} {
		tab := openPage(t, b, g)
		g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/usage") || r.Header.Get("Authorization") == "Bearer "+old {
				w.WriteHeader(401)
				return true
			}
			return false
		})
		before := len(g.requests())
		tab.Eval(fmt.Sprintf("void (window.client = createUsageClient({ timing: %s, getToken: ({ refresh }) => refresh ? '%s' : '%s' }))", fast, test.next, old), nil)
		if got := tab.String("client.fetch('/api/a', { method: 'POST', body: 'of alice' }).then(r => r.status)"); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if sent := slices.Contains(g.requests()[before:], "POST /api/a Bearer "+test.next); sent != (test.want == "200") {
			t.Errorf("%s: sent again: %t", test.name, sent)
		}
		tab.Eval("client.close()", nil)
	}
}
