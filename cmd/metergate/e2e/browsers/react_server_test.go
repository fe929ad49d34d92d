package browsers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// bundle bundles a file of the app into out, with React in development: it then tells what it
// thinks of the app.
func (a reactApp) bundle(t *testing.T, react, in, out string, platform api.Platform) {
	t.Helper()
	alias := map[string]string{}
	if react != "19" {
		alias["react"], alias["react-dom"] = "react"+react, "react-dom"+react
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir: a.dir,
		EntryPoints:   []string{in},
		Outfile:       out,
		Bundle:        true,
		Write:         true,
		Platform:      platform,
		Alias:         alias,
		JSX:           api.JSXAutomatic,
		JSXDev:        true,
		Define:        map[string]string{"process.env.NODE_ENV": `"development"`},
	})
	for _, m := range append(result.Errors, result.Warnings...) {
		t.Fatalf("%s: %s", in, m.Text)
	}
}

const pageOfApp = `<!doctype html><html lang="en"><title>An app</title><link rel="icon" href="data:,"><div id="root">`

// testAppFromServer renders the app as servers do. The browser takes it over without a word in the
// console of either.
func testAppFromServer(t *testing.T, p *gatewaytest.Process, b *browsertest.Browser, app reactApp, react string) {
	dir := "from-server-" + react
	app.bundle(t, react, "server/render.tsx", dir+"/render.cjs", api.PlatformNode)
	app.bundle(t, react, "server/hydrate.tsx", dir+"/hydrate.js", api.PlatformBrowser)
	render := exec.Command("node", dir+"/render.cjs")
	render.Dir = app.dir
	var complaints strings.Builder
	render.Stderr = &complaints
	html, err := render.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("rendering: %v\n%s", err, complaints.String())
	}
	if !strings.Contains(string(html), "<p>Loading</p>") {
		t.Errorf("a server renders %s", html)
	}
	write(t, filepath.Join(app.dir, dir, "index.html"), pageOfApp+strings.TrimSpace(string(html))+`</div><script src="hydrate.js"></script>`)
	tab := b.Open(t, servePages(t, filepath.Join(app.dir, dir))+"/?token="+testkit.Token(dir, "free"), appScript)
	tab.Want("title() + ', ' + small()", "0 of 100, 0/100")
	checkConsole(t, tab)
}

// testProvider renders a provider again and again, each time with another getToken.
func testProvider(t *testing.T, p *gatewaytest.Process, b *browsertest.Browser, app reactApp, react string) {
	dir := "provider-" + react
	app.bundle(t, react, "server/provider.tsx", dir+"/provider.js", api.PlatformBrowser)
	write(t, filepath.Join(app.dir, dir, "index.html"), pageOfApp+`</div><script src="provider.js"></script>`)
	wantStreams(t, p, "0") // those of the tests before have ended
	tab := b.Open(t, servePages(t, filepath.Join(app.dir, dir))+"/?token="+testkit.Token("first "+react, "free"), "")
	shown := "document.querySelector('p').innerText"
	tab.Want(shown, "first "+react+" 0 fine live")
	answers := tab.String("answers()")
	use(t, p, "first "+react, 1)
	tab.Want(shown, "first "+react+" 1 fine live")
	// A compiler that keeps what canSend has answered asks again.
	tab.Want("answers() > "+answers, "true")
	count := "document.querySelector('usage-meter').shadowRoot.querySelector('[part=used]').textContent"
	tab.Want(count, "Some")
	for times := range 5 { // one at a time: React would render several at once
		tab.Eval("render()", nil)
		tab.Want("times", fmt.Sprint(times+1))
	}
	tab.Want("(({ className, dataset, label, compact }) => [className, dataset.times, label, compact, !!document.querySelector('usage-meter').getAttribute('upgrade-url')].join())(document.querySelector('usage-meter'))",
		"small,5,Calls,true,false")
	tab.Want(count, "1/100")
	// Strict mode makes two clients, and closes one of them at once. No render made another.
	tab.Want("clients() <= 2", "true")

	tab.Eval("signIn('"+testkit.Token("second "+react, "free")+"')", nil)
	tab.Want(shown, "second "+react+" 0 fine live")
	tab.Eval("signIn(null)", nil)
	tab.Want(shown, "nobody - unauthorized offline")
	tab.Want("document.querySelector('b').innerText.includes('<UsageProvider>')", "true")
	tab.Want("clients() <= 2", "true")
	checkConsole(t, tab, "a status of 401", "UsageProvider", "The above error occurred")
	tab.Close()
	wantStreams(t, p, "0")
}
