package browser_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// openMeter opens a page with an element that follows `client`, and with functions that
// find its parts and texts.
func openMeter(t *testing.T, b *browsertest.Browser, g *fakeGateway, options string) *browsertest.Tab {
	t.Helper()
	tab := openClient(t, b, g, options)
	tab.Eval(`void (window.meter = document.createElement('usage-meter'), meter.client = client, document.body.append(meter),
		window.part = (name) => meter.shadowRoot.querySelector('[part="' + name + '"]'),
		window.text = (name) => part(name).hidden ? '' : part(name).textContent.trim(),
		window.spoken = () => meter.shadowRoot.querySelector('[role=status]').textContent,
		window.aria = () => ['role', 'aria-label', 'aria-valuemin', 'aria-valuenow', 'aria-valuemax', 'aria-valuetext'].map(n => part('bar').getAttribute(n)).join('|'))`, nil)
	return tab
}

func testMeterShowsState(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(42)
	tab := openMeter(t, b, g, "")
	tab.Want("text('count')", "42 of 100 used")
	tab.Want("aria()", "meter|Usage this month|0|42|100|42 of 100 used, Resets December 1, 2126")
	tab.Want("spoken()", "")
	tab.Want("text('status') + text('notice') + text('prompt')", "")
	tab.Eval("void meter.setAttribute('label', 'My calls')", nil)
	tab.Want("part('bar').ariaLabel + text('label')", "My callsMy calls")

	// A screen reader hears changes of the status, but not every count.
	g.set(43)
	tab.Want("text('count')", "43 of 100 used")
	tab.Want("spoken()", "")
	g.set(85)
	tab.Want("spoken()", "Almost used up: 85 of 100 used")
	g.set(86)
	tab.Want("text('count')", "86 of 100 used")
	tab.Want("spoken()", "Almost used up: 85 of 100 used")

	// The value of a meter must not exceed its maximum.
	g.set(120)
	tab.Want("aria()", "meter|My calls|0|100|100|120 of 100 used, Limit reached, Resets December 1, 2126")
	g.set(5, "limit", nil, "remaining", nil, "percent", nil, "status", "ok", "allowed", true, "limits", []any{})
	tab.Want("aria()", "|||||")
	tab.Want("[text('count'), text('remaining'), part('bar').hidden].join()", "5 used,Unlimited,true")
	g.set(0, "limit", 0, "remaining", 0, "percent", 100, "status", "blocked", "allowed", false)
	tab.Want("aria() + text('status')", "|||||Not included in your plan")

	// Prepaid credits do not renew.
	ever := map[string]any{"name": "ever", "per": "ever", "unit": "units", "used": 85, "limit": 100, "remaining": 15, "resets_at": nil}
	forever := map[string]any{"per": "ever", "start": nil, "end": nil}
	tab.Eval("meter.removeAttribute('label')", nil)
	g.set(85, "period", forever, "limits", []any{ever}, "unit", "units", "unit_name", "credits")
	tab.Want("aria()", "meter|Usage|0|85|100|85 of 100 credits used, Almost used up, Does not renew")
	tab.Want("[text('reset'), part('reset').querySelector('time').hasAttribute('datetime')].join()", "Does not renew,false")
	ever["used"], ever["remaining"] = 100, 0
	g.set(100, "period", forever, "limits", []any{ever}, "unit", "units", "unit_name", "credits")
	tab.Want("text('prompt-text')", "You have used all 100 credits. This limit does not renew.")
	g.set(1, "limit", 1, "remaining", 0, "percent", 100, "status", "blocked", "allowed", false, "period", forever, "limits", []any{map[string]any{"name": "ever", "per": "ever", "unit": "units", "used": 1, "limit": 1, "remaining": 0, "resets_at": nil}}, "unit", "units", "unit_name", "credits")
	tab.Want("text('prompt-text')", "You have used the 1 credit. This limit does not renew.")
	g.set(42, "limits", []any{map[string]any{"name": "month", "per": "month", "used": 42, "limit": 100, "remaining": 58, "resets_at": "2126-12-01T00:00:00Z"}, ever}, "endpoints", map[string]any{})
	tab.Want("aria() + [...part('endpoints').children].map(li => li.textContent).join()", "meter|Usage this month|0|42|100|42 of 100 used, All endpoints, in total: limit reached, not enforced, Resets December 1, 2126All endpoints, in total100 of 100 units")
	tab.Eval("void meter.setAttribute('label', 'My calls')", nil)

	// The breakdown, with the keyboard.
	g.set(42, "endpoints", map[string]any{"analyze": map[string]any{"used": 25}, "image-analysis": map[string]any{"used": 17, "limit": 20, "remaining": 3, "percent": 85, "status": "warning", "allowed": true}})
	tab.Want("text('summary')", "By endpoint")
	tab.Do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	tab.Want("part('details').open", "true")
	tab.Want("[...part('endpoints').children].map(li => li.innerText.replace(/\\s+/g, ' ')).join()", "analyze 25,image-analysis 17 of 20")
	g.set(43)
	tab.Want("[...part('endpoints').children].map(li => li.innerText.replace(/\\s+/g, ' ')).join()", "analyze 43,report 0")
	tab.Want("meter.shadowRoot.activeElement?.localName", "summary")

	// Compact, and back.
	tab.Eval("void (meter.compact = true)", nil)
	tab.Want("[text('count'), part('details').hidden, part('label').checkVisibility()].join()", "43/100,true,true")
	tab.Eval("void (meter.compact = false)", nil)
	tab.Want("[text('count'), part('details').hidden, part('label').checkVisibility()].join()", "43 of 100 used,false,true")

	// There are animations, except for users who prefer reduced motion.
	tab.Want("getComputedStyle(part('fill')).transitionDuration.split(',')[0]", "0.45s")
	tab.Media("prefers-reduced-motion", "reduce")
	tab.Want("getComputedStyle(part('fill')).transitionDuration.split(',')[0]", "0s")
	tab.Media()

	// Once removed, the element unsubscribes. It does not close a client that it was given.
	tab.Eval("meter.remove()", nil)
	tab.Want("client.connection", "live")
	tab.Eval("client.close()", nil)
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	// With attributes alone it makes its own client, and closes it.
	tab.Eval("void (meter = document.createElement('usage-meter'), meter.token = '"+fakeToken(`{"sub":"x"}`)+"', document.body.append(meter))", nil)
	tab.Want("text('count')", "43 of 100 used")
	tab.Eval("void (document.body.append(document.createElement('div')), document.body.lastChild.append(meter))", nil)
	tab.Want("text('count')", "43 of 100 used")
	testkit.Eventually(t, "one stream", func() bool { open, _ := g.streams(); return open == 1 })
	tab.Eval("meter.remove()", nil)
	testkit.Eventually(t, "no stream", func() bool { open, _ := g.streams(); return open == 0 })
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
	}
}

// What a limit contains of the window before is named beside it, on both bars.
func testMeterShowsCarried(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	limit := func(name string, amount, carried int, more ...any) map[string]any {
		l := map[string]any{"name": name, "per": "month", "used": 42, "limit": amount, "remaining": amount - 42, "resets_at": "2126-12-01T00:00:00Z", "carried": carried}
		for i := 0; i < len(more); i += 2 {
			l[more[i].(string)] = more[i+1]
		}
		return l
	}
	set := func(carried int, limits ...any) {
		g.set(42, "limit", 100+carried, "carried", carried, "remaining", 58+carried, "limits", limits)
	}
	set(20, limit("month", 120, 20), limit("shared-month-units", 6500, 1500, "shared", true, "unit", "units"))
	tab := openMeter(t, b, g, "")
	tab.Want("[text('count'), text('remaining'), text('carried')].join()", "42 of 120 used,78 left,Includes 20 from last month")
	tab.Want("aria()", "meter|Usage this month|0|42|120|42 of 120 used, Includes 20 from last month, Resets December 1, 2126")
	tab.Want("[text('pool-count'), text('pool-carried'), part('pool-bar').ariaValueText].join('; ')",
		"42 of 6,500 units; Includes 1,500 units from last month; 42 of 6,500 units used, Includes 1,500 units from last month")
	tab.Eval("void (meter.compact = true)", nil)
	tab.Want("text('count') + text('carried')", "42/120")
	tab.Eval("void (meter.compact = false)", nil)
	// Nothing was left of the window before.
	set(0, limit("month", 100, 0), limit("shared-month", 5000, 0, "shared", true))
	tab.Want("[text('count'), part('carried').hidden, part('pool-carried').hidden].join()", "42 of 100 used,true,true")
	set(1, limit("day", 101, 1, "per", "day"))
	tab.Want("text('carried')", "Includes 1 from yesterday")
}

// An endpoint at a limit of its own is named at the top, and the card is not green.
func testMeterNamesWhatIsUsedUp(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	endpoint := func(used, limit int, allowed bool) map[string]any {
		return map[string]any{"used": used, "limit": limit, "remaining": limit - used, "percent": 100, "status": "ok", "allowed": allowed}
	}
	limit := func(name, endpoint, per string, used, limit int, more ...any) map[string]any {
		l := map[string]any{"name": name, "per": per, "used": used, "limit": limit, "remaining": limit - used, "resets_at": "2126-12-01T00:00:00Z"}
		if endpoint != "" {
			l["endpoint"] = endpoint
		}
		for i := 0; i < len(more); i += 2 {
			l[more[i].(string)] = more[i+1]
		}
		return l
	}
	month := limit("month", "", "month", 42, 100)
	set := func(allowed bool, endpoints map[string]any, limits ...any) {
		g.set(42, "allowed", allowed, "endpoints", endpoints, "limits", append([]any{month}, limits...))
	}
	set(true, map[string]any{"image": endpoint(15, 20, true)}, limit("image", "image", "month", 15, 20))
	tab := openMeter(t, b, g, "")
	const top = "[part('card').className, text('status'), text('attention')].join('; ')"
	tab.Want(top, "card ok; ; ")

	set(true, map[string]any{"image": endpoint(16, 20, true)}, limit("image", "image", "month", 16, 20))
	tab.Want(top, "card warning; ; image: almost used up")
	tab.Want("spoken()", "image: almost used up")
	// The headline is not used up, so its bar is not red.
	set(true, map[string]any{"image": endpoint(20, 20, false)}, limit("image", "image", "month", 20, 20))
	tab.Want(top, "card warning; ; image: limit reached")
	tab.Want("part('attention').className", "attention status blocked")
	tab.Want("spoken()", "image: limit reached")
	tab.Want("part('bar').ariaValueText", "42 of 100 used, image: limit reached, Resets December 1, 2126")
	tab.Eval("void (meter.compact = true)", nil)
	tab.Want("part('attention').checkVisibility() + text('attention')", "trueimage: limit reached")
	tab.Eval("void (meter.compact = false)", nil)

	for _, c := range []struct {
		what      string
		allowed   bool
		endpoints map[string]any
		limits    []any
		want      string
	}{
		{"two endpoints", true, map[string]any{"a": endpoint(9, 10, true), "image": endpoint(20, 20, false)},
			[]any{limit("a", "a", "month", 9, 10), limit("image", "image", "month", 20, 20)}, "card warning; ; image: limit reached, and 1 more"},
		{"too little left for an expensive endpoint", true, map[string]any{"image": map[string]any{"used": 1, "cost": map[string]any{"min": 90, "max": 90}, "allowed": false}},
			nil, "card warning; ; image: not enough left"},
		{"not in the plan", true, map[string]any{"image": endpoint(0, 0, false)}, []any{limit("image", "image", "month", 0, 0)}, "card ok; ; "},
		{"soft", true, map[string]any{"image": endpoint(20, 20, true)}, []any{limit("image", "image", "month", 20, 20, "soft", true)}, "card ok; ; "},
		{"the plan only observes", true, map[string]any{"image": endpoint(20, 20, true)}, []any{limit("image", "image", "month", 20, 20)}, "card warning; ; image: limit reached, not enforced"},
		{"most of a minute", true, map[string]any{"image": endpoint(9, 10, true)}, []any{limit("image", "image", "minute", 9, 10)}, "card ok; ; "},
		{"all of a minute", true, map[string]any{"image": endpoint(10, 10, false)}, []any{limit("image", "image", "minute", 10, 10)}, "card warning; ; image: limit reached"},
		{"the organisation", false, map[string]any{}, []any{limit("shared", "", "month", 500, 500, "shared", true)}, "card warning; ; Your organisation this month: limit reached"},
	} {
		set(c.allowed, c.endpoints, c.limits...)
		tab.Eval("'"+c.what+"'", nil)
		tab.Want(top, c.want)
	}
	g.set(100, "endpoints", map[string]any{"image": endpoint(20, 20, false)}, "limits", []any{limit("month", "", "month", 100, 100), limit("image", "image", "month", 20, 20)})
	tab.Want(top, "card blocked; Limit reached; ")
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
	}
}

func testMeterTranslates(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1234, "limit", 5000, "remaining", 3766, "percent", 24, "status", "ok", "allowed", true)
	tab := openMeter(t, b, g, "")
	tab.Want("text('count')", "1,234 of 5,000 used")
	tab.Eval(`void (meter.lang = 'de', meter.messages = { used: (used, limit) => used + ' von ' + limit + ' verbraucht', resets: 'Neu am', remaining: (n) => 'noch ' + n })`, nil)
	tab.Want("[text('count'), text('remaining'), text('reset')].join()", "1.234 von 5.000 verbraucht,noch 3.766,Neu am 1. Dezember 2126")
	tab.Want("part('reset').querySelector('time').dateTime", "2126-12-01T00:00:00Z")
}

// The language is that of the nearest lang attribute, also around a component that the element is in, and
// changes with it.
func testMeterSpeaksLanguages(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(1, "limit", 2000, "remaining", 1999, "unit", "units", "endpoints", map[string]any{"analyze": map[string]any{"used": 1, "units": 1}})
	tab := openMeter(t, b, g, "")
	for _, c := range []struct{ lang, want string }{
		{"en", "1 of 2,000 units used; 1,999 left; Resets December 1, 2126"},
		{"de-AT", "1 von 2 000 Einheiten verbraucht; noch 1 999; Neu ab: 1. Dezember 2126"},
		{"fr", "1 sur 2 000 unités; reste 1 999; Remise à zéro : 1er décembre 2126"},
		{"de_DE", "1 von 2.000 Einheiten verbraucht; noch 1.999; Neu ab: 1. Dezember 2126"},
		{"es", "1 de 2000 unidades; quedan 1999; Se renueva: 1 de diciembre de 2126"},
		{"nl", "1 of 2.000 units used; 1.999 left; Resets 1 december 2126"}, // no texts of its own
		{"not a language", "1 of 2,000 units used; 1,999 left; Resets December 1, 2126"},
	} {
		tab.Eval("document.documentElement.lang = '"+c.lang+"'", nil)
		tab.Want("[text('count'), text('remaining'), text('reset')].join('; ').replace(/[\\s\u202f]/g, ' ')", c.want)
	}
	tab.Eval("document.documentElement.lang = 'ar'", nil)
	tab.Want("text('label')", "الاستخدام هذا الشهر")
	tab.Eval("void (document.body.lang = 'de')", nil)
	tab.Want("text('label')", "Nutzung diesen Monat")
	tab.Eval("void (meter.lang = 'fr')", nil)
	tab.Want("text('label')", "Utilisation ce mois-ci")
	tab.Eval("void (meter.messages = { label: () => 'Appels' })", nil)
	tab.Want("text('label') + text('remaining').slice(0, 5)", "Appelsreste")
	// A text of the page's own remains in another language.
	tab.Eval("void (meter.lang = 'es')", nil)
	tab.Want("text('label') + text('remaining').slice(0, 6)", "Appelsquedan")
	tab.Eval("void (meter.messages = null)", nil)
	tab.Want("text('label')", "Uso de este mes")
	testMeterTakesAnyTexts(t, tab)
	// The bar grows from where lines begin, and its end is round.
	for dir, want := range map[string]string{"ltr": "0px 99px", "rtl": "99px 0px"} {
		tab.Eval("document.documentElement.dir = '"+dir+"'", nil)
		tab.Want("getComputedStyle(part('pending')).borderTopLeftRadius + ' ' + getComputedStyle(part('pending')).borderBottomRightRadius", want)
	}
	// In the shadow root of a component, which is in a part of the page in another language.
	tab.Eval(`void (meter.removeAttribute('lang'), window.outer = document.createElement('div'), outer.lang = 'es', document.body.append(outer), outer.attachShadow({ mode: 'open' }).append(meter))`, nil)
	tab.Want("text('label')", "Uso de este mes")
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
	}
}

// A text of the page may be of the other kind, missing or unknown: the meter shows the others.
func testMeterTakesAnyTexts(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	tab.Eval("void (meter.lang = 'en', meter.messages = { label: 'Quota', used: undefined, remaining: () => null, resets: () => 'New on', blocked: '', units: 'points' })", nil)
	tab.Want("[text('label'), text('count'), text('remaining'), text('reset')].join('; ')", "Quota; 1 of 2,000 points used; ; New on December 1, 2126")
	tab.Eval(`(() => {
		const { warn } = console;
		window.warnings = [];
		console.warn = (text) => warnings.push(text);
		meter.messages = { labell: 'Quota', label: 'Calls' };
		meter.messages = { labell: 'Quota', label: 'Uses' };
		console.warn = warn;
	})()`, nil)
	tab.Want("text('label')", "Uses")
	tab.Want("warnings.join()", `metergate: the elements have no text "labell", so it is not used. docs/texts.md of Metergate lists the names that messages may have.`)
	tab.Eval("void (meter.lang = 'es', meter.messages = null)", nil)
}

func testMeterOffersUpgrade(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(100)
	tab := openMeter(t, b, g, "")
	// A user who is still allowed is not asked to upgrade.
	tab.Want("part('prompt').hidden", "false")
	g.set(150, "allowed", true)
	tab.Want("text('count') + part('prompt').hidden", "150 of 100 usedtrue")
	g.set(100)
	// Without an upgrade URL there is no button.
	tab.Want("text('prompt-title') + part('upgrade-button').hidden", "Limit reachedtrue")
	tab.Eval("void meter.setAttribute('upgrade-url', 'javascript:alert(1)')", nil)
	tab.Want("part('upgrade-button').hidden", "true")
	tab.Eval("void (meter.upgradeUrl = '/pricing', meter.theme = 'dark')", nil)
	tab.Want("meter.getAttribute('theme') + meter.getAttribute('upgrade-url')", "dark/pricing")
	tab.Want("[part('upgrade-button').href, part('upgrade-button').target, part('upgrade-button').rel, part('upgrade-button').hidden].join()", g.URL+"/pricing,_blank,noopener,false")
	tab.Eval("void (window.seen = [], addEventListener('upgrade', e => { e.preventDefault(); seen.push(e.detail.url + ' ' + e.detail.state.used) }), addEventListener('click', e => seen.push(e.defaultPrevented)))", nil)
	tab.Eval("void (part('upgrade-button').focus(), part('upgrade-button').click())", nil)
	tab.Want("seen.join()", fmt.Sprintf("%s/pricing 100,true", g.URL))
	// The application's own button takes its place.
	tab.Eval(`void (window.button = document.createElement('button'), button.slot = 'upgrade', button.textContent = 'Buy', meter.append(button), meter.removeAttribute('upgrade-url'), meter.compact = true)`, nil)
	tab.Want("button.checkVisibility() + ' ' + part('upgrade-button').checkVisibility()", "true false")
	g.set(10)
	tab.Want("button.checkVisibility()", "false")
}

// A refusal can be dismissed. The next one shows again.
func testMeterRefusalIsDismissed(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := b.Open(t, serveGallery(t)+"/refusal.html", "")
	tab.Until("window.ready")
	const shown = "(part('prompt').checkVisibility() && part('prompt-title').innerText)"
	tab.Want(shown, "false")
	tab.Eval("client.refuse(refused, usage(42, { images: 20 }))", nil)
	tab.Want(shown, "Your last request was refused")
	tab.Want("part('dismiss').getAttribute('aria-label')", "Dismiss")
	tab.Eval("part('dismiss').focus()", nil)
	tab.Do(chromedp.KeyEvent(kb.Enter))
	tab.Want(shown+" + ' ' + client.current.refused", "false null")
	tab.Eval("client.refuse(refused)", nil)
	tab.Want(shown, "Your last request was refused")

	// What keeps all calls out is hidden as well, until the next refusal or the next limit.
	tab.Eval("client.refuse(month, usage(100))", nil)
	tab.Eval("part('dismiss').click()", nil)
	tab.Want(shown, "false")
	tab.Eval("client.show(usage(100))", nil)
	tab.Want(shown, "false")
	tab.Eval("client.refuse(month, usage(100))", nil)
	tab.Want(shown, "Your last request was refused")
	tab.Eval("(part('dismiss').click(), client.show(usage(10)), client.show(usage(100)))", nil)
	tab.Want(shown, "Limit reached")

	// The compact form says why it offers an upgrade, also to the mouse.
	tab.Eval("void (meter.compact = true, client.refuse({ ...month, upgrade_url: null }, usage(100)))", nil)
	tab.Want("[part('prompt').title, part('prompt-text').checkVisibility(), part('dismiss').checkVisibility()].join('; ')",
		"Your last request was refused. You have used all 100 requests for this month. Resets "+tab.String("meter.locale.date(end)")+".; true; true")
	tab.Eval("part('dismiss').click()", nil)
	tab.Want("part('prompt').checkVisibility() + ' ' + part('status').innerText", "false Limit reached")
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
	}
}

// contrast finds texts and bars with too little contrast (WCAG 2.2, 1.4.3 and 1.4.11).
const contrast = `((meters) => {
	const rgb = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => rgb(c).slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
	const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if ((rgb(c)[3] ?? 1) === 1) return c; } return getComputedStyle(document.body).backgroundColor; };
	const faults = [];
	for (const m of meters) for (const e of m.shadowRoot.querySelectorAll('*')) {
		if (!e.checkVisibility()) continue;
		const where = m.shadowRoot.querySelector('[part=card]').className + ' ' + (e.getAttribute('part') || e.className || e.localName);
		if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) {
			const r = ratio(getComputedStyle(e).color, behind(e));
			if (r < 4.5) faults.push(where + ' text ' + r.toFixed(2));
		}
		if (e.className === 'fill' && e.getBoundingClientRect().width && getComputedStyle(e).opacity === '1') {
			const r = ratio(getComputedStyle(e).backgroundColor, behind(e.parentElement.parentElement));
			if (r < 3) faults.push(where + ' bar ' + r.toFixed(2));
		}
	}
	return faults;
})([...document.querySelectorAll('usage-meter')])`

// The meter is accessible in all its states and languages. axe does not look at the contrast of bars,
// nor whether texts have room.
func testMeterIsAccessible(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	gallery := serveGallery(t)
	for _, lang := range languages {
		tab := b.Open(t, gallery+"/gallery.html?lang="+lang, "")
		tab.Until("window.ready")
		if lang == "en" || lang == "ar" { // the other languages differ in words alone
			tab.WantAccessible("meters, " + lang)
		}
		shot(t, tab, "meters-"+lang)
		for _, scheme := range []string{"light", "dark"} {
			tab.Media("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
			var faults []string
			tab.Eval(contrast, &faults)
			if len(faults) > 0 {
				t.Errorf("%s, %s: %q", lang, scheme, faults)
			}
		}
		tab.Want(`[...document.querySelectorAll('usage-meter')].filter(m => {
			const card = m.shadowRoot.querySelector('.card');
			return card.scrollWidth > card.clientWidth;
		}).map(m => m.shadowRoot.querySelector('.card').innerText).join('; ')`, "")
		if log := tab.Console(); len(log) > 0 {
			t.Errorf("%s: the console has %q", lang, log)
		}
		tab.Close()
	}
}
