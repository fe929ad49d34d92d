package browsers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

var codeBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// snippets returns the code blocks of docs/frontend.md, for a gateway at url: by language
// in their order, and by file, if the block begins with the name of one.
func snippets(t *testing.T, url string) (byLanguage map[string][]string, byFile map[string]string) {
	t.Helper()
	text := testkit.ReadFile(t, "docs/frontend.md")
	byLanguage, byFile = map[string][]string{}, map[string]string{}
	for _, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
		code := strings.ReplaceAll(block[2], "https://gateway.example.com", url)
		byLanguage[block[1]] = append(byLanguage[block[1]], code)
		if name, found := strings.CutPrefix(code, "// "); found {
			name, _, _ = strings.Cut(name, "\n")
			byFile[name] = code
		}
	}
	return byLanguage, byFile
}

// docsGateway runs a gateway for the examples of docs/frontend.md. A call with the body
// "fail" fails, and one with "wait" takes two seconds.
func docsGateway(t *testing.T) *gatewaytest.Process {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 4)
		n, _ := r.Body.Read(body)
		switch string(body[:n]) {
		case "fail":
			w.WriteHeader(500)
		case "wait":
			time.Sleep(2 * time.Second)
		}
		fmt.Fprint(w, "answered")
	}))
	t.Cleanup(upstream.Close)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, browserYAML)
	return gatewaytest.StartFile(t, []string{"STORE=embedded:" + t.TempDir(), "UPSTREAM=" + upstream.URL}, file).Process
}

// servePages serves a folder on an origin of its own.
func servePages(t *testing.T, dir string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s.URL
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, file, text)
}

// buildReactApp builds the components of docs/frontend.md, as they are written there, into
// an app, and returns its folder.
func buildReactApp(t *testing.T, gateway string) (dir string) {
	t.Helper()
	modules := browsertest.NodeModules(t)
	dir = t.TempDir()
	byLanguage, byFile := snippets(t, gateway)
	for name, code := range byFile {
		write(t, filepath.Join(dir, name), code)
	}
	if len(byFile) != 6 || len(byFile) != len(byLanguage["jsx"]) {
		t.Fatalf("%d files, %d blocks of jsx", len(byFile), len(byLanguage["jsx"]))
	}
	// Get the files of the gateway as the page describes.
	take := exec.Command("bash", "-ec", byLanguage["sh"][0])
	take.Dir = dir
	if out, err := take.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write(t, filepath.Join(dir, "src", "session.js"), fmt.Sprintf(`
export const gateway = %q;
export const getToken = () => new URLSearchParams(location.search).get('token');`, gateway))
	write(t, filepath.Join(dir, "main.jsx"), `
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './src/App.jsx';
import { Chat } from './before/Chat.jsx';
window.root = createRoot(document.getElementById('root'));
root.render(<StrictMode>{location.hash === '#before' ? <Chat /> : <App />}</StrictMode>);`)
	bundle := exec.Command(filepath.Join(modules, ".bin", "esbuild"), "main.jsx",
		"--bundle", "--jsx=automatic", "--format=esm", "--outfile=main.js", "--log-level=warning")
	bundle.Dir, bundle.Env = dir, append(os.Environ(), "NODE_PATH="+modules)
	if out, err := bundle.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("esbuild: %v\n%s", err, out)
	}
	write(t, filepath.Join(dir, "index.html"), `<!doctype html><html lang="en"><title>An app</title>
<link rel="icon" href="data:,"><div id="root"></div><script type="module" src="main.js"></script>`)
	return dir
}

// The components of docs/frontend.md work in React's strict mode.
func TestReactExamplesWork(t *testing.T) {
	p := docsGateway(t)
	pages := servePages(t, buildReactApp(t, p.URL))
	b := browsertest.Start(t)
	open := func(user, hash string) *browsertest.Tab {
		return b.Open(t, pages+"/?token="+testkit.Token(user, "free")+hash, `
			window.title = () => document.querySelector('h2')?.innerText;
			window.say = (text) => { document.querySelector('input').value = text; document.querySelector('button').click(); };
			window.small = () => document.querySelector('usage-meter')?.shadowRoot.querySelector('[part=count]').innerText;`)
	}
	t.Run("hook", func(t *testing.T) { testReactHook(t, p, open("react", "")) })
	t.Run("before", func(t *testing.T) {
		tab := open("before", "#before")
		tab.Want("document.querySelector('button').innerText", "Send (0)")
		tab.Eval("document.querySelector('button').click()", nil)
		tab.Want("document.querySelector('button').innerText", "Send (1)")
		if status, body := gatewaytest.Get(p.URL+"/usage", testkit.Token("before", "free")); status != 200 || !strings.Contains(body, `"used":1,`) {
			t.Errorf("GET /usage: %d %s", status, body)
		}
	})
}

// testReactHook uses the component with the hook of docs/frontend.md.
func testReactHook(t *testing.T, p *gatewaytest.Process, tab *browsertest.Tab) {
	tab.Want("title() + ', ' + small()", "0 of 100, 0/100")
	tab.Want("document.querySelector('li').innerText", "analyze: 0")
	testkit.EventuallyWithin(t, time.Minute, "one stream", func() bool { return streamsOf(t, p) == "1" })
	tab.Eval("say('Hello')", nil)
	tab.Want("title() + ', ' + small() + ', ' + document.querySelector('output').innerText", "1 of 100, 1/100, answered")
	tab.Want("document.querySelector('li').innerText", "analyze: 1")
	tab.Eval("say('fail')", nil)
	tab.Want("document.querySelector('output').innerText", "That failed, and was not counted.")
	tab.Eval("say('wait')", nil)
	tab.Want("title() + ', ' + small()", "1 of 100, 1 running, 1/100, 1 running")
	tab.Want("title() + ', ' + small()", "2 of 100, 2/100")
	// Calls that others make show here, and at the limit the button is disabled.
	use(t, p, "react", 98)
	tab.Want("title() + ', ' + small() + document.querySelector('button').disabled", "100 of 100, 100/100true")
	if n := streamsOf(t, p); n != "1" {
		t.Errorf("%s streams are open, want 1", n)
	}
	tab.Eval("root.unmount()", nil)
	testkit.EventuallyWithin(t, time.Minute, "no stream", func() bool { return streamsOf(t, p) == "0" })
	for _, line := range tab.Console() {
		if !strings.Contains(line, "a status of 500") && !strings.Contains(line, "React DevTools") {
			t.Errorf("the console has %s", line)
		}
	}
}

// The HTML of docs/frontend.md and of the README works.
func TestHTMLExampleWorks(t *testing.T) {
	p := docsGateway(t)
	byLanguage, _ := snippets(t, p.URL)
	b := browsertest.Start(t)
	readme := testkit.ReadFile(t, "README.md")
	blocks := byLanguage["html"]
	for _, block := range codeBlock.FindAllStringSubmatch(string(readme), -1) {
		if block[1] == "html" {
			blocks = append(blocks, strings.ReplaceAll(block[2], "https://gateway.example.com", p.URL))
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of HTML, want one here and one in the README", len(blocks))
	}
	for i, block := range blocks {
		user := fmt.Sprint("html ", i)
		dir := t.TempDir()
		write(t, filepath.Join(dir, "index.html"), `<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">`+block)
		use(t, p, user, 98)
		tab := b.Open(t, servePages(t, dir), `
			sessionStorage.setItem('token', '`+testkit.Token(user, "free")+`');
			window.count = () => document.querySelector('usage-meter').shadowRoot?.querySelector('[part=count]').innerText;`)
		tab.Want("count()", "98 of 100 used")
		for _, want := range []string{"99", "100"} {
			tab.Eval("document.querySelector('button').click()", nil)
			tab.Want("count()", want+" of 100 used")
		}
		tab.Eval("document.querySelector('button').click()", nil)
		tab.Want("document.querySelector('usage-meter').shadowRoot.querySelector('[part=prompt-title]').innerText", "Your last request was refused")
		if i == 0 {
			tab.Want("document.querySelector('#refused').innerText.endsWith('Upgrade: https://example.com/pricing')", "true")
		}
	}
}

// The curl commands of docs/frontend.md print what the page says.
func TestCurlExamplesWork(t *testing.T) {
	p := docsGateway(t)
	byLanguage, _ := snippets(t, p.URL)
	blocks := byLanguage["sh"]
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of sh", len(blocks))
	}
	for script, wants := range map[string][]string{
		blocks[1]: {"X-Usage: 1/100", `"used":1,"limit":100`, "Deprecation: @"},
		strings.TrimSpace(blocks[2]) + " -m 1 || test $? = 28": {"event: usage\ndata: {"}, // 28: time is up
	} {
		cmd := exec.Command("bash", "-c", script)
		cmd.Env = append(os.Environ(), "TOKEN="+testkit.Token("curl", "free"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for _, want := range wants {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
	}
}
