package browsers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
		if name, found := strings.CutPrefix(code, "// "); found && !strings.HasPrefix(name, "@") {
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
	testkit.WriteFile(t, file, browserYAML+"history: { keep: 35d }\n")
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

// The HTML of docs/frontend.md and of the README works.
func TestHTMLExampleWorks(t *testing.T) {
	p := docsGateway(t)
	byLanguage, _ := snippets(t, p.URL)
	b := browsertest.Start(t)
	readme := testkit.ReadFile(t, "README.md")
	blocks := byLanguage["html"][:1]
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
			said := "document.querySelector('#refused').innerText"
			tab.Want(said+".endsWith('Upgrade: https://example.com/pricing')", "true")
			tab.Eval("sessionStorage.setItem('token', 'bad')", nil)
			tab.Eval("void document.querySelector('usage-meter').client.refresh()", nil)
			tab.Want(said, "") // nobody is signed in any more
			tab.Eval("document.querySelector('button').click()", nil)
			tab.Want(said, "Sign in first.")
		}
	}
}

// The pages of the dialog and of the texts work, which stand behind that of the chart.
func TestHTMLOfDialogAndTextsWorks(t *testing.T) {
	p := docsGateway(t)
	byLanguage, _ := snippets(t, p.URL)
	b := browsertest.Start(t)
	open := func(block int, user string) *browsertest.Tab {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "index.html"), `<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">`+byLanguage["html"][block])
		return b.Open(t, servePages(t, dir), `
			sessionStorage.setItem('token', '`+testkit.Token(user, "free")+`');
			window.part = (element, name) => document.querySelector(element).shadowRoot?.querySelector('[part~=' + name + ']');`)
	}
	use(t, p, "dialog", 99)
	tab := open(2, "dialog")
	tab.Until("customElements.get('usage-upgrade') && document.querySelector('usage-upgrade').client?.current")
	tab.Eval("document.querySelector('button').click()", nil)
	tab.Want("document.querySelector('usage-upgrade').client.current.used", "100")
	tab.Want("document.querySelector('usage-upgrade').open", "false")
	tab.Eval("document.querySelector('button').click()", nil)
	tab.Want("part('usage-upgrade', 'prompt-text')?.innerText", "You have used all 100 requests for this month.")
	tab.Want("part('usage-upgrade', 'upgrade-button').href", "https://example.com/pricing")

	use(t, p, "texts", 42)
	tab = open(3, "texts")
	tab.Want("['label', 'count', 'remaining'].map((name) => part('usage-meter', name)?.innerText).join('; ').replace(/ +/g, ' ')",
		"Gebruik deze maand; 42 van 100 gebruikt; nog 58")
}

// The HTML of the chart in docs/frontend.md shows the days of a user.
func TestHTMLChartExampleWorks(t *testing.T) {
	p := docsGateway(t)
	byLanguage, _ := snippets(t, p.URL)
	i := slices.IndexFunc(byLanguage["html"], func(block string) bool { return strings.Contains(block, "<usage-chart") })
	if i < 0 {
		t.Fatal("no block of HTML has a chart")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "index.html"), `<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">`+byLanguage["html"][i])
	use(t, p, "chart", 3)
	tab := browsertest.Start(t).Open(t, servePages(t, dir), `
		sessionStorage.setItem('token', '`+testkit.Token("chart", "free")+`');
		window.chart = (selector) => document.querySelector('usage-chart').shadowRoot?.querySelector(selector)?.innerText;`)
	tab.Want("chart('[part=count]') + chart('[part=when]')", "3 requestsLast 30 days")
	tab.Want("chart('tbody tr:last-child').split(/\\s+/).slice(-2).join()", "3,3")
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
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
	bash := func(script string) *exec.Cmd {
		cmd := exec.Command("bash", "-ec", script)
		cmd.Env = append(os.Environ(), "TOKEN="+testkit.Token("curl", "free"))
		return cmd
	}
	out, err := bash(blocks[1]).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, want := range []string{"X-Usage: 1/100", `"used":1,"limit":100`, "Deprecation: @"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	stream := gatewaytest.StartCommand(t, bash("exec "+blocks[2])) // it goes on until it is stopped
	stream.WaitForText("event: usage\ndata: {")
}
