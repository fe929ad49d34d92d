package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"metergate/proxy/browser"
	"metergate/proxy/browser/browsertest"
)

// Bundlers look for new URL(..., import.meta.url), and take the first argument for a file.
func TestBundlersFindNoFileInClient(t *testing.T) {
	text, err := os.ReadFile("client.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, expression := range []string{`new\s+URL\([^)]*import\.meta`, `\bimport\(`, `new\s+(Shared)?Worker\(`} {
		if found := regexp.MustCompile(expression).Find(text); found != nil {
			t.Errorf("client.js has %s", found)
		}
	}
}

func testBaseURL(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := b.Open(t, g.URL+"/app/page?x=1#y", "")
	tab.Until("window.ready")
	for _, test := range []struct{ baseURL, want string }{
		{"undefined", g.URL + "/"}, // client.js was loaded from there
		{"''", g.URL + "/"},
		{"'/'", g.URL + "/"},
		{"'/gateway'", g.URL + "/gateway/"},
		{"'/gateway/?a#b'", g.URL + "/gateway/"},
		{"'./gateway'", g.URL + "/app/gateway/"},
		{"'..'", g.URL + "/"},
		{"'//api.example.com/x'", "http://api.example.com/x/"},
		{"'https://api.example.com'", "https://api.example.com/"},
		{"'https://api.example.com/y'", "https://api.example.com/y/"},
		{"'HTTPS://API.example.com:443/y/'", "https://api.example.com/y/"},
		{"new URL('https://api.example.com/y')", "https://api.example.com/y/"},
		{"location", g.URL + "/app/page/"},
	} {
		tab.Want(fmt.Sprintf("(() => { const c = createUsageClient({ baseUrl: %s, getToken: () => '' }); c.close(); return c.baseUrl; })()", test.baseURL), test.want)
	}
	for _, nonsense := range []string{"api.example.com", "gateway", "localhost:8080", "https://", "ftp://api.example.com", "javascript:1", "data:,x", "undefined", "null", "[object Object]"} {
		tab.Want(fmt.Sprintf("(() => { try { return createUsageClient({ baseUrl: %q }).baseUrl; } catch (e) { return e.constructor === Error && e.message; } })()", nonsense),
			fmt.Sprintf("baseUrl must be a URL or a path like /gateway, not \"%s\"", nonsense))
	}
}

// Where client.js comes from tells the gateway's address if the gateway has served it. In a bundle,
// and as a file of the pages, it does not.
func testDefaultBase(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	files := http.NewServeMux()
	for _, name := range []string{"/gw/usage/client.js", "/assets/client.js", "/usage/client.js/bundle.js"} {
		files.HandleFunc(name, func(w http.ResponseWriter, r *http.Request) { browser.Serve(w, r, "client.js") })
	}
	elsewhere := httptest.NewServer(files)
	t.Cleanup(elsewhere.Close)
	tab := openPage(t, b, g)
	for file, want := range map[string]string{
		"/gw/usage/client.js":        elsewhere.URL + "/gw/",
		"/gw/usage/client.js?v=1":    elsewhere.URL + "/gw/",
		"/assets/client.js":          g.URL + "/",
		"/usage/client.js/bundle.js": g.URL + "/",
	} {
		tab.Want(fmt.Sprintf("import('%s').then((m) => { const c = m.createUsageClient({ getToken: () => '' }); c.close(); return c.baseUrl; })", elsewhere.URL+file), want)
	}
}

// On a server there is neither a page nor a gateway to follow. The client is only there for the
// components to be rendered.
func TestClientDoesNothingOnServer(t *testing.T) {
	node := program(t, "node")
	script := `
		import { createUsageClient } from './client.js';
		const asked = [];
		for (const baseUrl of [undefined, '', '/', '/gateway', 'https://api.example.com']) {
			const client = createUsageClient({ baseUrl, getToken: () => asked.push('token'), fetch: async () => { asked.push('fetch'); } });
			client.subscribe(() => asked.push('state'));
			client.dispatchEvent(new Event('usage'));
			console.log(client.baseUrl, client.current, client.connection, client.canSend('analyze'));
		}
		await new Promise(setImmediate);
		console.log(asked.join());`
	cmd := exec.Command(node, "--input-type=module", "-e", script)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const nowhere = "http://server.invalid/ null idle true\n"
	want := strings.Repeat(nowhere, 3) + "http://server.invalid/gateway/ null idle true\nhttps://api.example.com/ null idle true\n\n"
	if string(out) != want {
		t.Errorf("node prints\n%s\nwant\n%s", out, want)
	}
}

// program returns the path of an installed program. Without it the test is skipped, or fails if
// browsertest.RequireEnv is set.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv(browsertest.RequireEnv) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
