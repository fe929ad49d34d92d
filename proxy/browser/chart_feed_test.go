package browser_test

import (
	"testing"

	"metergate/proxy/browser/browsertest"
)

// openFollowing opens a page with one chart, whose client the test moves: set(used, more) changes
// the state, and answer makes what history returns. calls has its calls, and when they began by the chart's
// own clock.
func openFollowing(t *testing.T, b *browsertest.Browser, url, timing string) *browsertest.Tab {
	t.Helper()
	tab := openCharts(t, b, url, "")
	tab.Eval(`(async () => {
		const { UsageChart } = await import('/usage/chart.js');
		Object.assign(UsageChart.timing, { between: 100, retry: 100, look: 60_000 }, `+timing+`);
		const { past, client: { current } } = $('one');
		document.body.replaceChildren();
		window.calls = [];
		performance.now = ((now) => () => window.looked = now.call(performance))(performance.now);
		window.used = 1;
		window.user = 'u-17';
		window.answer = () => {
			const today = past.days.at(-1);
			return { ...past, user, days: [...past.days.slice(0, -1), { ...today, used, endpoints: { analyze: { used } } }] };
		};
		const listeners = new Set();
		const client = Object.assign(new EventTarget(), {
			current: { ...current, used }, connection: 'live', problem: null,
			subscribe(fn) { listeners.add(fn); fn(client.current); return () => listeners.delete(fn); },
			async history(days) { calls.push({ days, at: looked }); return answer(days); },
		});
		window.set = (n, more) => {
			used = n;
			client.current = more === null ? null : { ...current, user, used, ...more };
			for (const fn of listeners) fn(client.current);
		};
		const chart = document.createElement('usage-chart');
		chart.id = 'chart';
		chart.client = client;
		document.body.append(chart);
		window.today = () => all('chart', 'tbody tr:last-child td')[0]?.textContent;
	})()`, nil)
	return tab
}

func testChartFollowsUsage(t *testing.T, b *browsertest.Browser, url string) {
	tab := openFollowing(t, b, url, "{}")
	// The gateway decides how many days there are, unless the page does.
	tab.Want("today() + typeof calls[0].days", "1undefined")
	// A state in which nothing was used needs no reading; many changes need few.
	tab.Eval("set(1, { in_flight: 1 })", nil)
	tab.Eval(`(async () => {
		for (let n = 2; n <= 40; n++) {
			set(n);
			await new Promise((done) => { setTimeout(done, 10); });
		}
	})()`, nil)
	tab.Want("today()", "40")
	wantNoFaults(t, tab, "calls.slice(1).flatMap((call, i) => (call.at - calls[i].at < 98 ? [call.at - calls[i].at + ' ms after the last'] : []))")
	tab.Eval("void (window.made = calls.length)", nil)
	tab.Eval("(() => { for (let n = 41; n <= 80; n++) set(n); })()", nil)
	tab.Want("today()", "80")
	tab.Until("calls.length <= made + 2")
	// Another number of days is read at once.
	tab.Eval("void ($('chart').days = 7)", nil)
	tab.Until("calls.at(-1).days === 7")
	tab.Want("$('chart').days + ' ' + $('chart').getAttribute('days')", "7 7")
	for _, wrong := range []string{"0", "401", "x", "1.5", ""} {
		tab.Eval("$('chart').setAttribute('days', '"+wrong+"')", nil)
		tab.Want("$('chart').days", "30")
	}
	// Once removed, it reads no more.
	tab.Eval("$('chart').remove()", nil)
	tab.Eval("void (window.made = calls.length, set(99))", nil)
	tab.Eval("new Promise((done) => { setTimeout(done, 300); })", nil)
	tab.Want("calls.length - made", "0")
}

// What the gateway answers for a user who has signed out is not shown to the next one.
func testChartForgetsUser(t *testing.T, b *browsertest.Browser, url string) {
	tab := openFollowing(t, b, url, "{}")
	tab.Want("today()", "1")
	tab.Eval(`void (window.first = answer, window.answer = () => { const mine = first(); return new Promise((done) => { window.late = () => done(mine); }); }, set(5))`, nil)
	tab.Until("window.late")
	tab.Eval("set(0, null)", nil)
	tab.Want("all('chart', '[part=card]')[0].ariaBusy + text('chart', 'count')", "true")
	tab.Eval("void (answer = first, user = 'u-18', set(3))", nil)
	tab.Want("today()", "3")
	tab.Eval("late()", nil)
	tab.Eval("new Promise((done) => { setTimeout(done); })", nil)
	tab.Want("today()", "3")
}

func testChartReadsAgainAfterFailure(t *testing.T, b *browsertest.Browser, url string) {
	tab := openFollowing(t, b, url, "{}")
	tab.Want("today()", "1")
	tab.Eval("void (window.works = answer, answer = () => { throw Object.assign(new Error(), { problem: 'unreachable' }); }, set(2))", nil)
	tab.Until("text('chart', 'notice').startsWith('Not up to date. Last updated')")
	tab.Want("today()", "1")
	tab.Eval("void (answer = works)", nil)
	tab.Want("today() + text('chart', 'notice')", "2")
	// A gateway that keeps no history is not asked again.
	tab.Eval("void (answer = () => { throw Object.assign(new Error(), { problem: 'off' }); }, user = 'u-18', set(3))", nil)
	tab.Want("text('chart', 'notice')", "Daily usage is not recorded")
	tab.Eval("void (window.made = calls.length, set(4))", nil)
	tab.Eval("new Promise((done) => { setTimeout(done, 300); })", nil)
	tab.Want("calls.length - made", "0")
}

// A page may want more days than the gateway keeps: it gets what there is.
func testChartShowsFewerDays(t *testing.T, b *browsertest.Browser, url string) {
	tab := openFollowing(t, b, url, "{}")
	tab.Want("today()", "1")
	tab.Eval(`void (window.all30 = answer, answer = (days) => {
		if (days > 30) throw Object.assign(new Error(), { problem: 'unavailable' });
		return all30();
	}, $('chart').days = 90, set(2))`, nil)
	tab.Want("today() + text('chart', 'notice') + text('chart', 'when')", "2Last 30 days")
	tab.Want("calls.slice(-2).map((call) => String(call.days)).join()", "90,undefined")
}

// The last day is today, also if nothing is used on it.
func testChartShowsNewDay(t *testing.T, b *browsertest.Browser, url string) {
	tab := openFollowing(t, b, url, "{ look: 20 }")
	// The history ended long ago; it is read once more for today.
	tab.Until("calls.length === 2")
	tab.Eval("new Promise((done) => { setTimeout(done, 300); })", nil)
	tab.Want("calls.length", "2")
}

func testChartWaitsWhileHidden(t *testing.T, b *browsertest.Browser, url string) {
	tab := openFollowing(t, b, url, "{}")
	tab.Want("today()", "1")
	tab.Eval("void (Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => window.seen }), window.seen = 'hidden', document.dispatchEvent(new Event('visibilitychange')), set(7))", nil)
	tab.Eval("new Promise((done) => { setTimeout(done, 300); })", nil)
	tab.Want("today() + calls.length", "11")
	tab.Eval("void (window.seen = 'visible', document.dispatchEvent(new Event('visibilitychange')))", nil)
	tab.Want("today()", "7")
}
