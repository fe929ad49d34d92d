package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"metergate/proxy/browser"
	"metergate/proxy/browser/browsertest"
)

// The tests of the chart share one browser. Their clients are made up, and their histories too.
func TestChart(t *testing.T) {
	b := browsertest.Start(t)
	url := serveCharts(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *browsertest.Browser, string)
	}{
		{"numbers", testChartNumbers},
		{"layout", testChartLayout},
		{"keyboard", testChartKeyboard},
		{"pointer", testChartPointer},
		{"states", testChartStates},
		{"forecast", testChartForecast},
		{"colours", testChartColours},
		{"accessibility", testChartIsAccessible},
		{"languages", testChartLanguages},
		{"follows the usage", testChartFollowsUsage},
		{"another user", testChartForgetsUser},
		{"failures", testChartReadsAgainAfterFailure},
		{"fewer days", testChartShowsFewerDays},
		{"a new day", testChartShowsNewDay},
		{"a hidden page", testChartWaitsWhileHidden},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b, url) })
	}
}

// chartPolicy is as strict as a Content-Security-Policy can be for a page that has its own
// styles and scripts in its HTML.
const chartPolicy = "default-src 'none'; img-src data:; script-src 'self' 'nonce-test'; style-src 'nonce-test'; require-trusted-types-for 'script'; trusted-types 'none'"

// serveCharts serves a page that shows the chart in all its states.
func serveCharts(t testing.TB) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/usage/{name}", func(w http.ResponseWriter, r *http.Request) { browser.Serve(w, r, r.PathValue("name")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", chartPolicy)
		http.ServeFile(w, r, "testdata/charts.html")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// openCharts opens that page, with functions to look at its charts.
func openCharts(t *testing.T, b *browsertest.Browser, url, query string) *browsertest.Tab {
	t.Helper()
	tab := b.Open(t, url+"/?"+query, `
		addEventListener('securitypolicyviolation', (e) => console.error('violates ' + e.violatedDirective + ' ' + e.blockedURI));
		window.$ = (id) => document.getElementById(id);
		window.all = (id, selector) => [...$(id).shadowRoot.querySelectorAll(selector)];
		window.texts = (id, selector) => all(id, selector).filter((e) => e.checkVisibility()).map((e) => e.textContent.trim().replace(/\s+/g, ' '));
		window.text = (id, part) => texts(id, '[part=' + part + ']').join();
		window.plot = (id) => all(id, '[part=plot]')[0];`)
	tab.Until("window.ready")
	return tab
}

// wantNoFaults fails the test for each line that an expression returns.
func wantNoFaults(t *testing.T, tab *browsertest.Tab, expression string) {
	t.Helper()
	var faults []string
	tab.Eval(expression, &faults)
	if len(faults) > 0 {
		t.Errorf("%d faults:\n%s", len(faults), strings.Join(faults, "\n"))
	}
}

// The table, the bars and the legend have the numbers of the history.
func testChartNumbers(t *testing.T, b *browsertest.Browser, url string) {
	tab := openCharts(t, b, url, "")
	wantNoFaults(t, tab, `[...document.querySelectorAll('usage-chart')].filter((c) => c.past?.days).flatMap((chart) => {
		const faults = [];
		const is = (what, got, want) => { if (String(got) !== String(want)) faults.push(chart.id + ' ' + what + ': ' + got + ', want ' + want); };
		const number = (node) => Number(node.textContent.replace(/,/g, ''));
		const root = chart.shadowRoot;
		const key = chart.client.current.unit === 'units' ? 'units' : 'used';
		const { days } = chart.past;
		const columns = [...root.querySelectorAll('thead th')].map((th) => th.textContent).slice(2);
		is('columns', columns, [...new Set(days.flatMap((day) => Object.keys(day.endpoints)))].sort());
		const rows = [...root.querySelectorAll('tbody tr')];
		is('rows', rows.length, days.length);
		rows.forEach((row, i) => {
			const [total, ...endpoints] = [...row.querySelectorAll('td')].map(number);
			is(days[i].date + ' total', total, days[i][key]);
			is(days[i].date, endpoints, columns.map((name) => days[i].endpoints[name]?.[key] ?? 0));
		});
		const total = days.reduce((sum, day) => sum + day[key], 0);
		is('total', total ? number(root.querySelector('[part=total]')) : 0, total);
		const values = [...root.querySelectorAll('li:not(.pace) .value')].filter((e) => e.checkVisibility());
		is('legend', values.reduce((sum, node) => sum + number(node), 0), total);
		if (values.length > 6) faults.push(chart.id + ' names ' + values.length);
		// Bars have the height of their day, as the scale has it, up to rounding and gaps.
		const box = (e) => e.getBoundingClientRect();
		const lines = [...root.querySelectorAll('.grid')].map((e) => box(e).top);
		const labels = [...root.querySelectorAll('[part=plot] text')].map((e) => e.textContent);
		const bars = new Map();
		for (const rect of root.querySelectorAll('[part=plot] .series')) {
			const { left, top, bottom } = box(rect);
			const bar = bars.get(left) ?? { top, bottom };
			bars.set(left, { top: Math.min(bar.top, top), bottom: Math.max(bar.bottom, bottom) });
		}
		const used = days.filter((day) => day[key] > 0);
		is('bars', bars.size, used.length);
		const most = Math.max(...used.map((day) => day[key]));
		const heights = [...bars].sort(([a], [b]) => a - b).map(([, { top, bottom }]) => bottom - top);
		const highest = Math.max(...heights);
		used.forEach((day, i) => {
			const want = Math.max(2, highest * day[key] / most);
			if (Math.abs(heights[i] - want) > 1.6) faults.push(chart.id + ' ' + day.date + ' is ' + heights[i] + ' high, want ' + want);
		});
		return faults;
	})`)
	tab.Want("text('twelve', 'legend').includes('Other 88')", "true")
	tab.Want("all('sidebar', 'caption')[0].textContent", "Daily usage in requests, Thu, Oct 31 to Fri, Nov 29")
	tab.Want("[text('credits', 'count'), all('credits', 'caption')[0].textContent].join('; ')", "7,278 credits; Daily usage in credits, Thu, Oct 31 to Fri, Nov 29")
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
	}
}

// Nothing overlaps or is cut off, whatever the width, the direction and the number of days.
func testChartLayout(t *testing.T, b *browsertest.Browser, url string) {
	for _, query := range []string{"", "lang=ar&dir=rtl", "lang=de"} {
		tab := openCharts(t, b, url, query)
		wantNoFaults(t, tab, `[...document.querySelectorAll('usage-chart')].flatMap((chart) => {
			const faults = [];
			const fault = (text) => faults.push(chart.id + ': ' + text);
			const box = (e) => e.getBoundingClientRect();
			const root = chart.shadowRoot;
			const card = box(root.querySelector('[part=card]'));
			for (const e of root.querySelectorAll('[part=card] *')) {
				if (e.closest('.spoken, defs') || !e.checkVisibility()) continue;
				const { left, right } = box(e);
				if (left < card.left - 0.5 || right > card.right + 0.5) fault((e.className.baseVal ?? e.className) + ' ' + e.textContent + ' stands out');
			}
			const apart = (name, nodes, room) => {
				const boxes = nodes.map(box).sort((a, b) => a.left - b.left);
				boxes.slice(1).forEach((b, i) => { if (b.left < boxes[i].right + room) fault(name + ' ' + i + ' is too near the next'); });
			};
			const texts = [...root.querySelectorAll('[part=plot] text')];
			const low = Math.max(...texts.map((e) => box(e).bottom));
			apart('date', texts.filter((e) => box(e).bottom === low), 4);
			const bars = new Map([...root.querySelectorAll('[part=plot] .series')].map((e) => [e.getAttribute('x'), e]));
			const days = chart.past?.days?.length;
			apart('bar', [...bars.values()], days > 100 ? 0 : 0.9);
			return faults;
		})`)
		for _, scheme := range []string{"light", "dark"} {
			tab.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
			shot(t, tab, "charts-"+scheme+query)
		}
		tab.Media("forced-colors", "active")
		shot(t, tab, "charts-forced-colors"+query)
		tab.Media()
	}
	// It draws itself again for another width.
	tab := openCharts(t, b, url, "")
	tab.Eval("void ($('sidebar').parentElement.style.width = '900px')", nil)
	tab.Until("plot('sidebar').clientWidth > 800 && all('sidebar', '[part=plot] .series').at(-1).getBoundingClientRect().left > 800")
}

// A screen reader says the text of a slider's new value.
const sliderText = "plot('sidebar').ariaValueText"

func testChartKeyboard(t *testing.T, b *browsertest.Browser, url string) {
	tab := openCharts(t, b, url, "")
	tab.Want("[plot('sidebar').role, plot('sidebar').ariaLabel, plot('sidebar').ariaValueMin, plot('sidebar').ariaValueNow, plot('sidebar').ariaValueMax].join()", "slider,Day,1,30,30")
	tab.Want("text('sidebar', 'when')", "Last 30 days")
	tab.Do(chromedp.KeyEvent(kb.Tab))
	tab.Want("$('sidebar').shadowRoot.activeElement === plot('sidebar')", "true")
	tab.Want("text('sidebar', 'when') + ' ' + text('sidebar', 'count')", "Fri, Nov 29 1 request")
	for _, step := range []struct{ key, day, want string }{
		{kb.ArrowLeft, "29", "Thu, Nov 28: 13 requests, analyze 8, report 4, chat 1"},
		{kb.ArrowLeft, "28", "Wed, Nov 27: 5 requests, report 3, image-analysis 1, chat 1"},
		{kb.ArrowDown, "27", "Tue, Nov 26: 11 requests, analyze 5, report 2, image-analysis 1, chat 3"},
		{kb.PageDown, "20", "Tue, Nov 19: 10 requests, analyze 8, image-analysis 1, chat 1"},
		{kb.ArrowRight, "21", "Wed, Nov 20: 9 requests, analyze 4, report 3, image-analysis 2"},
		{kb.Home, "1", "Thu, Oct 31: 8 requests, analyze 3, report 1, image-analysis 3, chat 1"},
		{kb.ArrowLeft, "1", "Thu, Oct 31: 8 requests, analyze 3, report 1, image-analysis 3, chat 1"},
		{kb.End, "30", "Fri, Nov 29: 1 request, report 1"},
		{kb.ArrowUp, "30", "Fri, Nov 29: 1 request, report 1"},
		{kb.ArrowLeft, "29", "Thu, Nov 28: 13 requests, analyze 8, report 4, chat 1"},
	} {
		tab.Do(chromedp.KeyEvent(step.key))
		tab.Want("plot('sidebar').ariaValueNow", step.day)
		tab.Want(sliderText, step.want)
		tab.Want("all('sidebar', '.band').length", "1")
	}
	tab.Want("[text('sidebar', 'when'), text('sidebar', 'count'), texts('sidebar', 'li')[0]].join()", "Thu, Nov 28,13 requests,analyze 8")
	tab.Do(chromedp.KeyEvent(kb.Escape))
	tab.Want("text('sidebar', 'when') + all('sidebar', '.band').length", "Last 30 days0")
	tab.Do(chromedp.KeyEvent(kb.ArrowLeft))
	tab.Want("text('sidebar', 'when')", "Wed, Nov 27")
	// Further on, the chart shows all days again.
	tab.Do(chromedp.KeyEvent(kb.Tab))
	tab.Want("text('sidebar', 'when')", "Last 30 days")

	// From right to left, the arrows go the other way.
	tab = openCharts(t, b, url, "dir=rtl")
	tab.Do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.ArrowRight))
	tab.Want(sliderText, "Thu, Nov 28: 13 requests, analyze 8, report 4, chat 1")
	tab.Do(chromedp.KeyEvent(kb.ArrowLeft))
	tab.Want(sliderText, "Fri, Nov 29: 1 request, report 1")
}

func testChartPointer(t *testing.T, b *browsertest.Browser, url string) {
	for _, dir := range []string{"ltr", "rtl"} {
		tab := openCharts(t, b, url, "dir="+dir)
		tab.Eval(`void (window.point = (type, day, pointerType) => {
			const { left, right, top } = plot('sidebar').getBoundingClientRect();
			const x = (day + 0.5) * plotWidth() / 30;
			plot('sidebar').dispatchEvent(new PointerEvent(type, { clientX: document.dir === 'rtl' ? right - x : left + x, clientY: top + 20, pointerType }));
		}, window.plotWidth = () => all('sidebar', '.base')[0].getBoundingClientRect().width)`, nil)
		tab.Eval("point('pointermove', 27, 'mouse')", nil)
		tab.Want("text('sidebar', 'when') + ' ' + text('sidebar', 'count')", "Wed, Nov 27 5 requests")
		tab.Eval("point('pointermove', 28, 'mouse')", nil)
		tab.Want("text('sidebar', 'when')", "Thu, Nov 28")
		tab.Eval("point('pointerleave', 28, 'mouse')", nil)
		tab.Want("text('sidebar', 'when')", "Last 30 days")
		// What a finger has chosen stays when the finger is gone.
		tab.Eval("point('pointerdown', 0, 'touch'), point('pointerleave', 0, 'touch')", nil)
		tab.Want("text('sidebar', 'when')", "Thu, Oct 31")
		tab.Eval("plot('sidebar').focus(), plot('sidebar').blur()", nil)
		tab.Want("text('sidebar', 'when')", "Last 30 days")
	}
}

func testChartStates(t *testing.T, b *browsertest.Browser, url string) {
	tab := openCharts(t, b, url, "labels")
	for id, want := range map[string]string{
		"loading":      "Daily usage|",
		"empty":        "Daily usage|Nothing used yet",
		"off":          "Daily usage|Daily usage is not recorded",
		"failed":       "Daily usage|Usage is not available right now",
		"unauthorized": "Daily usage|Sign in to see your usage",
		"stale":        "Daily usage|Not up to date. Last updated November 29, 2126 at 12:00 PM",
	} {
		tab.Want(fmt.Sprintf("text('%s', 'label') + '|' + text('%[1]s', 'notice')", id), want)
		tab.Want(fmt.Sprintf("all('%s', '[part=card]')[0].ariaBusy", id), fmt.Sprint(id == "loading"))
	}
	tab.Want("texts('empty', 'tbody td').every((text) => text === '0') && text('empty', 'count')", "0 requests")
	// Nothing that is not there can be focused.
	tab.Want("['loading', 'empty', 'off', 'failed', 'unauthorized'].map((id) => plot(id).tabIndex).join()", "-1,-1,-1,-1,-1")
}

func testChartForecast(t *testing.T, b *browsertest.Browser, url string) {
	tab := openCharts(t, b, url, "")
	for id, want := range map[string]string{
		"sidebar":   "At this pace, the limit is reached on December 24, 2126.",
		"one":       "At this pace, the limit lasts until it resets on December 1, 2126.",
		"reached":   "The limit is reached.",
		"unlimited": "",
		"zeros":     "", // too few requests to judge by
	} {
		tab.Want("text('"+id+"', 'forecast')", want)
	}
	tab.Eval("void (window.Date = class extends Date { constructor(...when) { super(...(when.length ? when : ['2024-11-29T12:00:00Z'])); } }, window.show = (more) => { const { client } = $('sidebar'); $('sidebar').client = Object.assign(new EventTarget(), client, { current: { ...client.current, ...more } }); })", nil)
	tab.Eval("show({ exhausts_at: '2024-11-29T23:59:00Z' })", nil)
	tab.Want("text('sidebar', 'forecast')", "At this pace, the limit is reached today at 11:59 PM.")
	// The gateway keeps no history of today's numbers yet, or makes no forecast.
	tab.Eval("show({ exhausts_at: undefined })", nil)
	tab.Want("text('sidebar', 'forecast')", "")

	// The line of the pace is where the scale has its number.
	tab.Want("[texts('sidebar', '.pace')[0], texts('one', '.pace')[0], texts('daily', '.pace')[0], texts('unlimited', '.pace').length].join('; ')",
		"Even pace 6.7 a day; Even pace, above the chart 33 a day; Daily limit 20; 0")
	wantNoFaults(t, tab, `['sidebar', 'twelve', 'wide', 'daily'].flatMap((id) => {
		const y = (e) => Number(e.getAttribute('y1'));
		const lines = all(id, '.grid').map(y);
		const top = Number(all(id, '[part=plot] text').filter((e) => e.getAttribute('text-anchor') === 'end').map((e) => e.textContent).filter((text) => /^\d+$/.test(text)).at(-1));
		const [line] = all(id, '[part=plot] .pace-line').map(y);
		const { limit, period } = $(id).client.current;
		const want = lines[0] - (limit / (period.per === 'day' ? 1 : 30)) / top * (lines[0] - lines.at(-1));
		return Math.abs(line - want) > 1 ? [id + ': ' + line + ', want ' + want] : [];
	})`)
	tab.Want("all('one', '[part=plot] .pace-line').length", "0")
	// What members share says nothing about a user's days.
	tab.Eval("show({ limits: [{ ...$('sidebar').client.current.limits[0], shared: true }] })", nil)
	tab.Want("texts('sidebar', '.pace').length", "0")
}

// colours measures the colours of the endpoints: with the background each has a contrast of 3:1 (WCAG 2.2,
// 1.4.11), and each two are apart in OKLab, also as people see them who lack one kind of cones.
const colours = `(() => {
	const rgb = (c) => c.match(/[\d.]+/g).slice(0, 3).map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
	const light = ([r, g, b]) => .2126 * r + .7152 * g + .0722 * b;
	const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
	const times = (m, v) => m.map((row) => row.reduce((sum, x, i) => sum + x * v[i], 0));
	const lab = (v) => times([[.2105, .7936, -.0041], [1.978, -2.4286, .4506], [.0259, .7828, -.8087]],
		times([[.4122, .5363, .0514], [.2119, .6807, .1074], [.0883, .2817, .63]], v).map((x) => Math.cbrt(Math.max(0, x))));
	const eyes = { // Machado, Oliveira and Fernandes, 2009
		all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
		protanopia: [[.1523, 1.0526, -.2049], [.1145, .7863, .0992], [-.0039, -.0481, 1.052]],
		deuteranopia: [[.3673, .8606, -.2280], [.2801, .6725, .0474], [-.0118, .0429, .9689]],
		tritanopia: [[1.2555, -.0767, -.1788], [-.0784, .9308, .1476], [.0047, .6914, .3039]],
	};
	const back = rgb(getComputedStyle(all('twelve', '[part=card]')[0]).backgroundColor);
	const series = all('twelve', 'li .series').map((e) => rgb(getComputedStyle(e).fill));
	const faults = series.length === 6 ? [] : [series.length + ' colours'];
	series.forEach((colour, i) => {
		const r = ratio(colour, back);
		if (r < 3) faults.push('colour ' + i + ' has a contrast of ' + r);
		for (const [name, eye] of Object.entries(eyes)) series.slice(0, i).forEach((other, j) => {
			const [a, b] = [colour, other].map((c) => lab(times(eye, c)));
			const distance = Math.hypot(...a.map((x, k) => x - b[k]));
			if (distance < .11) faults.push(j + ' and ' + i + ' are ' + distance + ' apart to ' + name);
		});
	});
	return faults;
})()`

func testChartColours(t *testing.T, b *browsertest.Browser, url string) {
	tab := openCharts(t, b, url, "")
	for _, scheme := range []string{"light", "dark"} {
		tab.Media("prefers-color-scheme", scheme)
		wantNoFaults(t, tab, colours)
	}
	// Where the user has chosen the colours, patterns tell the endpoints apart.
	tab.Media("forced-colors", "active")
	tab.Want("new Set(all('twelve', 'li .series').map((e) => getComputedStyle(e).fill)).size", "6")
	tab.Want("all('twelve', 'li .series').every((e) => all('twelve', getComputedStyle(e).fill.match(/#[\\w-]+/)[0]).length === 1)", "true")
	tab.Media()
	// An endpoint has the same colour in each chart, and keeps it when another one is used most.
	tab.Want("new Set(['sidebar', 'one', 'twelve', 'zeros', 'credits'].map((id) => all(id, 'li').find((li) => li.querySelector('.name').textContent === 'analyze').querySelector('.series').getAttribute('class'))).size", "1")
}

func testChartIsAccessible(t *testing.T, b *browsertest.Browser, url string) {
	// A few days are enough: axe takes long for large tables.
	for _, query := range []string{"most=4", "most=4&lang=ar&dir=rtl"} {
		tab := openCharts(t, b, url, query)
		tab.Do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Home))
		tab.Want("all('sidebar', '.band').length", "1") // the numbers of one day
		tab.WantAccessible("charts "+query, "#sidebar", "#twelve", "#credits", "#reached", "#stale", "#empty", "#loading", "#off", "#failed", "#unauthorized")
	}
	// Colours change at once, and nothing moves, for users who prefer reduced motion.
	tab := openCharts(t, b, url, "")
	tab.Want("getComputedStyle(plot('loading')).animationName", "breathe")
	tab.Media("prefers-reduced-motion", "reduce")
	tab.Want("getComputedStyle(plot('loading')).animationName", "none")
}

func testChartLanguages(t *testing.T, b *browsertest.Browser, url string) {
	for lang, want := range map[string]string{
		"de": "Nutzung pro Tag; 7.278 credits; Letzte 30 Tage; Bei diesem Tempo ist das Limit am 24. Dezember 2126 erreicht.",
		"fr": "Utilisation par jour; 7 278 credits; 30 derniers jours; À ce rythme, la limite sera atteinte le 24 décembre 2126.",
		"es": "Uso por día; 7278 credits; Últimos 30 días; A este ritmo, el límite se alcanza el 24 de diciembre de 2126.",
	} {
		tab := openCharts(t, b, url, "labels&lang="+lang)
		tab.Want("[text('credits', 'label'), text('credits', 'count'), text('credits', 'when'), text('sidebar', 'forecast')].join('; ').replace(/\\s/g, ' ')", want)
	}
	tab := openCharts(t, b, url, "labels")
	tab.Eval("void ($('sidebar').messages = { chartLabel: 'My days', chartOther: 'Rest' }, $('twelve').messages = { chartOther: 'Rest' })", nil)
	tab.Want("text('sidebar', 'label') + texts('twelve', 'li')[5] + text('twelve', 'label')", "My daysRest 88Daily usage")
	tab.Eval("void (document.documentElement.lang = 'de')", nil)
	tab.Want("text('sidebar', 'label') + texts('twelve', 'li')[5] + text('twelve', 'label')", "My daysRest 88Nutzung pro Tag")
}
