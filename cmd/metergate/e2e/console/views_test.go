package console

import (
	"fmt"
	"net/url"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

// Each view is accessible in both colour schemes, on a desktop and on a phone, where nothing sticks out at
// the side. Ids and reasons that are HTML are shown as text, and the page never violates its policy.
func (w world) testViews(t *testing.T) {
	gatewaytest.Administer(t, w.Process, "POST", "/admin/users/"+url.PathEscape(hostile)+"/grants", fmt.Sprintf(`{"requests": 50, "per": "month", "reason": %q}`, hostile))
	p := open(t, w.browser, w.Process, "", "")
	p.Want("document.activeElement.id", "token")
	p.wantAccessible(t, "sign in")
	p.Eval("fill('Token', 'wrong'), press('Sign in')", nil)
	p.Want("shown('.banner')", "This token is wrong. It must be admin.token or admin.viewer_token of this gateway’s configuration.")
	p.wantAccessible(t, "wrong token")
	p.Eval("fill('Token', '"+gatewaytest.AdminToken+"'), press('Sign in')", nil)
	p.Want("shown('h1')", "Overview")

	hostilePath := url.PathEscape(hostile)
	for _, view := range []struct{ hash, heading, until string }{
		{"#/overview", "Overview", "shown('.banner').startsWith('Everything works') && shown('main').includes('Recent actions')"},
		{"#/users", "Users", "document.querySelectorAll('.users tbody tr').length === 50 && /^2,00\\d users of 2,00\\d, as of/.test(shown('#users-status'))"},
		{"#/users/" + hostilePath, hostile + " free", fmt.Sprintf("shown('[data-limit=month]').includes('1 of 150 requests used') && shown('main').includes(%q)", "Grant 50 requests, month "+hostile)},
		{"#/orgs/" + url.PathEscape(hostileOrg), hostileOrg + " team", "shown('.limit').includes('1 of 100 requests used') && shown('main').includes('1 of 1 member') && shown('main').includes('Each member may use 10 requests a month.')"},
		{"#/orgs/" + url.PathEscape(hostileOrg) + "/members/" + hostilePath, hostile + " team", "shown('.limit').includes('1 of 10 requests used')"},
		{"#/plans?set=free%2Fmonth%3D50", "Plans", "document.querySelectorAll('.result .snippet').length === 1 && /2,00\\d users read, as of/.test(shown('main'))"},
		{"#/upstreams", "Upstreams", "document.querySelectorAll('main tbody tr').length === 2"},
		{"#/nothing/here", "Nothing is here", "true"},
	} {
		p.goTo(view.hash, view.heading)
		p.Until(view.until)
		p.wantLoaded()
		p.wantAccessible(t, view.hash)
		picture(t, p.Tab, view.hash)
		if view.hash == "#/orgs/"+url.PathEscape(hostileOrg) {
			p.Eval("press('Change the plan'), fill('Plan', 'free')", nil)
			p.Until("shown('.effect').includes('It has no shared limits. Each member may use 100 requests a month and 20 requests a month to image-analysis.')")
			p.Eval("press('Cancel')", nil)
		}
		if view.hash == "#/users/"+hostilePath {
			p.Eval("press('Grant more')", nil)
			p.Until("document.querySelector('dialog[open] .effect li')")
			p.wantAccessible(t, "grant")
			picture(t, p.Tab, "grant")
			p.Eval("press('Cancel')", nil)
			p.Want("document.querySelectorAll('dialog').length", "0")
		}
	}
	p.Want("String(window.harmed) + document.querySelectorAll('main img, main b[onclick]').length", "undefined0")
}

// wantAccessible checks the page on a desktop and on a phone.
func (p page) wantAccessible(t *testing.T, state string) {
	t.Helper()
	for _, width := range []int64{1280, 375} {
		p.Resize(width, 800)
		p.Eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))", nil) // the page has noticed its size
		p.WantAccessible(fmt.Sprintf("%s, %d px", state, width))
		var needs int64
		if p.Eval("document.documentElement.scrollWidth", &needs); needs > width {
			t.Errorf("%s: the page is %d px wide, on a screen of %d", state, needs, width)
		}
	}
	p.Resize(1280, 900)
}

// A view can be loaded again and linked to, and back leads to the one before.
func (w world) testAddresses(t *testing.T) {
	p := open(t, w.browser, w.Process, gatewaytest.AdminToken, "#/users?state=blocked&sort=user&order=asc")
	p.Want("shown('.users tbody tr:first-child th') + document.querySelectorAll('.users tbody tr').length", "u-0009920")
	p.Want("document.querySelector('th[aria-sort]').innerText.trim() + document.querySelector('th[aria-sort]').ariaSort", "User ↑ascending")

	// Sorting, searching and filtering change the address.
	p.Eval("press('User ↑')", nil)
	p.Want("shown('.users tbody tr:first-child th a') + location.hash", "u-01999#/users?state=blocked&sort=user")
	p.Eval("fill('Search', 'u-0000'), fill('Show', 'any')", nil)
	p.Want("document.querySelectorAll('.users tbody tr').length + location.hash", "10#/users?q=u-0000&sort=user")
	p.Reload()
	p.Want("document.querySelectorAll('.users tbody tr').length + shown('.users tbody tr:first-child th a')", "10u-00009")
	p.Eval("press('u-00009')", nil)
	p.Want("shown('h1') + document.activeElement.tagName + document.title", "u-00009 freeH1u-00009 · Metergate console")
	p.Eval("history.back()", nil)
	p.Want("shown('h1') + document.querySelectorAll('.users tbody tr').length", "Users10")

	// Pages of a long list.
	p.goTo("#/users?sort=user&order=asc", "Users")
	p.Want("shown('.users tbody tr:first-child th a') + named('Next page').length", hostile+"1")
	p.Eval("press('Next page')", nil)
	p.Want("shown('.users tbody tr:first-child th a') + named('First page').length", "u-000481")
	p.Eval("history.back()", nil)
	p.Want("shown('.users tbody tr:first-child th a')", hostile)
	p.wantDialogLeft()
}

// wantDialogLeft leaves a view under a dialog: the dialog is closed, and what it has sent is told.
func (p page) wantDialogLeft() {
	p.goTo("#/users/v-1", "v-1 free")
	p.wantLoaded()
	p.Eval(`void (window.realFetch = fetch, window.fetch = async (...args) => {
		if (args[1]?.method === 'POST') await new Promise((done) => { window.letGo = done; });
		return realFetch(...args);
	})`, nil)
	p.Eval("press('Grant more'), fill('Reason', 'late'), press('Grant 50 requests')", nil)
	p.Until("Boolean(window.letGo)")
	p.Eval("history.back()", nil)
	p.Want("shown('h1') + document.querySelectorAll('dialog').length", "Users0")
	p.wantLoaded()
	p.Eval("void letGo()", nil)
	p.Want("document.getElementById('spoken').textContent", "Granted 50 requests to v-1.")
	p.goTo("#/users/v-1", "v-1 free")
	p.Until("shown('[data-limit=month] .tag') === '50 granted'")
	p.Eval("press('Grant more')", nil)
	p.Eval("press('Sign out')", nil)
	p.Want("shown('.banner') + document.querySelectorAll('dialog').length", "You are signed out.0")
}

// What if the limit were another one? The page says whom it would block, and changes nothing.
func (w world) testWhatIf(t *testing.T) {
	p := open(t, w.browser, w.Process, viewerToken, "#/plans")
	p.Until("/2,00\\d users read, as of/.test(shown('main'))")
	p.Want("document.querySelectorAll('.plans section').length", "4")
	blocked := "document.querySelector('[aria-label$=\"of free: Blocked\"]').innerText"
	p.Want(blocked, "20")
	p.Eval(`(() => { const input = document.querySelector('[data-limit="free/month"]'); input.value = 90; input.dispatchEvent(new Event('input')); })()`, nil)
	// Of 2,000 users, 20 have each count from 1 to 100.
	p.Until("document.querySelector('.result .snippet')")
	p.Until("shown('.result .banner').startsWith('200 users would be blocked who can send requests now, and 0 users who are blocked now would be free.')")
	p.Want("location.hash", "#/plans?set=free%2Fmonth%3D90")
	p.Until("document.querySelectorAll('.result tbody tr').length > 100 && shown('.result').includes('The first 100 of them')")
	p.Until("document.querySelector('.result .snippet').textContent.includes('requests: 90')")
	p.Until("shown('.result').includes('replace the plan free by this one, and keep the other plans.')")
	p.Reload()
	p.Until("document.querySelector('.result .snippet')?.textContent.includes('requests: 90')")
	p.Want(`document.querySelector('[data-limit="free/month"]').value`, "90")
	p.Eval("press('Back to the numbers of now')", nil)
	p.Want(`location.hash + document.querySelector('[data-limit="free/month"]')?.value + document.getElementById('what-if').hidden`, "#/plans100true")
	if limit := w.Limit(); limit != 100 {
		t.Errorf("the limit has become %d", limit)
	}
}
