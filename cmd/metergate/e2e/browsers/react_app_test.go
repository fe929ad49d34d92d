package browsers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// A reactApp is the app of docs/frontend.md in a folder, with what templates bring, and with the
// package installed as the page says.
type reactApp struct{ dir string }

// newReactApp makes the app in the folder of the npm packages, where bundlers find them.
func newReactApp(t *testing.T, gateway string) reactApp {
	t.Helper()
	packages := filepath.Dir(browsertest.Bundlers(t))
	dir, err := os.MkdirTemp(packages, "app-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.CopyFS(dir, os.DirFS("testdata/app")); err != nil {
		t.Fatal(err)
	}
	byLanguage, byFile := snippets(t, gateway)
	for name, code := range byFile {
		write(t, filepath.Join(dir, name), code)
	}
	if blocks := len(byLanguage["tsx"]); len(byFile) != blocks || blocks < 8 {
		t.Fatalf("%d files, %d blocks of TSX", len(byFile), blocks)
	}
	write(t, filepath.Join(dir, "src", "session.ts"), fmt.Sprintf(`
export const gateway = %q;
export const getToken = () => new URLSearchParams(location.search).get('token');`, gateway))
	// What used the old hook has the right types with the new one.
	write(t, filepath.Join(dir, "before", "ChatMoved.tsx"), strings.Replace(byFile["before/Chat.tsx"], "./useApiUsage", "../src/useApiUsage", 1))
	app := reactApp{dir}
	app.run(t, "bash", "-ec", byLanguage["sh"][0])
	return app
}

// run runs a command in the folder of the app, one of the npm packages or another. It must succeed.
func (a reactApp) run(t *testing.T, name string, args ...string) {
	t.Helper()
	if program := filepath.Join(a.dir, "../node_modules/.bin", name); fileExists(program) {
		name = program
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = a.dir
	cmd.Env = offline()
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	t.Logf("%s %q took %v\n%s", name, args, time.Since(start).Round(time.Second/10), out)
}

// offline is the environment of npm packages: they fetch nothing from a registry, and send nothing to anybody.
func offline() []string {
	return append(os.Environ(), "CI=1", "NO_COLOR=1", "NEXT_TELEMETRY_DISABLED=1",
		"npm_config_offline=true", "npm_config_audit=false", "npm_config_fund=false", "npm_config_update_notifier=false",
		"HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1")
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// builds are the ways to build the app, by the folder that they write to.
var builds = []struct {
	dist    string
	command []string
	long    bool // it takes too long for make test
}{
	{"dist-vite", []string{"vite", "build", "--outDir", "dist-vite"}, false},
	{"dist-vite-react18", []string{"vite", "build", "--mode", "react18", "--outDir", "dist-vite-react18"}, false},
	{"dist-rspack", []string{"node", "rspack.mjs", "dist-rspack"}, false},
	{"dist-webpack", []string{"node", "webpack.mjs", "dist-webpack"}, false},
	{"dist-parcel", []string{"parcel", "build", "index.html", "--no-cache", "--no-source-maps", "--dist-dir", "dist-parcel"}, false},
	{"dist-next-turbopack", []string{"next", "build", "--turbopack"}, false},
	{"dist-next-webpack", []string{"next", "build", "--webpack"}, true},
}

// The app of docs/frontend.md has no errors of types, with everything strict, in React 18 and 19, and
// pleases the linters of the templates. Bundlers build it, and then it works.
func TestReactApp(t *testing.T) {
	p := docsGateway(t)
	app := newReactApp(t, p.URL)
	for name, command := range map[string][]string{
		"types of React 19": {"node", "../node_modules/typescript7/bin/tsc", "-p", "tsconfig.json"},
		"types of React 18": {"node", "../node_modules/typescript7/bin/tsc", "-p", "tsconfig.react18.json"},
		"lint as in Vite":   {"eslint", "--max-warnings=0", "src", "app/page.tsx"},
		"lint as in Next":   {"eslint", "--max-warnings=0", "-c", "eslint.next.mjs", "src", "app"},
	} {
		t.Run(name, func(t *testing.T) { app.run(t, command[0], command[1:]...) })
	}
	b := browsertest.Start(t)
	for _, build := range builds {
		if build.long && gatewaytest.Times(0, 1) == 0 {
			continue
		}
		t.Run(build.dist, func(t *testing.T) {
			app.run(t, build.command[0], build.command[1:]...)
			dist := filepath.Join(app.dir, build.dist)
			if strings.HasSuffix(build.command[1], ".mjs") { // which makes only the script
				write(t, filepath.Join(dist, "index.html"), `<!doctype html><html lang="en"><title>An app</title>
<link rel="icon" href="data:,"><div id="root"></div><script type="module" src="main.js"></script>`)
			}
			testBuiltApp(t, p, b, servePages(t, dist), build.dist)
		})
	}
	t.Run("tests with Vitest", func(t *testing.T) {
		write(t, filepath.Join(app.dir, "src", "Chat.test.jsx"), recipes(t, p.URL)["Tests with Vitest"])
		app.run(t, "vitest", "run", "--testTimeout=60000")
	})
	t.Run("hook alone", func(t *testing.T) { testHookAlone(t, app) })
	for _, react := range []string{"18", "19"} {
		t.Run("rendered on a server by React "+react, func(t *testing.T) { testAppFromServer(t, p, b, app, react) })
		t.Run("provider in React "+react, func(t *testing.T) { testProvider(t, p, b, app, react) })
	}
	t.Run("in use", func(t *testing.T) { testAppInUse(t, p, b, servePages(t, filepath.Join(app.dir, "dist-vite"))) })
	t.Run("before", func(t *testing.T) { testAppBefore(t, p, b, servePages(t, filepath.Join(app.dir, "dist-vite"))) })
	t.Run("without the gateway", func(t *testing.T) { testAppWithoutGateway(t, p, b, servePages(t, filepath.Join(app.dir, "dist-vite"))) })
}

// appScript has what the tests ask of a page with the app.
const appScript = `
	window.title = () => document.querySelector('h2')?.innerText;
	window.say = (text) => {
		const input = document.querySelector('input');
		Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, text);
		input.dispatchEvent(new Event('input', { bubbles: true }));
		document.querySelector('button').click();
	};
	window.said = () => document.querySelector('output').innerText;
	window.dialog = () => document.querySelector('usage-upgrade').shadowRoot.querySelector('dialog');
	window.small = () => document.querySelector('usage-meter')?.shadowRoot.querySelector('[part=count]').innerText;`

// testBuiltApp looks at what every build must do: count, and stop at the limit.
func testBuiltApp(t *testing.T, p *gatewaytest.Process, b *browsertest.Browser, pages, user string) {
	use(t, p, user, 98)
	tab := b.Open(t, pages+"/?token="+testkit.Token(user, "free"), appScript)
	tab.Want("title() + ', ' + small()", "98 of 100, 98/100")
	for _, want := range []string{"99", "100"} {
		tab.Eval("say('Hello')", nil)
		tab.Want("title() + ', ' + small() + ', ' + said()", want+" of 100, "+want+"/100, answered")
	}
	// The button can be pressed, so that the dialog can say why nothing happens.
	tab.Want("(({ disabled, ariaDisabled }) => disabled + ',' + ariaDisabled)(document.querySelector('button'))", "false,true")
	tab.Want("dialog().open", "false")
	tab.Eval("say('One more')", nil)
	tab.Want("dialog().open + ', ' + dialog().querySelector('[part=prompt-title]').innerText", "true, Limit reached")
	tab.Want("title()", "100 of 100")
	checkConsole(t, tab)
	if user == "dist-vite" { // all builds show the same
		tab.WantAccessible("the app at the limit", "#root")
	}
}

// testHookAlone builds an app that uses the hook and no element: it loads none.
func testHookAlone(t *testing.T, app reactApp) {
	for out, command := range map[string][]string{
		"hook-webpack/main.js": {"node", "webpack.mjs", "hook-webpack", "./server/hook.tsx"},
		"hook-rspack/main.js":  {"node", "rspack.mjs", "hook-rspack", "./server/hook.tsx"},
		"hook-vite/hook.js":    {"rolldown", "server/hook.tsx", "--dir", "hook-vite", "--platform", "browser"}, // as in Vite
	} {
		app.run(t, command[0], command[1:]...)
		text, err := os.ReadFile(filepath.Join(app.dir, out))
		if err != nil {
			t.Fatal(err)
		}
		code := string(text)
		if !strings.Contains(code, "usage/stream") {
			t.Errorf("%s has no client", out)
		}
		if strings.Contains(code, "usage-meter") || strings.Contains(code, "customElements.define(") {
			t.Errorf("%s has an element that the app does not use", out)
		}
	}
}

// checkConsole fails the test if the console of a page has more than it should.
func checkConsole(t *testing.T, tab *browsertest.Tab, expected ...string) {
	t.Helper()
lines:
	for _, line := range tab.Console() {
		for _, text := range append(expected, "React DevTools") {
			if strings.Contains(line, text) {
				continue lines
			}
		}
		t.Errorf("the console has %s", line)
	}
}

// testAppInUse uses the app as people do, in React's strict mode.
func testAppInUse(t *testing.T, p *gatewaytest.Process, b *browsertest.Browser, pages string) {
	wantStreams(t, p, "0") // those of the tests before have ended
	tab := b.Open(t, pages+"/?token="+testkit.Token("react", "free"), appScript)
	tab.Want("title() + ', ' + small()", "0 of 100, 0/100")
	tab.Want("document.querySelector('li').innerText", "analyze: 0")
	wantStreams(t, p, "1")
	tab.Eval("say('Hello')", nil)
	tab.Want("title() + ', ' + small() + ', ' + said()", "1 of 100, 1/100, answered")
	tab.Want("document.querySelector('li').innerText", "analyze: 1")
	tab.Eval("say('fail')", nil)
	tab.Want("said()", "That failed, and was not counted.")
	// That a call is running is recorded: a busy machine may look at it too late.
	tab.Eval(`(() => {
		window.shown = [];
		const note = new MutationObserver(() => shown.push(title() + ', ' + small()));
		for (const node of [document, document.querySelector('usage-meter').shadowRoot]) note.observe(node, { subtree: true, childList: true, characterData: true });
	})()`, nil)
	tab.Eval("say('wait')", nil)
	tab.Until("shown.includes('1 of 100, 1 running, 1/100, 1 running')")
	tab.Want("title() + ', ' + small()", "2 of 100, 2/100")
	tab.WantAccessible("the app of docs/frontend.md", "#root")
	wantStreams(t, p, "1")
	checkConsole(t, tab, "a status of 500")
	tab.Eval("root.unmount()", nil)
	wantStreams(t, p, "0")

	signedOut := b.Open(t, pages, appScript)
	signedOut.Want("document.querySelector('p').innerText", "Sign in to see your usage.")
	signedOut.WantAccessible("the app, signed out", "#root")
}

// testAppWithoutGateway ends the gateway, while the app is open and before.
func testAppWithoutGateway(t *testing.T, p *gatewaytest.Process, b *browsertest.Browser, pages string) {
	page := pages + "/?token=" + testkit.Token("without", "free")
	tab := b.Open(t, page, appScript)
	tab.Want("title()", "0 of 100")
	p.Kill()
	tab.Eval("say('Hello')", nil)
	tab.Want("said() + ', ' + title()", "No connection. Try again in a moment., 0 of 100")

	late := b.Open(t, pages+"/?token="+testkit.Token("late", "free"), appScript)
	late.Want("document.querySelector('p').innerText", "Usage is not available right now.")
	late.WantAccessible("the app without the gateway", "#root")
}

// testAppBefore uses the app that counts by itself, with the gateway in front of its API.
func testAppBefore(t *testing.T, p *gatewaytest.Process, b *browsertest.Browser, pages string) {
	tab := b.Open(t, pages+"/?token="+testkit.Token("before", "free")+"#before", "")
	tab.Want("document.querySelector('button').innerText", "Send (0)")
	tab.Eval("document.querySelector('button').click()", nil)
	tab.Want("document.querySelector('button').innerText", "Send (1)")
	if status, body := gatewaytest.Get(p.URL+"/usage", testkit.Token("before", "free")); status != 200 || !strings.Contains(body, `"used":1,`) {
		t.Errorf("GET /usage: %d %s", status, body)
	}
}
