package browsers

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// A browser opens one stream, however many tabs and elements there are, and all of them show each
// call. When the tab that streams is closed, another one does.
func (g *twoGateways) manyTabs(t *testing.T) {
	p, _ := g.gateway(t)
	tabs := []*browsertest.Tab{g.open(t, g.browser, p.URL, "tabs", "free")}
	url := tabs[0].String("location.href")
	for n := range 20 {
		if n > 0 {
			tabs = append(tabs, tabs[n-1].OpenInFront(url, pageScript))
		}
		tabs[n].Want("window.full?.client?.connection + window.small?.client?.connection", "livelive")
	}
	wantStreams(t, p, "1")
	tabs[7].Want("call().then(r => r.status)", "200")
	for _, tab := range tabs {
		tab.Want("text('count') + full.client.connection", "1 of 100 usedlive")
	}
	tabs[0].Close()
	use(t, g.two, "tabs", 1)
	for _, tab := range tabs[1:] {
		tab.Want("text('count') + full.client.connection", "2 of 100 usedlive")
	}
	wantStreams(t, p, "1")
	for _, tab := range tabs[1:] {
		tab.Close()
	}
	wantStreams(t, p, "0")
}

// Browsers freeze tabs to save energy, also the one that streams for the others. Those show new
// calls all the same. The frozen tab does so as soon as it goes on.
func (g *twoGateways) frozenTab(t *testing.T) {
	p, _ := g.gateway(t)
	var tabs []*browsertest.Tab
	for range 3 {
		tab := g.open(t, g.browser, p.URL, "frozen", "free")
		tab.Want("full.client.connection", "live")
		tabs = append(tabs, tab)
	}
	tabs[0].Freeze() // it was the first, so it streams
	use(t, g.two, "frozen", 1)
	for _, tab := range tabs[1:] {
		tab.Want("text('count') + full.client.connection", "1 of 100 usedlive")
	}
	tabs[0].Thaw()
	use(t, g.two, "frozen", 1)
	for _, tab := range tabs {
		tab.Want("text('count') + full.client.connection", "2 of 100 usedlive")
	}
	wantStreams(t, p, "1")
}

// After a reload in an outage, the page shows the last numbers and that they may be old. Its scripts do
// not come from the gateway that is away.
func (g *twoGateways) reloadInOutage(t *testing.T) {
	p, file := g.gateway(t)
	use(t, p, "reloads", 9)
	tab := g.openPage(t, g.browser, url.Values{"gateway": {p.URL}, "scripts": {g.two.URL}, "token": {testkit.Token("reloads", "free")}})
	tab.Want("text('count') + full.client.connection", "9 of 100 usedlive")
	p.Signal(syscall.SIGTERM)
	<-p.Done()
	tab.Reload()
	tab.Until("window.full?.client?.current")
	tab.Want("text('notice').startsWith('Not up to date') + text('count') + part('card').className", "true9 of 100 usedcard ok stale")
	use(t, g.two, "reloads", 1)
	gatewaytest.Start(t, append([]string{"LISTEN=" + strings.TrimPrefix(p.URL, "http://")}, g.env...), "serve", "-config", file).WaitUntilServing()
	tab.Want("text('notice') + text('count') + full.client.connection", "10 of 100 usedlive")
}

// soon is how long other devices may take to show a call.
const soon = 10 * time.Second

// Another device shows each call within ten seconds, on another gateway, where it streams as well as
// where it polls. A call that is late because this machine is busy is followed by another one.
func (g *twoGateways) devicesAgreeSoon(t *testing.T) {
	phone := browsertest.Start(t)
	tabs := map[string]*browsertest.Tab{
		"live":    g.open(t, phone, g.two.URL, "devices", "free"),
		"polling": g.open(t, phone, g.withoutStreams(t), "devices", "free"),
	}
	for connection, tab := range tabs {
		tab.Want("full.client.connection", connection)
		tab.Eval(`void (window.shown = {}, new MutationObserver(() => shown[parseInt(text('used'))] ??= Date.now())
			.observe(part('used'), { childList: true, characterData: true, subtree: true }))`, nil)
	}
	caller := g.open(t, g.browser, g.one.URL, "devices", "free")
	for connection, tab := range tabs {
		best := time.Hour
		used := 0
		for range 3 {
			caller.Eval("call().then(r => +r.headers.get('X-Usage').split('/')[0])", &used)
			called := time.Now()
			tab.Until(fmt.Sprintf("shown[%d]", used))
			var at int64
			tab.Eval(fmt.Sprintf("shown[%d]", used), &at)
			if best = min(best, time.UnixMilli(at).Sub(called)); best <= soon {
				break
			}
		}
		if best > soon {
			t.Errorf("%s: the other device showed a call after %v, want at most %v", connection, best, soon)
		}
	}
}
