// Package browsertest runs real browsers in tests: headless Chromium and Firefox, each with its own
// profile.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// RequireEnv is an environment variable. If it is set, a missing browser fails a test
// instead of skipping it. make test sets it.
const RequireEnv = "METERGATE_TEST_REQUIRE"

// How long a test waits on a machine that is busy with others.
const (
	patience      = time.Minute     // for a page to reach a state
	startPatience = 3 * time.Minute // for a browser to start
)

// A Kind is a kind of browser.
type Kind string

// The kinds of browsers.
const (
	Chromium Kind = "chromium"
	Firefox  Kind = "firefox"
)

// Kinds are all kinds.
var Kinds = []Kind{Chromium, Firefox}

// Start runs Chromium. See Kind.Start.
func Start(t testing.TB) *Browser {
	t.Helper()
	return Chromium.Start(t)
}

// Start runs a browser. If none of its kind is installed it skips the test, or fails it if
// RequireEnv is set.
func (k Kind) Start(t testing.TB) *Browser {
	t.Helper()
	names, start := []string{"chromium", "chromium-browser", "google-chrome"}, startChromium
	if k == Firefox {
		names, start = []string{"firefox-esr", "firefox"}, startFirefox
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return &Browser{k, start(t, path)}
		}
	}
	if os.Getenv(RequireEnv) != "" {
		t.Fatal(k, " is not installed")
	}
	t.Skip(k, " is not installed")
	return nil
}

// A Browser is a browser process. It ends with its test.
type Browser struct {
	Kind    Kind
	process process
}

// A process is a running browser.
type process interface {
	// open opens an empty tab, in a window of its own or in that of another tab, which it then hides.
	// before is as in Browser.Open. What the page writes to its console goes to console, which may be
	// called by several goroutines.
	open(before string, behind page, console func(line string)) (page, error)
}

// A page is an open tab of some browser.
type page interface {
	// navigate returns when the page at url has loaded.
	navigate(ctx context.Context, url string) error
	reload(ctx context.Context) error
	// evaluate returns the text that an expression is a promise of.
	evaluate(ctx context.Context, expression string) (string, error)
	// media sets features for media queries, as pairs.
	media(ctx context.Context, features []string) error
	resize(ctx context.Context, width, height int64) error
	// freeze stops the page and its timers, as a browser does that saves energy; thaw lets it go on.
	freeze(ctx context.Context) error
	thaw(ctx context.Context) error
	// close closes the tab as a user would.
	close(ctx context.Context) error
	// discard ends the tab, whatever state it is in.
	discard()
}

// A Tab shows a page. If the test fails, it logs what the page shows and its console.
type Tab struct {
	browser *Browser
	page    page
	t       testing.TB

	mu      sync.Mutex
	console []string
}

// Open opens a URL in a new tab. before is a script that runs before the scripts of each
// page; it may be empty.
func (b *Browser) Open(t testing.TB, url, before string) *Tab {
	t.Helper()
	return b.open(t, url, before, nil)
}

// OpenInFront opens a URL like Browser.Open, but in a tab of the same window, in front of this one. In
// Firefox this one is then hidden; a headless Chromium shows all tabs.
func (tab *Tab) OpenInFront(url, before string) *Tab {
	tab.t.Helper()
	return tab.browser.open(tab.t, url, before, tab.page)
}

func (b *Browser) open(t testing.TB, url, before string, behind page) *Tab {
	t.Helper()
	tab := &Tab{browser: b, t: t}
	var err error
	tab.page, err = b.process.open(before, behind, func(line string) {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		tab.console = append(tab.console, line)
	})
	if err != nil {
		t.Fatal("opening a tab: ", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s, %s:\n%s\n%s", b.Kind, url, tab.screen(), strings.Join(tab.Console(), "\n"))
		}
		tab.page.discard()
	})
	tab.do("opening "+url, func(ctx context.Context) error { return tab.page.navigate(ctx, url) })
	return tab
}

// do fails the test if f fails, or takes too long.
func (tab *Tab) do(what string, f func(ctx context.Context) error) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f(ctx); err != nil {
		tab.t.Fatal(what, ": ", err)
	}
}

// screen returns the text that the page shows.
func (tab *Tab) screen() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	text, _ := tab.page.evaluate(ctx,
		`(async () => [document.body.innerText, ...[...document.querySelectorAll('usage-meter')].map(m => m.shadowRoot?.textContent)].join('\n'))()`)
	return text
}

// Console returns what the page has written to its console, and its uncaught exceptions.
func (tab *Tab) Console() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.Clone(tab.console)
}

// Close closes the tab as a user would.
func (tab *Tab) Close() {
	tab.t.Helper()
	tab.do("closing a tab", tab.page.close)
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.do("reloading a page", tab.page.reload)
}

// Freeze stops the page and its timers, as browsers do with tabs to save energy, until Thaw. Nothing
// else can be done with the tab meanwhile.
func (tab *Tab) Freeze() {
	tab.t.Helper()
	tab.do("freezing a tab", tab.page.freeze)
}

// Thaw lets a page go on.
func (tab *Tab) Thaw() {
	tab.t.Helper()
	tab.do("thawing a tab", tab.page.thaw)
}

// Media sets features for media queries, as pairs: "prefers-color-scheme", "dark", ...
func (tab *Tab) Media(features ...string) {
	tab.t.Helper()
	tab.do("setting media features", func(ctx context.Context) error { return tab.page.media(ctx, features) })
}

// Resize gives the page another size, in CSS pixels.
func (tab *Tab) Resize(width, height int64) {
	tab.t.Helper()
	tab.do("resizing a tab", func(ctx context.Context) error { return tab.page.resize(ctx, width, height) })
}

// Eval evaluates an expression and, if it is a promise, waits for it. It decodes the value
// into out, as JSON; out may be nil.
func (tab *Tab) Eval(expression string, out any) {
	tab.t.Helper()
	if err := tab.eval(expression, out); err != nil {
		tab.t.Fatalf("%s: %v", expression, err)
	}
}

func (tab *Tab) eval(expression string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, err := tab.page.evaluate(ctx, "(async () => JSON.stringify(await (\n"+expression+"\n)) ?? 'null')()")
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		return fmt.Errorf("it is %s: %w", text, err)
	}
	return nil
}

// String returns the value of an expression as a string.
func (tab *Tab) String(expression string) string {
	tab.t.Helper()
	var s string
	tab.Eval(asString(expression), &s)
	return s
}

func asString(expression string) string { return "(async () => String(await (" + expression + ")))()" }

// Want waits until the value of an expression, as a string, is the wanted one. Meanwhile, the expression
// may throw: what it looks at may not be there yet, and the page may be about to leave.
func (tab *Tab) Want(expression, want string) {
	tab.t.Helper()
	var got string
	var err error
	pause := 5 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); pause = min(pause*3/2, 100*time.Millisecond) {
		if err = tab.eval(asString(expression), &got); err == nil && got == want {
			return
		}
		time.Sleep(pause)
	}
	if err != nil {
		tab.t.Fatalf("%s: %v after %v, want %q", expression, err, patience, want)
	}
	tab.t.Fatalf("%s is %q after %v, want %q", expression, got, patience, want)
}

// Until waits until an expression is true.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	tab.Want("Boolean(await ("+expression+"))", "true")
}
