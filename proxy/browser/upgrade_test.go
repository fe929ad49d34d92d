package browser_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"metergate/proxy/browser/browsertest"
)

// openUpgrade opens a page with <usage-upgrade>, in `dialog`, and made-up clients: see testdata/upgrade.js.
func openUpgrade(t *testing.T, b *browsertest.Browser, gallery, lang string) *browsertest.Tab {
	t.Helper()
	tab := b.Open(t, gallery+"/upgrade.html?lang="+lang, "")
	tab.Until("window.ready")
	return tab
}

// dialogTexts are what the dialog says: its title, its text, what is used, when that resets, and its buttons.
const dialogTexts = "[dialog.open, ...['prompt-title', 'prompt-text', 'label', 'count', 'reset', 'later', 'upgrade-button'].map(text)].join('|')"

func testUpgradeOpens(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openUpgrade(t, b, serveGallery(t), "en")
	tab.Eval("enter('reached')", nil)
	tab.Until("dialog.open")
	resets := "Resets " + tab.String("dialog.locale.date('2026-12-01T00:00:00Z')") + "."
	for _, c := range []struct{ state, want string }{
		{"reached", "true|Limit reached|You have used all 100 requests for this month.|Usage this month|100 of 100 requests|" + resets + "|Not now|Upgrade"},
		{"endpoint", "true|Limit reached|You have used all 20 image-analysis requests for this month.|image-analysis, this month|20 of 20 requests|" + resets + "|Not now|Upgrade"},
		{"short", "true|Not enough left|The request may cost 5 credits, and only 2 of 5,000 are left for this month.|Usage this month|4,998 of 5,000 credits|" + resets + "|Not now|Upgrade"},
		{"held", "true|The rest is in use|Requests that are still running may use up the rest. Try again in a moment.|Usage this month|99 of 100 requests|" + resets + "|Not now|Upgrade"},
		{"organisation", "true|Limit reached|Your organisation has used all 6,500 requests for this month.|Your organisation this month|6,500 of 6,500 requests|" + resets + "|Not now|Upgrade"},
		{"ever", "true|Limit reached|You have used all 85 credits.|Usage|85 of 85 credits|This limit does not renew.|Not now|Upgrade"},
		{"not in plan", "true|Not included in your plan|Your plan does not include report.||||Not now|Upgrade"},
		{"without a URL", "true|Limit reached|You have used all 100 requests for this month.|Usage this month|100 of 100 requests|" + resets + "|Close|"},
		{"prompted", "true|Upgrade your plan|With a larger plan you can send more requests.|Usage this month|42 of 100 requests|" + resets + "|Close|Upgrade"},
		{"admitted", "true|You can continue|Your requests are accepted again.||||Close|"},
	} {
		tab.Eval(fmt.Sprintf("enter(%q)", c.state), nil)
		tab.Want(dialogTexts, c.want)
	}

	// Where the button leads: the attribute, the refusal, the usage.
	tab.Eval("enter('reached')", nil)
	tab.Want("part('upgrade-button').href", "https://example.com/pricing")
	tab.Eval("void (dialog.upgradeUrl = '/mine')", nil)
	tab.Want("new URL(part('upgrade-button').href).pathname", "/mine")
	tab.Eval("void (dialog.upgradeUrl = null)", nil)

	// The application may show something of its own instead: the dialog makes room.
	tab.Eval("void (window.asked = [], dialog.addEventListener('upgrade', (e) => { e.preventDefault(); asked.push(e.detail.url + ' ' + e.detail.state.used); }, { once: true }))", nil)
	tab.Eval("part('upgrade-button').click()", nil)
	tab.Want("asked + ' ' + dialog.open", "https://example.com/pricing 100 false")

	testUpgradeOpensOnceForManyRefusals(t, tab)
	// A slotted button takes the place of the link.
	tab.Eval("void dialog.append(Object.assign(document.createElement('button'), { slot: 'upgrade', textContent: 'Buy' }))", nil)
	tab.Eval("enter('without a URL')", nil)
	tab.Want("dialog.querySelector('button').checkVisibility() + text('later')", "trueNot now")
	// Removed from the page, it closes.
	tab.Eval("dialog.remove()", nil)
	tab.Want("dialog.open", "false")
	if log := tab.Console(); len(log) > 0 {
		t.Errorf("the console has %q", log)
	}
}

// The dialog closes with the keyboard and the mouse, and the focus returns to where it was.
func testUpgradeCloses(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openUpgrade(t, b, serveGallery(t), "en")
	tab.Eval("void (window.closes = 0, dialog.addEventListener('close', () => closes++))", nil)
	const button = "document.querySelector('main > button')"
	beside := chromedp.MouseClickXY(5, 5)
	for i, act := range []func(){
		func() { tab.Do(chromedp.KeyEvent(kb.Escape)) },
		func() { tab.Eval("part('later').click()", nil) },
		func() { tab.Eval("part('dismiss').click()", nil) },
		func() { tab.Do(beside) },
		func() { tab.Eval("dialog.close()", nil) },
	} {
		tab.Eval(button+".focus()", nil)
		tab.Eval("enter('reached')", nil)
		tab.Want("dialog.open + ' ' + (dialog.shadowRoot.activeElement !== null)", "true true")
		act()
		tab.Want("dialog.open + ' ' + closes + ' ' + (document.activeElement === "+button+")", fmt.Sprint("false ", i+1, " true"))
	}
	// A click inside does not close, nor does one that only ends beside it.
	tab.Eval("enter('reached')", nil)
	tab.Eval(`(() => {
		const inner = part('dialog');
		part('prompt-text').dispatchEvent(new PointerEvent('pointerdown', { bubbles: true, composed: true }));
		inner.dispatchEvent(new MouseEvent('click', { bubbles: true, composed: true }));
	})()`, nil)
	tab.Want("dialog.open", "true")
	tab.Eval("dialog.close()", nil)
}

func testUpgradeOpensOnceForManyRefusals(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	tab.Eval(`(async () => {
		await enter('reached');
		window.opened = 0;
		new MutationObserver(() => { opened += dialog.open; }).observe(part('dialog'), { attributeFilter: ['open'] });
		dialog.close();
		const sent = Date.now() - 1000;
		for (let i = 0; i < 20; i++) client.refuse({ ...month, sent_at: sent });
	})()`, nil)
	tab.Want("dialog.open + ' ' + opened", "false 0")
	// It was sent after the dialog was closed.
	tab.Eval("client.refuse({ ...month, sent_at: Date.now() + 1000 })", nil)
	tab.Want("dialog.open + ' ' + opened", "true 1")
	tab.Eval("dialog.close()", nil)
	tab.Eval("client.dispatchEvent(new CustomEvent('upgrade-prompt', { detail: { ...client.current, endpoint: null } }))", nil)
	tab.Want("dialog.open + ' ' + text('prompt-title')", "true Limit reached")
	tab.Eval("dialog.close()", nil)
}

// Calls that ran when the user closed the dialog do not open it again. A later call does.
func testUpgradeAndRunningCalls(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	g.set(100)
	answer := held(g)
	refuse := func() {
		answer <- func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(429)
			fmt.Fprintf(w, `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","status":429,"endpoint":"analyze","violated-policies":["month"],"usage":%s}`, g.usage())
		}
	}
	tab := openClient(t, b, g, "")
	tab.Want(shown, "100,0")
	tab.Eval(`(async () => {
		await import('/usage/upgrade.js');
		window.dialog = document.createElement('usage-upgrade');
		window.refusals = 0;
		window.opened = 0;
		client.addEventListener('usage-exceeded', () => refusals++);
		dialog.client = client;
		document.body.append(dialog);
		new MutationObserver(() => { opened += dialog.open; }).observe(dialog.shadowRoot.querySelector('dialog'), { attributeFilter: ['open'] });
		for (let i = 0; i < 3; i++) client.fetch('/api/analyze');
	})()`, nil)
	tab.Want(shown, "100,3")
	refuse()
	tab.Want("[refusals, opened, dialog.open].join()", "1,1,true")
	tab.Eval("dialog.close()", nil)
	refuse()
	refuse()
	tab.Want("[refusals, opened, dialog.open].join()", "3,1,false")
	tab.Eval("void client.fetch('/api/analyze')", nil)
	refuse()
	tab.Want("[refusals, opened, dialog.open].join()", "4,2,true")
	tab.Eval("dialog.close()", nil)
	tab.Eval("client.promptUpgrade('analyze')", nil)
	tab.Want("[refusals, opened, dialog.open].join()", "4,3,true")
	// A grant.
	g.set(50)
	tab.Want("dialog.open", "false")
	tab.Eval("client.close()", nil)
}

// A dialog that is not seen would block the page: it opens once it is rendered, if calls are still kept out.
func testUpgradeInHiddenPart(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openUpgrade(t, b, serveGallery(t), "en")
	tab.Eval("void (window.around = document.createElement('div'), dialog.before(around), around.append(dialog))", nil)
	for _, hide := range []string{"around.style.display = 'none'", "dialog.hidden = true, dialog.style.display = 'none'"} {
		const showAgain = "void (around.style.display = '', dialog.hidden = false, dialog.style.display = '')"
		tab.Eval("void ("+hide+")", nil)
		tab.Eval("enter('reached')", nil)
		tab.Want("dialog.open + ' ' + document.querySelectorAll(':modal').length", "false 0")
		tab.Eval(showAgain, nil)
		tab.Want("dialog.open + ' ' + text('prompt-title')", "true Limit reached")
		// It goes with the part that it is in, and comes back.
		tab.Eval("void ("+hide+")", nil)
		tab.Want("dialog.open", "false")
		tab.Eval(showAgain, nil)
		tab.Want("dialog.open", "true")
		tab.Eval("void ("+hide+")", nil)
		tab.Want("dialog.open", "false")
		tab.Eval("client.show(usage(10))", nil)
		tab.Eval(showAgain, nil)
		tab.Eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))", nil)
		tab.Want("dialog.open", "false")
	}
	tab.Eval("void (around.style.visibility = 'hidden')", nil)
	tab.Eval("enter('reached')", nil)
	tab.Want("dialog.open + ' ' + getComputedStyle(part('dialog')).visibility", "true visible")
}

// Of the dialogs of a client, the first that is rendered opens, alone.
func testUpgradeOpensOneOfMany(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openUpgrade(t, b, serveGallery(t), "en")
	tab.Eval(`(async () => {
		await enter('prompted');
		dialog.close();
		window.second = document.createElement('usage-upgrade');
		second.client = client;
		document.body.append(second);
		await Promise.resolve();
	})()`, nil)
	tab.Eval("states.reached(client)", nil)
	tab.Want("dialog.open + ' ' + second.open", "true false")
	tab.Eval("second.show()", nil)
	tab.Want("dialog.open + ' ' + second.open", "true false")
	tab.Eval("void (dialog.close(), dialog.style.display = 'none')", nil)
	tab.Eval("client.refuse({ ...month, sent_at: Date.now() + 1000 })", nil)
	tab.Want("dialog.open + ' ' + second.open", "false true")
	tab.Eval("void (second.style.display = 'none')", nil)
	tab.Want("dialog.open + ' ' + second.open", "false false")
	tab.Eval("void (dialog.style.display = '')", nil)
	tab.Want("dialog.open + ' ' + second.open", "true false")
	tab.Eval("second.remove()", nil)
	tab.Want("dialog.open", "true")
}

// The dialog closes when calls are admitted again, unless the user is doing something in it.
func testUpgradeClosesByItself(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openUpgrade(t, b, serveGallery(t), "en")
	for _, admit := range []string{
		"client.show(usage(10))",                                          // a grant
		"client.show(usage(100, { plan: 'pro', limit: 5000 }))",           // another plan
		"client.show(null)",                                               // another user
		"void (dialog.client = fakeClient(usage(1)))",                     // another client
		"(part('upgrade-button').focus(), client.show(usage(10)))",        // the user came back from the upgrade
		"(window.keep = client, client.dismiss(), client.show(usage(1)))", // dismissed in the meter, and admitted
	} {
		tab.Eval("enter('reached')", nil)
		tab.Until("dialog.open")
		tab.Eval(admit, nil)
		tab.Want("dialog.open", "false")
	}
	tab.Eval("enter('reached')", nil)
	tab.Eval("client.show(usage(10))", nil)
	tab.Want("dialog.shadowRoot.querySelector('[role=status]').textContent.trim()", "Your requests are accepted again.")

	// Still nothing is admitted: the count moved.
	tab.Eval("enter('reached')", nil)
	tab.Eval("client.show({ ...usage(101), refused: month })", nil)
	tab.Want("dialog.open + ' ' + text('count')", "true 101 of 100 requests")
	// The user has moved the focus.
	tab.Do(chromedp.KeyEvent(kb.Tab))
	tab.Want("dialog.shadowRoot.activeElement.getAttribute('part')", "dismiss")
	tab.Eval("client.show(usage(10))", nil)
	tab.Want("dialog.open + ' ' + text('prompt-title') + ' ' + dialog.shadowRoot.activeElement.getAttribute('part')", "true You can continue dismiss")
	tab.Do(chromedp.KeyEvent(kb.Enter))
	tab.Want("dialog.open", "false")
}

func testUpgradeIsAccessible(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	gallery := serveGallery(t)
	for _, lang := range languages {
		tab := openUpgrade(t, b, gallery, lang)
		states := []string{"reached", "not in plan"} // the other languages differ in words alone
		if lang == "en" {
			tab.Eval("Object.keys(states)", &states)
		}
		for _, state := range states {
			tab.Eval(fmt.Sprintf("enter(%q)", state), nil)
			tab.Until("dialog.open")
			if lang == "en" || lang == "ar" {
				tab.WantAccessible(state+", "+lang, "usage-upgrade")
			}
		}
		tab.Do(chromedp.EmulateViewport(320, 640))
		for _, state := range []string{"reached", "short", "not in plan"} {
			tab.Eval(fmt.Sprintf("enter(%q)", state), nil)
			tab.Until("dialog.open")
			tab.Want("part('dialog').scrollWidth - part('dialog').clientWidth", "0")
			tab.Want("[document.documentElement.scrollWidth, part('dialog').getBoundingClientRect().width <= 288].join()", "320,true")
			shot(t, tab, "upgrade-phone-"+strings.ReplaceAll(state, " ", "-")+"-"+lang)
		}
		tab.Do(chromedp.EmulateViewport(900, 560))
		shot(t, tab, "upgrade-not-in-plan-"+lang)
		tab.Eval("enter('reached')", nil)
		shot(t, tab, "upgrade-reached-"+lang)
		if log := tab.Console(); len(log) > 0 {
			t.Errorf("%s: the console has %q", lang, log)
		}
		tab.Close()
	}
}

// Each language has all texts, and each text takes the same values.
func testMessagesAreComplete(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openPage(t, b, g)
	tab.Want("import('/usage/messages.js').then((m) => Object.keys(m.messages).join())", strings.Join(languages, ","))
	tab.Want(`import('/usage/messages.js').then(({ messages }) => Object.entries(messages).flatMap(([lang, texts]) => {
		const kind = (texts, key) => (typeof texts[key] === 'function' ? 'takes ' + texts[key].length : typeof texts[key]);
		return [...new Set([...Object.keys(messages.en), ...Object.keys(texts)])]
			.filter((key) => kind(texts, key) !== kind(messages.en, key) || texts[key] === '')
			.map((key) => lang + '.' + key + ' ' + kind(texts, key) + ', ' + kind(messages.en, key) + ' in English');
	}).join('; '))`, "")
	// No text has a value that it could not write, whatever it gets.
	tab.Want(`import('/usage/messages.js').then(({ messages }) => {
		const count = (value) => ({ value, toString: () => String(value) });
		const values = { per: ['minute', 'hour', 'day', 'week', 'month', 'year', 'ever'], endpoint: [undefined, 'report'], shared: [undefined, true], unit: ['', 'credits'] };
		const faults = [];
		for (const [lang, texts] of Object.entries(messages)) {
			for (const [key, text] of Object.entries(texts)) {
				if (typeof text !== 'function') continue;
				const names = /^\(?([^)=]*)\)?\s*=>/.exec(String(messages.en[key]))[1].split(',').map((name) => name.trim());
				for (let i = 0; i < 40; i++) {
					const said = text(...names.map((name, at) => {
						const some = values[name];
						if (name === 'endpoint' && key === 'price') return 'report';
						if (some) return some[(i >> at) % some.length];
						return ['name', 'status', 'text', 'when', 'time'].includes(name) ? 'word' : count([0, 1, 2, 3, 11, 100][i % 6]);
					}));
					if (typeof said !== 'string' || /undefined|null|object|NaN|function|  | \.|^ | $/.test(said)) faults.push(lang + '.' + key + ': "' + said + '"');
				}
			}
		}
		return [...new Set(faults)].join('; ');
	})`, "")
	tab.Want(`import('/usage/messages.js').then(({ messages: { fr, es } }) => {
		const n = (value) => ({ value, toString: () => String(value) });
		return [fr, es].flatMap((texts) => [undefined, true].map((shared) => texts.limitShort(n(5), n(2), n(100), undefined, 'ever', '', shared)))
			.concat(es.chartExhaustsToday('1:05'), es.chartExhaustsToday('11:05')).join('\n');
	})`, `La requête peut coûter 5, et il n’en reste que 2 sur 100.
La requête peut coûter 5, et il n’en reste à votre organisation que 2 sur 100.
La solicitud puede costar 5, y solo quedan 2 de 100.
La solicitud puede costar 5, y a tu organización solo le quedan 2 de 100.
A este ritmo, el límite se alcanza hoy a la 1:05.
A este ritmo, el límite se alcanza hoy a las 11:05.`)
	// Arabic has six forms.
	tab.Want(`import('/usage/messages.js').then(({ messages: { ar } }) => [0, 1, 2, 3, 11, 100].map((value) => {
		const n = { value, toString: () => String(value) };
		return ar.amount(n, ar.requests(n));
	}).join())`, "0 طلب,طلب واحد,طلبين,3 طلبات,11 طلبًا,100 طلب")
}
