package console

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// The token is kept for the tab and is nowhere else. A token that is no longer right leads back to signing in.
func (w world) testToken(t *testing.T) {
	g := startGateway(t)
	p := open(t, w.browser, g.Process, "", "#/users/u-1")
	p.Until("document.activeElement.id === 'token'")
	p.Want("document.activeElement.type + document.activeElement.autocomplete", "passwordoff")
	for range 11 {
		p.Eval("fill('Token', 'wrong'), press('Sign in')", nil)
		p.Want("document.querySelector('.sign-in .first').ariaBusy", "null")
	}
	p.Until("shown('.banner').startsWith('This token is wrong, and too many wrong tokens were sent')")
	p.Eval("fill('Token', ' "+viewerToken+" '), press('Sign in')", nil)
	p.Want("shown('h1') + shown('#role')", "u-1 freeSigned in as viewer")
	wantTokenHidden := func(token string) {
		t.Helper()
		var places string
		p.Eval(`JSON.stringify([location.href, history.state, document.cookie, { ...localStorage }, document.documentElement.outerHTML, [...document.querySelectorAll('input')].map((i) => i.value), performance.getEntries().map((e) => e.name)])`, &places)
		if strings.Contains(places, token) {
			t.Errorf("the token is in %s", places)
		}
	}
	wantTokenHidden(viewerToken)
	p.Reload()
	p.Want("shown('h1') + shown('#role')", "u-1 freeSigned in as viewer")
	p.Eval("press('Sign out')", nil)
	p.Want("shown('.banner') + sessionStorage.length + shown('#side')", "You are signed out.0")
	p.Eval("fill('Token', '"+gatewaytest.AdminToken+"'), press('Sign in')", nil)
	p.Want("shown('h1') + shown('#role')", "u-1 freeSigned in as admin")
	wantTokenHidden(gatewaytest.AdminToken)

	text := strings.Replace(consoleYAML, "${ADMIN_TOKEN:-"+gatewaytest.AdminToken, "${ADMIN_TOKEN:-another-admin-token-for-tests-012345", 1)
	g.Save(text)
	if status, body := g.Reload(gatewaytest.AdminToken); status != 200 && status != 401 { // 401: the gateway has noticed the file by itself
		t.Fatal(status, body)
	}
	p.Until("shown('.banner').startsWith('The gateway does not accept the token any more.')")
	p.Want("location.hash", "#/users/u-1")

	off := gatewaytest.StartWith(t, strings.NewReplacer("token: \"${ADMIN_TOKEN:-"+gatewaytest.AdminToken+"}\", viewer_token: \"${VIEWER_TOKEN:-"+viewerToken+"}\"", "token: ''").Replace(consoleYAML), "UPSTREAM=http://127.0.0.1:9", "SECOND=http://127.0.0.1:9/b")
	p = open(t, w.browser, off.Process, "", "")
	p.Eval("fill('Token', 'any'), press('Sign in')", nil)
	p.Until("shown('.banner').startsWith('Nobody can sign in: this gateway has no admin.token.')")
}

// tabTo presses Tab, or Shift and Tab, until what has the focus fits an expression.
func (p page) tabTo(t *testing.T, expression string, back bool) {
	t.Helper()
	for range 60 {
		if p.String("Boolean(((e) => "+expression+")(document.activeElement))") == "true" {
			return
		}
		if back {
			p.Do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)))
		} else {
			p.Do(chromedp.KeyEvent(kb.Tab))
		}
	}
	t.Fatalf("Tab does not lead to what fits %s", expression)
}

// Signing in, finding a user and granting requests needs no mouse. The dialog says in numbers what will
// happen, and the grant is made once, however often it is sent.
func (w world) testKeyboard(t *testing.T) {
	gatewaytest.Administer(t, w.Process, "PUT", "/admin/users/zoe/counts", `{"per": "month", "endpoints": {"analyze": 100}}`)
	p := open(t, w.browser, w.Process, "", "")
	p.Until("document.activeElement.id === 'token'")
	p.Do(chromedp.KeyEvent(gatewaytest.AdminToken + kb.Enter))
	p.Want("shown('h1') + document.activeElement.tagName", "OverviewH1")
	p.tabTo(t, "e.innerText === 'Users'", true)
	p.Do(chromedp.KeyEvent(kb.Enter))
	p.Want("shown('h1') + document.activeElement.tagName", "UsersH1")
	p.tabTo(t, "e.type === 'search'", false)
	p.Do(chromedp.KeyEvent("zoe"))
	p.Want("shown('.users tbody th a')", "zoe")
	p.tabTo(t, "e.innerText === 'zoe'", false)
	p.Do(chromedp.KeyEvent(kb.Enter))
	p.Want("shown('h1') + shown('[data-limit=month] .left')", "zoe freenone left: blocked")
	p.tabTo(t, "e.innerText === 'Grant more'", false)
	p.Do(chromedp.KeyEvent(kb.Enter))
	p.Want("document.activeElement.tagName + document.querySelector('.effect li').innerText", "SELECTmonth: 100 of 100 used; the limit becomes 150, so 50 are left.")
	p.tabTo(t, "e.type === 'number'", false)
	p.Do(chromedp.KeyEvent(kb.ArrowUp))
	p.Want("document.querySelector('.effect li').innerText + document.querySelector('dialog .first').innerText", "month: 100 of 100 used; the limit becomes 151, so 51 are left.Grant 51 requests")
	// Without a reason nothing is sent.
	p.Do(chromedp.KeyEvent(kb.Enter))
	p.Want("shown('dialog .fault') + document.activeElement.type", "Say why: the change is recorded with its reason.text")
	// The answer is lost, so the person sends the grant again.
	p.Eval(`void (window.realFetch = fetch, window.sent = [], window.fetch = async (...args) => {
		const response = await realFetch(...args);
		if (args[1]?.method !== 'POST') return response;
		sent.push(args[1].headers['Idempotency-Key']);
		if (sent.length === 1) throw new TypeError('lost');
		return response;
	})`, nil)
	p.Do(chromedp.KeyEvent("a bad week" + kb.Enter))
	p.Want("shown('dialog .banner')", "The gateway does not answer. It may be stopped, or unreachable from here. Press again: it is made once.")
	p.Do(chromedp.KeyEvent(kb.Enter))
	p.Want("shown('[data-limit=month] .left') + shown('[data-limit=month] .tag')", "51 left51 granted")
	p.Want("sent.length + String(sent[0] === sent[1])", "2true")
	p.Want("document.activeElement.innerText + document.getElementById('spoken').textContent", "Grant moreGranted 51 requests to zoe.")
	p.Want("shown('section:last-of-type tbody tr').includes('Grant 51 requests, month a bad week')", "true")

	// The other changes, by their names.
	p.Eval("press('Change the plan'), fill('Plan', 'pro'), fill('Reason', 'pays now')", nil)
	p.Want("[...document.querySelectorAll('.effect li')].some((li) => li.innerText === 'month: 100 of 151 used; the limit becomes 1,051, so 951 are left.')", "true")
	p.Until("shown('.effect').includes('minute: 0 of 60 used, so 60 are left. The plan of now does not have this limit.') && shown('.effect').includes('At most 3 requests may run at once. Now 0 run.')")
	p.Eval("press('Change the plan to pro')", nil)
	p.Want("shown('h1') + shown('[data-limit=month] .left')", "zoe pro951 left")
	// It says as much where a plan was chosen before.
	p.Eval("press('Change the plan'), fill('Plan', 'free')", nil)
	p.Until("shown('.effect').includes('month: 100 of 1,051 used; the limit becomes 151, so 51 are left. image-analysis-month: 0 of 20 used, so 20 are left.') && shown('.effect').includes('minute: the plan free does not have this limit.')")
	p.Eval("press('Cancel')", nil)
	p.Want("document.querySelectorAll('dialog').length", "0")
	p.Eval("press('Reset'), fill('Reason', 'our fault')", nil)
	p.Want("document.querySelector('.effect li').innerText", "month: 100 of 1,051 used; becomes 0, so 1,051 are left.")
	p.Eval("press('Reset to 0')", nil)
	p.Want("shown('[data-limit=month] .left')", "1,051 left")
	p.Eval("press('Clear the chosen plan'), fill('Reason', 'left')", nil)
	p.Eval("press('Clear the plan')", nil)
	p.Want("shown('h1') + named('Clear the chosen plan').length", "zoe free0")
}

// A viewer sees everything, finds no button that changes anything, and is refused by the gateway as well.
func (w world) testViewer(t *testing.T) {
	p := open(t, w.browser, w.Process, viewerToken, "#/users/u-00007")
	p.Until("shown('[data-limit=month]').includes('8 of 100')")
	p.Until("shown('main').includes('You are signed in as viewer, who can see everything and change nothing.')")
	p.wantLoaded()
	p.Want("[...document.querySelectorAll('main button')].map((b) => b.innerText).join()", "")
	p.goTo("#/upstreams", "Upstreams")
	p.Until("document.querySelectorAll('main tbody tr').length === 2")
	p.Want("[...document.querySelectorAll('main button')].filter((b) => b.checkVisibility()).map((b) => b.innerText).join()", "")
	for _, change := range []string{"users/u-00007/grants", "users/u-00007/reset", "reload"} {
		p.Want(fmt.Sprintf(`fetch('admin/%s', { method: 'POST', headers: { Authorization: 'Bearer ' + sessionStorage.getItem('metergate-console-token') } }).then(async (r) => r.status + (await r.json()).reason)`, change), "403read_only")
	}
}

// What happens shows without loading the page again: on the page of a user, in the overview, and that the
// gateway is gone and comes back.
func (w world) testLive(t *testing.T) {
	g := startGateway(t, "ADMIN="+testkit.FreeAddress(t))
	overview := open(t, w.browser, g.Process, gatewaytest.AdminToken, "#/overview")
	overview.Want("shown('#live') + shown('dt:first-child + dd').includes('0')", "Livetrue")
	p := open(t, w.browser, g.Process, gatewaytest.AdminToken, "#/users/u-1")
	p.Until("shown('[data-limit=month]').includes('0 of 100')")
	send(t, g.Process, "analyze", testkit.Token("u-1", "free"))
	p.Until("shown('[data-limit=month]').includes('1 of 100')")
	overview.Until("shown('.figures').startsWith('Requests 1 ')")
	// What somebody has opened stays open, with its focus.
	p.Until("named('Show endpoints by day').length || document.querySelectorAll('.numbers summary').length === 2")
	p.Eval("window.last = [...document.querySelectorAll('.numbers summary')].at(-1), last.click(), last.focus()", nil)
	send(t, g.Process, "analyze", testkit.Token("u-1", "free"))
	p.Until("shown('[data-limit=month]').includes('2 of 100') && shown('.numbers table').includes('analyze 2')")
	p.Want("document.activeElement === last && last.parentElement.open", "true")
	// The numbers of another configuration are shown, and what it has made so is tried no longer.
	amount := `document.querySelector('[data-limit="free/month"]')?.value`
	overview.goTo("#/plans?set=free%2Fmonth%3D150&set=pro%2Fmonth%3D900", "Plans")
	overview.Until(amount + " === '150' && shown('.result .banner')")
	overview.Want("shown('.plans').includes('100 requests a month')", "true")
	g.Save(strings.Replace(consoleYAML, "requests: 100, per: month", "requests: 150, per: month", 1))
	if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
		t.Fatal(status, body)
	}
	overview.Until("shown('.plans').includes('150 requests a month') && location.hash === '#/plans?set=pro%2Fmonth%3D900'")
	overview.Want(amount, "150")

	// The status is that of the nearest limit, as in the list of users.
	gatewaytest.Administer(t, g.Process, "PUT", "/admin/users/u-1/counts", `{"per": "month", "endpoints": {"image-analysis": 20}}`)
	p.Until("shown('.facts').includes('blocked nothing is left of image-analysis-month')")
	overview.Eval(`void (window.realFetch = fetch, window.fetch = (...args) => (String(args[0]).endsWith('/admin/events') ? Promise.reject(new TypeError('no streams')) : realFetch(...args)))`, nil)

	g.Signal(syscall.SIGTERM)
	<-g.Done()
	p.Until("/^Not live since \\d\\d:\\d\\d:\\d\\d$/.test(shown('#live'))")
	p.Eval("void (location.hash = '#/users')", nil)
	p.Until("shown('.banner').startsWith('The gateway does not answer.') && named('Try again').length === 1")
	again := g.Restart()
	p.Want("shown('#live')", "Live")
	p.Eval("press('Try again')", nil)
	p.Want("shown('.users tbody th a')", "u-1")

	// Where no stream of events arrives, the page of a user still looks, and so does a dialog.
	overview.Until("shown('#live').startsWith('Not live since')")
	overview.goTo("#/users/u-1", "u-1 free")
	overview.Until("shown('[data-limit=month]').includes('22 of 150') && named('Grant more').length === 1")
	overview.Eval("press('Grant more')", nil)
	overview.Until("shown('.effect').includes('month: 22 of 150 used') && /^As of \\d\\d:\\d\\d:\\d\\d\\.$/.test(shown('dialog .as-of'))")
	send(t, again, "analyze", testkit.Token("u-1", "free"))
	overview.Until("shown('.effect').includes('month: 23 of 150 used') && shown('[data-limit=month]').includes('23 of 150')")
	overview.Eval("press('Cancel')", nil)
	g.Save(strings.Replace(consoleYAML, "free: {", "free: { mode: observe,", 1))
	overview.Until("shown('.facts').includes('image-analysis-month is used up, but observe refuses nothing') && shown('[data-limit=image-analysis-month] .left') === 'none left, but observe refuses nothing'")
}

// When the store is down, every view says so, and shows what is known.
func (w world) testStoreDown(t *testing.T) {
	redis := redistest.Start(t)
	g := startGateway(t, "STORE="+redis.URL(), "STORE_TIMEOUT=250ms")
	send(t, g.Process, "analyze", testkit.Token("u-1", "free"))
	p := open(t, w.browser, g.Process, gatewaytest.AdminToken, "#/users/u-1")
	p.Until("shown('[data-limit=month]').includes('1 of 100')")
	redis.Stop()
	p.goTo("#/overview", "Overview")
	p.Until("shown('.banner.bad').includes('The store does not work')")
	p.wantAccessible(t, "overview without a store")
	for _, view := range []string{"#/users", "#/plans", "#/users/u-2"} {
		p.Eval("void (location.hash = '"+view+"')", nil)
		p.Until("/store/i.test(shown('.banner'))")
	}
	p.wantAccessible(t, "user without a store")
}

// A target is drained with a reason, after the page has said what will happen.
func (w world) testDrain(t *testing.T) {
	p := open(t, w.browser, w.Process, gatewaytest.AdminToken, "#/upstreams")
	p.Until("document.querySelectorAll('main tbody tr').length === 2")
	p.Until("shown('main tbody tr:first-child').includes('75%')")
	p.Eval("document.querySelector('tbody button').click(), fill('Reason', 'new kernel')", nil)
	p.Until("shown('.effect').includes('gets 100% of the requests; now it is 25%.')")
	p.Eval("press('Drain')", nil)
	p.Until("shown('main tbody tr:first-child').includes('drained since') && shown('main tbody tr:first-child').includes('new kernel')")
	p.Until("document.querySelector('.snippet').textContent.includes('weight: 0')")
	// The last target stays.
	p.Eval("document.querySelectorAll('tbody button')[1].click(), fill('Reason', 'both')", nil)
	p.Until("shown('dialog').includes('What will happen')")
	p.Eval("press('Drain')", nil)
	p.Until("shown('dialog .banner')")
	p.Eval("press('Cancel')", nil)
	p.Eval("document.querySelector('tbody button').click(), fill('Reason', 'done')", nil)
	p.Eval("press('Undrain')", nil)
	p.Until("shown('main tbody tr:first-child').includes('healthy')")
	w.testFocusStays(t, p)
	wantUpstreamRules(p)
	p.goTo("#/overview", "Overview")
	p.Until("shown('main').includes('new kernel')")
}

// While a target is drained and undrained elsewhere, the page changes under what has the focus, is open,
// selected and scrolled, and all of that stays.
func (w world) testFocusStays(t *testing.T, p page) {
	p.Resize(375, 800)
	p.Eval(`window.table = document.querySelector('main .scroll'), window.swap = document.querySelector('main details'), window.text = swap.querySelector('pre'),
		swap.open = true, swap.querySelector('summary').focus(), getSelection().selectAllChildren(text)`, nil)
	p.Until("table.tabIndex === 0")
	p.Eval("table.scrollLeft = 40", nil)
	second := p.String("document.querySelectorAll('main tbody code')[1].innerText")
	for i, focused := range []string{"swap.querySelector('summary')", "table", "swap.querySelector('button')"} {
		p.Eval("window.focused = "+focused+", focused.focus({ preventScroll: true })", nil)
		change, shown := "drain", "true"
		if i%2 == 1 {
			change, shown = "undrain", "false"
		}
		gatewaytest.Administer(t, w.Process, "POST", "/admin/upstreams/analysis/"+change, fmt.Sprintf(`{"url": %q, "reason": "test"}`, second))
		p.Want("shown('main tbody tr:last-child').includes('drained since')", shown)
		p.Want("[document.activeElement === focused, swap.isConnected && swap.open, table.isConnected && table.scrollLeft, getSelection().toString().trim() === text.textContent.trim()].join()", "true,true,40,true")
	}
	gatewaytest.Administer(t, w.Process, "POST", "/admin/upstreams/analysis/undrain", fmt.Sprintf(`{"url": %q, "reason": "test"}`, second))
	p.Resize(1280, 900)
	p.Want("shown('main tbody tr:last-child').includes('drained since')", "false")
	p.Eval("getSelection().empty()", nil)
}

// wantUpstreamRules asks the page's own functions what they make of upstreams that are hard to have.
func wantUpstreamRules(p page) {
	for code, want := range map[string]string{
		// A weight of 0 stays, the new target gets about 5%, and a $ begins no variable.
		"upstreams.swapYAML({ name: 'api', targets: [{ url: 'http://a/$x', weight: 3 }, { url: 'http://b', weight: 1 }, { url: 'http://c', weight: 0 }] })": `upstreams:
  api:
    targets:
      - { url: "http://a/$$x", weight: 15 }
      - { url: "http://b", weight: 5 }
      - { url: "http://c", weight: 0 }
      - { url: "http://NEW-HOST:9000", weight: 1 }
`,
		"upstreams.swapYAML({ name: 'api', targets: [{ url: 'http://a', weight: 200 }] })": `upstreams:
  api:
    targets:
      - { url: "http://a", weight: 200 }
      - { url: "http://NEW-HOST:9000", weight: 11 }
`,
		// An ejected target takes over nothing.
		"upstreams.without({ targets: [{ url: 'a', weight: 1 }, { url: 'b', weight: 1, healthy: true, ejected_until: '2026-11-30T07:00:00Z' }, { url: 'c', weight: 1, healthy: true, share: 0.5 }] }, 'a').join()": "c gets 100% of the requests; now it is 50%.",
		// A target that gets no requests cannot be drained.
		"upstreams.showUpstream({ name: 'api', yaml: '', targets: [{ url: 'a', weight: 0, healthy: true }, { url: 'b', weight: 1, healthy: true }] }, true).querySelectorAll('tbody button').length":                                              "1",
		"overview.faultsOf({ upstreams: { upstreams: [{ name: 'api', targets: [{ url: 'http://a', healthy: true, ejected_until: '2026-11-30T07:00:00Z' }] }] }, checks: { 'upstream api': 'http://a is ejected', capacity: 'full' } }).join('|')": "capacity: full|api: http://a gets no requests for the moment, because it has failed.",
	} {
		p.Want("Promise.all(['upstreams', 'overview'].map((name) => import(`/console/${name}.js`))).then(([upstreams, overview]) => String("+code+"))", want)
	}
}
