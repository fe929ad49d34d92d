package browsers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// cookiePages serves an application whose token is in a cookie, at an origin of its own. Its login
// is /?token=.
func cookiePages(t *testing.T, gateway *string) *httptest.Server {
	t.Helper()
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token := r.URL.Query().Get("token"); token != "" {
			// Of the host, whatever its port is, so the gateway gets it as well.
			http.SetCookie(w, &http.Cookie{Name: "session", Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>An application</title><script type="module">
import { createUsageClient } from '%[1]s/usage/client.js';
const client = window.client = createUsageClient({ credentials: 'include' });
client.subscribe(() => {});
window.call = (init) => client.fetch(client.baseUrl + 'api/analyze', { method: 'POST', body: 'x', ...init }).then((r) => r.status, () => 'failed');
window.callWithRequest = () => client.fetch(new Request(client.baseUrl + 'api/analyze', { method: 'POST', body: 'x' })).then((r) => r.status, () => 'failed');
// As a page of another site can: it sees nothing of the answer.
window.forge = () => fetch('%[1]s/api/analyze', { method: 'POST', body: 'x', mode: 'no-cors', credentials: 'include' }).then((r) => r.type, () => 'failed');
window.submit = () => { const f = document.createElement('form'); f.method = 'POST'; f.action = '%[1]s/api/analyze'; document.body.append(f); f.submit(); };
window.listen = (query, credentials) => new Promise((done) => {
  const source = new EventSource('%[1]s/usage/stream' + query, { withCredentials: credentials });
  source.addEventListener('usage', (e) => { source.close(); done(JSON.parse(e.data).user); });
  source.addEventListener('error', () => { source.close(); done('refused'); });
});
</script>`, *gateway)
	}))
	t.Cleanup(pages.Close)
	return pages
}

// A page signs in with a cookie: client.js needs no token, reads and calls with it, and follows who
// is signed in. Pages of other origins cannot use the cookie, though the browser sends it.
func TestCookieSignsIn(t *testing.T) {
	gateway := ""
	app, other := cookiePages(t, &gateway), cookiePages(t, &gateway)
	text := strings.NewReplacer(
		"algorithms: [HS256] }", `algorithms: [HS256] }, cookie: { name: session, origins: ["`+app.URL+`"] }, query_param: access_token`,
		`cors: { allowed_origins: ["*"] }`, `cors: { allowed_origins: ["`+app.URL+`", "`+other.URL+`"], allow_credentials: true }`,
	).Replace(browserYAML)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, text)
	upstream := gatewaytest.StartUpstream(t, "done")
	g := gatewaytest.StartFile(t, []string{"STORE=embedded:" + t.TempDir(), "UPSTREAM=" + upstream.URL}, file)
	gateway = g.URL
	b := browsertest.Start(t)
	alice, bob := testkit.Token("alice", "free"), testkit.Token("bob", "free")

	tab := b.Open(t, app.URL+"/?token="+alice, "")
	tab.Want("window.client?.current && [client.connection, client.current.user, client.current.used].join(' ')", "live alice 0")
	tab.Want("call()", "200")
	tab.Want("client.current.used", "1")
	tab.Want("callWithRequest()", "200")
	tab.Want("client.current.used", "2")
	tab.Want("call({ credentials: 'omit' })", "401")
	tab.Want("listen('', true)", "alice")
	tab.Want("listen('', false)", "refused")
	tab.Want("listen('?access_token="+bob+"', false)", "bob")

	// Somebody else signs in, in another tab.
	b.Open(t, app.URL+"/?token="+bob, "").Want("window.client?.current && client.current.user", "bob")
	tab.Eval("void client.refresh()", nil)
	tab.Want("[client.current?.user, client.current?.used].join(' ')", "bob 0")

	// The browser sends the cookie with these as well: only the origin tells them apart. Reading is
	// a matter of CORS, which allows that origin here.
	evil := b.Open(t, other.URL, "")
	evil.Until("window.listen")
	evil.Want("call()", "403")
	evil.Want("forge()", "opaque")
	evil.Want("listen('', true)", "refused")
	evil.Want("client.current?.user", "bob")
	evil.Eval("submit()", nil)
	evil.Until("document.body?.innerText.includes('auth.cookie.origins')")
	if u := gatewaytest.Usage(t, g.Process, bob); u.Used != 0 || u.InFlight != 0 {
		t.Errorf("bob has used %d and holds %d after forged requests", u.Used, u.InFlight)
	}
	if u := gatewaytest.Usage(t, g.Process, alice); u.Used != 2 {
		t.Errorf("alice has used %d, want 2", u.Used)
	}
	if strings.Contains(g.Output(), alice[20:]) || strings.Contains(g.Output(), bob[20:]) {
		t.Error("the log has a token")
	}
}
