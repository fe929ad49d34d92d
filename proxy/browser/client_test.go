package browser_test

import (
	"fmt"
	"testing"

	"metergate/proxy/browser/browsertest"
)

// fast is a timing with short retries. Waits for others stay long enough for a busy
// machine; the tests of those shorten them.
const fast = `{ poll: 100, firstEvent: 5000, impatience: 5000, dead: 5000, backoff: 20, backoffMax: 100, settled: 100, floor: 300, grace: 50, leaderLost: 10_000 }`

// The tests share one browser. Each has its own gateway, and so its own origin, channel
// and lock.
func TestClient(t *testing.T) {
	b := browsertest.Start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *browsertest.Browser, *fakeGateway)
	}{
		{"event stream", testEventStreamParser},
		{"token goes only to the gateway", testTokenGoesToGatewayOnly},
		{"pending calls", testPendingCalls},
		{"refused calls", testRefusedCalls},
		{"faults do not break calls", testFaultsDoNotBreakCalls},
		{"older states", testOlderStatesAreIgnored},
		{"X-Usage", testXUsageHeader},
		{"events", testEventsAndSubscriptions},
		{"expired and refused tokens", testExpiredAndRefusedTokens},
		{"dead and buffered streams", testDeadAndBufferedStreams},
		{"quiet stream stays open", testQuietStreamStaysOpen},
		{"polling without a stream", testPollingWithoutStream},
		{"gateway gone and back", testGatewayGoneAndBack},
		{"tabs share a stream", testTabsShareStream},
		{"frozen leader is replaced", testFrozenLeaderIsReplaced},
		{"hidden tabs", testHiddenTabsPause},
		{"user changes", testUserChanges},
		{"late answers of the previous user", testLateAnswersOfPreviousUser},
		{"late token of the previous user", testLateTokenOfPreviousUser},
		{"user changes behind a cached page", testUserChangesBehindCachedPage},
		{"close", testCloseEndsEverything},
		{"page without Web Locks", testPageWithoutLocks},
		{"meter", testMeterShowsState},
		{"meter translates", testMeterTranslates},
		{"meter shows what was carried", testMeterShowsCarried},
		{"meter upgrade", testMeterOffersUpgrade},
		{"meter contrast", testMeterContrast},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b, newFakeGateway(t)) })
	}
}

// openPage opens a page that has loaded the modules.
func openPage(t *testing.T, b *browsertest.Browser, g *fakeGateway) *browsertest.Tab {
	t.Helper()
	tab := b.Open(t, g.URL, "")
	tab.Until("window.ready")
	return tab
}

// openClient opens a page with a client for the user alice, in the variable `client`.
func openClient(t *testing.T, b *browsertest.Browser, g *fakeGateway, options string) *browsertest.Tab {
	t.Helper()
	tab := openPage(t, b, g)
	tab.Eval(`void (window.client = createUsageClient({ getToken: () => '`+fakeToken(`{"sub":"alice"}`)+`', timing: `+fast+`, `+options+` }))`, nil)
	return tab
}

func testOlderStatesAreIgnored(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(50, "as_of", "2026-11-23T12:00:10.000Z")
	tab := openClient(t, b, g, "")
	tab.Want(shown, "50,0")
	tab.Eval("void (window.seen = [], client.subscribe(s => seen.push(s.used + (s.stale ? ' stale' : ''))))", nil)
	for _, s := range []struct {
		used  int
		as_of string
		stale bool
	}{
		{49, "2026-11-23T12:00:09.999Z", false}, // older
		{40, "2026-11-23T12:00:11.000Z", true},  // a gateway that has lost its store and saw less
		{51, "2026-11-23T12:00:12.000Z", false},
		{52, "2026-11-23T12:00:12.000Z", false}, // the same millisecond, but later on the stream
		{0, "2026-11-23T12:00:13.000Z", false},  // a reset
	} {
		last := tab.String("seen.length")
		g.set(s.used, "as_of", s.as_of, "stale", s.stale)
		tab.Until("seen.length > " + last)
	}
	tab.Want("[...new Set(seen)].join()", "50,50 stale,51,52,0")
}

func testEventsAndSubscriptions(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(79)
	tab := openClient(t, b, g, "")
	tab.Eval(`void (window.seen = [], ['usage-warning', 'usage-exceeded', 'connection'].forEach(type =>
		client.addEventListener(type, e => seen.push(type + ' ' + (e.detail.used ?? e.detail.connection)))))`, nil)
	tab.Want(shown, "79,0")
	for _, used := range []int{80, 81, 100, 90, 10, 85} {
		g.set(used)
		tab.Want("client.current.used", fmt.Sprint(used))
	}
	tab.Want("seen.join()", "connection live,usage-warning 80,usage-warning 85")
	// A subscription can end.
	tab.Eval("void (window.n = 0, window.off = client.subscribe(() => n++))", nil)
	g.set(86)
	tab.Until("client.current.used === 86 && n > 1")
	tab.Eval("off()", nil)
	n := tab.String("n")
	g.set(87)
	tab.Until("client.current.used === 87")
	tab.Want("n", n)
}
