// Package browsertest runs real browsers in tests: headless chromium, each with its own
// profile.
package browsertest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// RequireEnv is an environment variable. If it is set, a missing chromium fails a test
// instead of skipping it. make test sets it.
const RequireEnv = "METERGATE_TEST_REQUIRE"

// patience is how long a page may take to reach the state that a test waits for.
const patience = 30 * time.Second

// A Browser is a browser process. It ends with its test.
type Browser struct{ ctx context.Context }

// Start runs a browser. If none is installed it skips the test, or fails it if RequireEnv
// is set.
func Start(t testing.TB) *Browser {
	t.Helper()
	path := executable()
	if path == "" {
		if os.Getenv(RequireEnv) != "" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("chromium is not installed")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // containers run tests as root
		chromedp.DisableGPU,
		chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.Env("LANGUAGE=en_US", "TZ=UTC"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		// Wait for the browser to end, so that its profile can be removed.
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log("closing the browser:", err)
		}
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("starting chromium: ", err)
	}
	return &Browser{ctx}
}

func executable() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// A Tab shows a page. If the test fails, it logs what the page shows and its console.
type Tab struct {
	ctx context.Context
	t   testing.TB

	mu      sync.Mutex
	console []string
}

// Open opens a URL in a new tab. before is a script that runs before the scripts of each
// page; it may be empty.
func (b *Browser) Open(t testing.TB, url, before string) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	tab := &Tab{ctx: ctx, t: t}
	if err := chromedp.Do(ctx); err != nil { // makes the tab; with a timeout the tab would end with it
		t.Fatal("opening a tab: ", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s\n%s", url, tab.screen(), strings.Join(tab.Console(), "\n"))
		}
		cancel()
	})
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			tab.mu.Lock()
			tab.console = append(tab.console, m.String())
			tab.mu.Unlock()
		}
	}()
	if before != "" {
		if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: before}); err != nil {
			t.Fatal(err)
		}
	}
	tab.Do(chromedp.Navigate(url))
	return tab
}

// screen returns the text that the page shows.
func (tab *Tab) screen() string {
	ctx, cancel := context.WithTimeout(tab.ctx, time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](
		`[document.body.innerText, ...[...document.querySelectorAll('usage-meter')].map(m => m.shadowRoot?.textContent)].join('\n')`))
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
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, page.Close, cdp.Empty{}); err != nil {
		tab.t.Fatal("closing a tab: ", err)
	}
}

// Do runs chromedp actions.
func (tab *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tab.t.Fatal("in the browser: ", err)
	}
}

// Media sets features for media queries, as pairs: "prefers-color-scheme", "dark", ...
func (tab *Tab) Media(features ...string) {
	tab.t.Helper()
	var p emulation.SetEmulatedMediaParams
	for pair := range slices.Chunk(features, 2) {
		p.Features = append(p.Features, &emulation.MediaFeature{Name: pair[0], Value: pair[1]})
	}
	if _, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, p); err != nil {
		tab.t.Fatal(err)
	}
}

// Eval evaluates an expression and, if it is a promise, waits for it. It decodes the value
// into out, as JSON; out may be nil.
func (tab *Tab) Eval(expression string, out any) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](
		"(async () => JSON.stringify(await (\n"+expression+"\n)) ?? 'null')()", chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%s: %v", expression, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		tab.t.Fatalf("%s is %s: %v", expression, text, err)
	}
}

// String returns the value of an expression as a string.
func (tab *Tab) String(expression string) string {
	tab.t.Helper()
	var s string
	tab.Eval("(async () => String(await ("+expression+")))()", &s)
	return s
}

// Want waits until the value of an expression, as a string, is the wanted one.
func (tab *Tab) Want(expression, want string) {
	tab.t.Helper()
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got = tab.String(expression); got == want {
			return
		}
	}
	tab.t.Fatalf("%s is %q after %v, want %q", expression, got, patience, want)
}

// Until waits until an expression is true.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	tab.Want("Boolean(await ("+expression+"))", "true")
}
