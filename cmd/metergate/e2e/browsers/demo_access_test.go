package browsers

import (
	"fmt"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
)

// A demoWalk is a page of the demo that is checked in one state after the other.
type demoWalk struct{ *browsertest.Tab }

// wantAccessible checks the page on a desktop and on a phone, where nothing may stick out at the side.
func (w demoWalk) wantAccessible(t *testing.T, state string) {
	t.Helper()
	for _, width := range []int64{1280, 375} {
		w.Resize(width, 800)
		w.WantAccessible(fmt.Sprintf("%s, %d px", state, width))
		var needs int64
		if w.Eval("document.documentElement.scrollWidth", &needs); needs > width {
			t.Errorf("%s: the page is %d px wide, on a screen of %d", state, needs, width)
		}
	}
}

// use makes n calls of alice, who has 100.
func (w demoWalk) use(n int) {
	w.Eval(fmt.Sprintf(`(async () => {
		const [{ token }] = await (await fetch('/demo/users.json')).json();
		for (let i = 0; i < %d; i++) await fetch('/api/analyze', { method: 'POST', body: 'A text.', headers: { Authorization: 'Bearer ' + token } });
	})()`, n), nil)
}

// The dashboard is accessible in each of its states, in both colour schemes, on a desktop and a phone.
func TestDemoPageIsAccessible(t *testing.T) {
	demo := gatewaytest.Start(t, nil, "demo", "-listen", "127.0.0.1:0")
	demo.WaitForText("Ctrl-C stops")
	tab := openDemo(t, browsertest.Start(t), urlLine.FindStringSubmatch(demo.Output())[1], "alice")
	w := demoWalk{tab}
	tab.Want("text('full', 'count')", "0 of 100 used")
	w.wantAccessible(t, "nothing used")

	tab.Eval("press('Analyze')", nil)
	tab.Want("text('full', 'count') + text('result-facts').slice(0, 3)", "1 of 100 used200")
	tab.Eval("document.querySelector('#requests details').open = document.querySelector('.raw').open = true", nil)
	tab.Eval("document.getElementById('full').shadowRoot.querySelector('details').open = true", nil)
	w.use(78)
	tab.Eval("press('Fail with')", nil)
	tab.Want("text('result-facts').slice(0, 3)", "500")
	tab.Eval("press('Analyze')", nil)
	tab.Want("text('full', 'count') + text('result-facts').slice(0, 3)", "80 of 100 used200")
	w.wantAccessible(t, "80 %")
	picture(t, tab, "warning")

	w.use(20)
	tab.Want("text('full', 'count') + document.querySelector('usage-upgrade').open", "100 of 100 usedfalse")
	w.wantAccessible(t, "100 %")

	tab.Eval("press('50 at once')", nil)
	tab.Want("text('full', 'prompt-title')", "Your last request was refused")
	tab.Until("document.querySelector('usage-upgrade').open && text('result').includes('50 refused.')")
	w.wantAccessible(t, "refused")
	tab.Eval("document.querySelector('usage-upgrade').shadowRoot.querySelector('[part=upgrade-button]').click()", nil)
	tab.Until("document.querySelector('dialog').open")
	w.wantAccessible(t, "upgrade")
	tab.Eval("document.querySelector('dialog').close()", nil)

	tab.Eval("document.querySelector('[value=bob]').click()", nil)
	tab.Want("text('full', 'count')", "0 of 5,000 credits used")
	w.wantAccessible(t, "credits")

	tab.Eval("Promise.all([import('/demo/session.js'), import('/demo/usage.js')]).then(([session, { usage }]) => (session.chooseUser('nobody'), usage.refresh()))", nil)
	tab.Want("text('full', 'notice') + text('days', 'notice')", "Sign in to see your usageSign in to see your usage")
	w.wantAccessible(t, "signed out")

	tab.Eval("document.querySelector('[value=alice]').click()", nil)
	tab.Want("text('full', 'count')", "100 of 100 used")
	demo.Signal(syscall.SIGTERM)
	<-demo.Done()
	tab.Want("text('connection')", "Offline")
	w.wantAccessible(t, "offline")
}
