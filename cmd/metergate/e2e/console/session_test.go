package console

import (
	"fmt"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
)

// The token is kept for the tab and is nowhere else. A token that is no longer right leads back to signing in.
func TestSignInKeepsTokenInTab(t *testing.T) {
	b, g := browsertest.Start(t), startGateway(t)
	p := open(t, b, g.Process, "", "#/users/u-1")
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
	p = open(t, b, off.Process, "", "")
	p.Eval("fill('Token', 'any'), press('Sign in')", nil)
	p.Until("shown('.banner').startsWith('Nobody can sign in: this gateway has no admin.token.')")
}

// A viewer sees everything, finds no button that changes anything, and is refused by the gateway as well.
func TestViewerChangesNothing(t *testing.T) {
	b, g := browsertest.Start(t), startGateway(t)
	importUsers(t, g.Process, 10)
	p := open(t, b, g.Process, viewerToken, "#/users/u-00007")
	p.Until("shown('[data-limit=month]').includes('7 of 100')")
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

// A target is drained with a reason, after the page has said what will happen.
func TestTargetIsDrained(t *testing.T) {
	b, g := browsertest.Start(t), startGateway(t)
	p := open(t, b, g.Process, gatewaytest.AdminToken, "#/upstreams")
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
	p.goTo("#/overview", "Overview")
	p.Until("shown('main').includes('new kernel')")
}
