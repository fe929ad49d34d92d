package browsers

import (
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// serveWorker serves the worker of a recipe, and a page whose script runs beside it.
func serveWorker(t *testing.T, p *gatewaytest.Process, heading, script string) (url string) {
	t.Helper()
	code := recipes(t, p.URL)[heading]
	if code == "" {
		t.Fatal("docs/frontend.md has no such recipe: ", heading)
	}
	module := func(code string) string {
		return strings.ReplaceAll(code, "'@metergate/client'", "'"+p.URL+"/usage/client.js'")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "worker.js"), module(code))
	write(t, filepath.Join(dir, "index.html"), `<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">
<script type="module">`+module(script)+`</script>`)
	return servePages(t, dir)
}

// The web worker of docs/frontend.md sends calls, and tells its page the numbers.
func TestWebWorkerRecipeWorks(t *testing.T) {
	p := docsGateway(t)
	pages := serveWorker(t, p, "Web workers and servers", `
const worker = new Worker('worker.js', { type: 'module' });
window.answers = [];
worker.onmessage = ({ data }) => {
	if (data.answer) answers.push(data.status + ' ' + data.answer);
	if (data.usage) window.usage = data.usage;
};
window.send = (text) => worker.postMessage({ token: new URLSearchParams(location.search).get('token'), text });`)
	tab := browsertest.Start(t).Open(t, pages+"/?token="+testkit.Token("worker", "free"), "")
	for _, want := range []string{"200 answered: 1", "200 answered,200 answered: 2"} {
		tab.Eval("send('Hello')", nil)
		tab.Want("answers.join() + ': ' + window.usage?.used", want)
	}
	// Calls from elsewhere show as well.
	use(t, p, "worker", 1)
	tab.Want("usage.used + ', ' + usage.connection", "3, polling")
	checkConsole(t, tab)
}

// The service worker of docs/frontend.md answers from its cache, but not for the gateway: calls, the stream and
// what is pending are as without it.
func TestServiceWorkerRecipeWorks(t *testing.T) {
	p := docsGateway(t)
	pages := serveWorker(t, p, "Service workers", `
import { createUsageClient } from '@metergate/client';
const cache = await caches.open('pages');
for (const url of ['/cached', '`+p.URL+`/usage']) await cache.put(url, Response.json({ used: 50 }));
await navigator.serviceWorker.register('worker.js');
await navigator.serviceWorker.ready;
window.registered = true;
if (navigator.serviceWorker.controller) {
	window.client = createUsageClient({ baseUrl: '`+p.URL+`', getToken: () => new URLSearchParams(location.search).get('token') });
	window.seen = [];
	client.subscribe((usage) => { if (usage) seen.push(usage.used + '+' + usage.pending); });
}`)
	tab := browsertest.Start(t).Open(t, pages+"/?token="+testkit.Token("service", "free"), "")
	tab.Until("window.registered")
	tab.Reload() // it controls pages from their next load on
	tab.Until("window.client?.connection === 'live'")
	tab.Want("fetch('/cached').then((response) => response.text())", `{"used":50}`)
	tab.Want("client.current.used", "0")
	tab.Eval(`client.fetch('`+p.URL+`/api/analyze', { method: 'POST', body: 'wait' }).then((response) => { window.status = response.status; })`, nil)
	tab.Until("seen.includes('0+1') && seen.includes('1+0')")
	tab.Want("window.status + ''", "200")
	use(t, p, "service", 1)
	tab.Want("client.current.used + ', ' + client.connection", "2, live")
	tab.Want("client.refresh().then((usage) => usage.used + '')", "2")
	checkConsole(t, tab)
}
