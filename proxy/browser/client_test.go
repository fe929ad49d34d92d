package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy/browser/browsertest"
)

// fast is a timing with short retries. Waits for others stay long enough for a busy
// machine; the tests of those shorten them.
const fast = `{ poll: 100, firstEvent: 5000, impatience: 5000, dead: 5000, backoff: 10, settled: 100, floor: 300, grace: 50, leaderSilent: 3_000 }`

// The tests share one browser. Each has its own gateway, and so its own origin, channel
// and lock.
func TestClient(t *testing.T) {
	b := browsertest.Start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *browsertest.Browser, *fakeGateway)
	}{
		{"event stream", testEventStreamParser},
		{"base URL", testBaseURL},
		{"default base", testDefaultBase},
		{"token goes only to the gateway", testTokenGoesToGatewayOnly},
		{"pending calls", testPendingCalls},
		{"refused calls", testRefusedCalls},
		{"faults do not break calls", testFaultsDoNotBreakCalls},
		{"older states", testOlderStatesAreIgnored},
		{"X-Usage", testXUsageHeader},
		{"events", testEventsAndSubscriptions},
		{"warnings", testWarningsNameLimits},
		{"prompt and dismiss", testPromptAndDismiss},
		{"history", testHistory},
		{"forecast", testForecastIsKept},
		{"expired and refused tokens", testExpiredAndRefusedTokens},
		{"refused calls are repeated", testRefusedCallsAreRepeated},
		{"calls that are not repeated", testCallsThatAreNotRepeated},
		{"following tab renews its token", testFollowingTabRenewsItsToken},
		{"dead and buffered streams", testDeadAndBufferedStreams},
		{"quiet stream stays open", testQuietStreamStaysOpen},
		{"polling without a stream", testPollingWithoutStream},
		{"polls in time", testPollsInTime},
		{"gateway gone and back", testGatewayGoneAndBack},
		{"tabs share a stream", testTabsShareStream},
		{"numbers are kept over a reload", testNumbersAreKept},
		{"nobody sees another's kept numbers", testKeptNumbersOfOthers},
		{"kept numbers stay with their client", testKeptNumbersStayWithTheirClient},
		{"bad storage", testBadStorage},
		{"worker polls", testWorkerPolls},
		{"leader that answers stays", testLeaderThatAnswersStays},
		{"frozen leader is replaced", testFrozenLeaderIsReplaced},
		{"hidden tabs", testHiddenTabsPause},
		{"user changes", testUserChanges},
		{"cookie of another user", testCookieOfAnotherUser},
		{"getToken hangs", testHangingGetToken},
		{"first call is not repeated for another", testFirstCallIsNotRepeatedForAnother},
		{"refreshed token", testRefreshedTokenKeepsNumbers},
		{"late answers of the previous user", testLateAnswersOfPreviousUser},
		{"late token of the previous user", testLateTokenOfPreviousUser},
		{"user changes behind a cached page", testUserChangesBehindCachedPage},
		{"close", testCloseEndsEverything},
		{"page without Web Locks", testPageWithoutLocks},
		{"meter", testMeterShowsState},
		{"meter names what is used up", testMeterNamesWhatIsUsedUp},
		{"meter translates", testMeterTranslates},
		{"meter speaks languages", testMeterSpeaksLanguages},
		{"meter shows what was carried", testMeterShowsCarried},
		{"meter upgrade", testMeterOffersUpgrade},
		{"meter refusal is dismissed", testMeterRefusalIsDismissed},
		{"upgrade", testUpgradeOpens},
		{"upgrade closes", testUpgradeCloses},
		{"upgrade opens once for calls that run together", testUpgradeAndRunningCalls},
		{"upgrade in a hidden part", testUpgradeInHiddenPart},
		{"upgrade opens one of many", testUpgradeOpensOneOfMany},
		{"upgrade closes by itself", testUpgradeClosesByItself},
		{"upgrade accessibility", testUpgradeIsAccessible},
		{"messages", testMessagesAreComplete},
		{"meter accessibility", testMeterIsAccessible},
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

// slowTimers is a script for Browser.Open. Timers of slow milliseconds or more run when the test calls
// elapse(), so that no machine is too busy for them.
const slowTimers = `
	window.slow = 1e6;
	window.waiting = new Map();
	window.lastTimer = 1e9; // ids of these timers follow each other
	window.setTimeout = ((set) => (run, ms, ...args) => {
		if (!(ms >= slow)) return set(run, ms, ...args);
		waiting.set(++lastTimer, { ms, run: () => run(...args) });
		return lastTimer;
	})(setTimeout);
	window.clearTimeout = ((clear) => (id) => waiting.delete(id) || clear(id))(clearTimeout);
	window.elapse = () => { for (const [id, { run }] of [...waiting]) if (waiting.delete(id)) run(); };`

// openClient opens a page with a client for the user alice, in the variable `client`. Expressions in then
// are evaluated before the client begins.
func openClient(t *testing.T, b *browsertest.Browser, g *fakeGateway, options string, then ...string) *browsertest.Tab {
	t.Helper()
	tab := openPage(t, b, g)
	create := `window.client = createUsageClient({ getToken: () => '` + fakeToken(`{"sub":"alice"}`) + `', timing: ` + fast + `, ` + options + ` })`
	tab.Eval("void ("+strings.Join(append([]string{create}, then...), ", ")+")", nil)
	return tab
}

func testOlderStatesAreIgnored(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(50, "as_of", "2026-11-23T12:00:10.000Z")
	tab := openClient(t, b, g, "")
	tab.Want(shown+" + client.connection", "50,0live")
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
	tab := openClient(t, b, g, "", `window.seen = [], ['usage-warning', 'usage-exceeded', 'connection'].forEach(type =>
		client.addEventListener(type, e => seen.push(type + ' ' + (e.detail.used ?? e.detail.connection))))`)
	tab.Want(shown+" + client.connection", "79,0live")
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

// usage-warning names the limits that are nearly used up since the last state: the headline limit by the
// gateway's own word, the others from 80 %.
func testWarningsNameLimits(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	limits := func(month, analyze, day int) (pairs []any) {
		limit := func(name, endpoint string, used, limit int) map[string]any {
			l := map[string]any{"name": name, "per": "month", "used": used, "limit": limit, "remaining": max(0, limit-used), "resets_at": nil}
			if endpoint != "" {
				l["endpoint"] = endpoint
			}
			return l
		}
		return []any{"limits", []any{limit("month", "", month, 100), limit("analyze-month", "analyze", analyze, 10), limit("day", "", day, 50)}}
	}
	g.set(10, limits(10, 8, 0)...)
	tab := openClient(t, b, g, "")
	tab.Eval(`void (window.seen = [], client.addEventListener('usage-warning', e => seen.push(e.detail.used + ' ' + e.detail.warned)))`, nil)
	tab.Want(shown, "10,0")
	for _, s := range []struct{ month, analyze, day int }{
		{11, 7, 0},
		{12, 8, 39}, // 80 % of the endpoint
		{13, 9, 40}, // of the day
		{14, 10, 50},
		{15, 1, 1},
		{80, 8, 40},  // all three
		{81, 9, 41},  // still
		{2, 7, 2},    // as after a reset
		{3, 10, 3},   // used up at once: not a warning any more
		{100, 0, 50}, // likewise
	} {
		g.set(s.month, limits(s.month, s.analyze, s.day)...)
		tab.Want(shown, fmt.Sprintf("%d,0", s.month))
	}
	tab.Want("seen.join('; ')", "12 analyze-month; 13 day; 80 month,analyze-month,day")
	// Where a warning begins is the gateway's configuration: here later than at 80 %.
	g.set(0)
	tab.Want(shown, "0,0")
	g.set(85, "status", "ok")
	tab.Want(shown, "85,0")
	g.set(90)
	tab.Want(shown, "90,0")
	tab.Want("seen.slice(3).join('; ')", "90 month")
}

func testPromptAndDismiss(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(100)
	tab := openPage(t, b, g)
	tab.Eval(`void (window.client = createUsageClient({ getToken: () => '`+fakeToken(`{"sub":"alice"}`)+`', timing: `+fast+` }), window.seen = [],
		client.addEventListener('upgrade-prompt', e => seen.push(e.detail.used + ' ' + e.detail.endpoint)),
		client.dismiss(), client.promptUpgrade('early'))`, nil)
	tab.Want(shown, "100,0")
	tab.Eval("(client.promptUpgrade('analyze'), client.promptUpgrade())", nil)
	tab.Want("seen.join()", "100 analyze,100 null")

	g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(429)
		fmt.Fprintf(w, `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","endpoint":"analyze","usage":%s}`, g.usage())
		return true
	})
	tab.Eval("void (window.states = [], client.subscribe(s => states.push(s.refused?.endpoint ?? null)), client.fetch('/api/analyze'))", nil)
	tab.Want("client.current.refused?.endpoint", "analyze")
	tab.Eval("client.dismiss()", nil)
	tab.Want("client.current.refused", "null")
	tab.Want("states.at(-1)", "null")
}

func testHistory(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1)
	tab := openClient(t, b, g, "")
	tab.Want(shown, "1,0")
	ask := func(call string, answer func(w http.ResponseWriter, r *http.Request)) string {
		t.Helper()
		g.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/usage/history" {
				return false
			}
			answer(w, r)
			return true
		})
		return tab.String(call + ".then(h => h.days.map(d => d.date + ' ' + d.used).join(), e => [e instanceof Error, e.problem, e.message].join())")
	}
	problem := func(status int, detail string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"about:blank","status":%d,"detail":%q}`, status, detail)
		}
	}
	days := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"days":[{"date":%q,"used":12,"endpoints":{}}]}`, r.URL.RawQuery)
	}
	for _, test := range []struct {
		call   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		{"client.history()", days, " 12"},
		{"client.history(7)", days, "days=7 12"},
		{"client.history(0)", problem(400, "days must be 1 to 35, got 0"), "true,unavailable,days must be 1 to 35, got 0"},
		{"client.history()", problem(404, "this gateway has no history"), "true,off,this gateway has no history"},
		{"client.history()", problem(503, "the store does not answer"), "true,unavailable,the store does not answer"},
		{"client.history()", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404); w.Write([]byte("<html>")) }, "true,unavailable,unavailable"},
		{"client.history()", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("{}")) }, "true,unavailable,unavailable"},
		{"client.history()", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, "true,unauthorized,unauthorized"},
		{"client.history()", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "true,unreachable,unreachable"},
		{"createUsageClient({ getToken() { throw 1; } }).history()", days, "true,token,token"},
	} {
		if got := ask(test.call, test.answer); got != test.want {
			t.Errorf("%s: %q, want %q", test.call, got, test.want)
		}
	}
}

// A refusal does not say when the limit would be reached, so what is known stays.
func testForecastIsKept(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(50, "exhausts_at", "2026-12-01T00:00:00Z")
	tab := openClient(t, b, g, "")
	const forecast = "client.current?.used + ' ' + client.current?.exhausts_at"
	tab.Want(forecast, "50 2026-12-01T00:00:00Z")
	g.set(51)
	tab.Want(forecast, "51 2026-12-01T00:00:00Z")
	g.set(52, "exhausts_at", nil)
	tab.Want(forecast, "52 null")
	g.set(53)
	tab.Want(forecast, "53 null")
	g.set(54, "plan", "pro") // another plan
	tab.Want(forecast, "54 undefined")
}
