package console

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/redisstore/redistest"
)

// The first page of users is there at once: with the flag -long, of 100,000 users within a second after the click.
func TestFirstUsersAreThereAtOnce(t *testing.T) {
	n := gatewaytest.Times(users, 100_000)
	b := browsertest.Start(t)
	stores := map[string]string{"embedded": "embedded:data"}
	if n > users {
		stores["redis"] = redistest.Start(t).URL()
	}
	for name, url := range stores {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, "STORE="+url)
			importUsers(t, g.Process, n)
			p := open(t, b, g.Process, gatewaytest.AdminToken, "#/overview")
			p.Want("shown('#live')", "Live")
			p.wantLoaded()
			var first, last float64
			p.Eval(`new Promise((done) => {
				const start = performance.now();
				new MutationObserver((_, observer) => {
					if (!document.querySelector('.users tbody tr')) return;
					observer.disconnect();
					requestAnimationFrame(() => done(performance.now() - start));
				}).observe(document.getElementById('main'), { childList: true, subtree: true });
				press('Users');
			})`, &first)
			p.Until("document.querySelectorAll('.users tbody tr').length === 50 && /as of/.test(shown('#users-status'))")
			p.Eval("performance.getEntriesByType('resource').filter((e) => e.name.includes('/search/users')).at(-1)?.duration ?? 0", &last)
			p.Want("shown('.users tbody tr:first-child th a')", "u-00099")
			t.Logf("%d users: the first row after %.0f ms; all were read after %.0f ms", n, first, last)
			if n > users && first > 1000 {
				t.Errorf("of %d users, the first is shown after %.0f ms, want at most 1,000", n, first)
			}
		})
	}
}

// Firefox takes the same way, with the flag -long: sign in, find a user, grant requests.
func TestFirefoxGrantsRequests(t *testing.T) {
	if gatewaytest.Times(0, 1) == 0 {
		return
	}
	b, g := browsertest.Firefox.Start(t), startGateway(t)
	importUsers(t, g.Process, 101)
	p := open(t, b, g.Process, "", "")
	p.Until("document.querySelector('#token')")
	p.Eval("fill('Token', '"+gatewaytest.AdminToken+"'), press('Sign in')", nil)
	p.Want("shown('h1') + shown('#live')", "OverviewLive")
	p.Eval("press('Users')", nil)
	p.Until("named('u-00099').length === 1")
	p.Eval("press('u-00099')", nil)
	p.Until("named('Grant more').length === 1 && shown('[data-limit=month]').includes('100 of 100')")
	p.Eval("press('Grant more'), fill('Reason', 'a bad week')", nil)
	p.Eval("press('Grant 50 requests')", nil)
	p.Until("shown('[data-limit=month]').includes('100 of 150')")
}
