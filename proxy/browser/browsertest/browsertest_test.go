package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

// All browsers do the same.
func TestBrowsers(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "script-src 'nonce-1'; require-trusted-types-for 'script'")
		w.Write([]byte(`<!doctype html><html lang="en"><title>A page</title><p>für 日本</p>
<script nonce="1">window.ticks = [], setInterval(() => ticks.push(Date.now()), 10), console.log('before said', window.said);
const tabs = new BroadcastChannel('tabs');
tabs.onmessage = () => { window.otherIsFrozen = true; };
document.addEventListener('freeze', () => tabs.postMessage(''));</script>`))
	}))
	t.Cleanup(page.Close)
	for _, k := range Kinds {
		t.Run(string(k), func(t *testing.T) {
			b := k.Start(t)
			t.Run("tabs", func(t *testing.T) { testTabs(t, b, page.URL) })
			t.Run("frozen tabs", func(t *testing.T) { testFrozenTabs(t, b, page.URL) })
		})
	}
}

func testTabs(t *testing.T, b *Browser, url string) {
	tab := b.Open(t, url, "window.said = 'für';")
	tab.Want("document.hidden + document.querySelector('p').innerText", "falsefür 日本")
	tab.Until("Promise.resolve(ticks.length > 3)")
	testkit.Eventually(t, "the console", func() bool { return strings.Contains(strings.Join(tab.Console(), "\n"), "before said für") })
	tab.Eval("void setTimeout(() => { window.late = { a: 1 }; }, 50)", nil)
	tab.Want("late.a", "1")
	var object struct{ A []int }
	tab.Eval("({ a: [1, 2] })", &object)
	if len(object.A) != 2 {
		t.Errorf("%v", object)
	}
	if _, err := tab.page.evaluate(t.Context(), "(async () => { throw new Error('why') })()"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("an error of the page: %v", err)
	}
	var loaded, again float64
	tab.Eval("performance.timeOrigin", &loaded)
	tab.Reload()
	tab.Eval("performance.timeOrigin", &again)
	if again <= loaded || tab.String("window.said") != "für" {
		t.Errorf("the page was not loaded again, or without what runs before its scripts")
	}
	tab.Resize(375, 700)
	tab.Want("[innerWidth, innerHeight].join()", "375,700")
	other := b.Open(t, url, "")
	other.Want("document.hidden + String(window.said)", "falseundefined")
	front := tab.OpenInFront(url, "window.said = 'later';")
	front.Want("document.hidden + window.said", "falselater")
	tab.Want("document.hidden", strconv.FormatBool(b.Kind == Firefox))
	front.Close()
	tab.Want("document.hidden", "false")
	tab.Close()
	other.Want("document.hidden", "false")
}

// A frozen page does nothing, and other tabs of its site go on.
func testFrozenTabs(t *testing.T, b *Browser, url string) {
	tab, other := b.Open(t, url, ""), b.Open(t, url, "")
	tab.Until("ticks.length")
	tab.Freeze()
	if b.Kind == Chromium { // whose answer may come before it has done so
		other.Until("window.otherIsFrozen")
	}
	var from, to int64
	other.Eval("(window.from = ticks.length, Date.now())", &from)
	other.Until("ticks.length > from + 20")
	other.Eval("Date.now()", &to)
	tab.Thaw()
	tab.Want(fmt.Sprintf("ticks.filter((at) => at > %d && at < %d).length", from, to), "0")
	tab.Until(fmt.Sprintf("ticks.at(-1) > %d", to)) // it goes on
}
