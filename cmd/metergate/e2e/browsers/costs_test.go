package browsers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

// A creditsSite is a front end of a gateway whose requests have costs: 1 for analyze, 5 for
// image-analysis, for report up to 20, as the upstream says, and for chat 2 to 20, as it says at the
// end of its body.
type creditsSite struct {
	frontEnd
	gateway *gatewaytest.Reloadable
	yaml    string
	browser *browsertest.Browser
	// Each value lets one request with ?wait be answered, which reports this cost.
	cost chan string
}

func newCreditsSite(t *testing.T) *creditsSite {
	t.Helper()
	s := &creditsSite{browser: browsertest.Start(t), cost: make(chan string)}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "wait" {
			select {
			case cost := <-s.cost:
				w.Header().Set("X-Report-Cost", cost)
			case <-r.Context().Done():
			}
		}
		if r.URL.Path == "/api/chat" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"text":"`)
			http.NewResponseController(w).Flush()
			select {
			case cost := <-s.cost:
				fmt.Fprintf(w, `","usage":{"total":%s}}`, cost)
			case <-r.Context().Done():
			}
			return
		}
		w.Write([]byte("done"))
	}))
	t.Cleanup(upstream.Close)
	s.servePages(t)
	s.yaml = strings.NewReplacer(
		"admin: { listen: 127.0.0.1:0 }", "admin: { listen: 127.0.0.1:0, token: "+gatewaytest.AdminToken+" }",
		"algorithms: [HS256]", "algorithms: [HS256], claims: { org: org }",
		"upgrade_url:", "unit_name: credits\nupgrade_url:",
		"plans:\n", `plans:
  credits: { limits: [{ units: 100, per: month }] }
  mixed:
    limits:
      - { requests: 2, per: month, mode: observe }
      - { requests: 50, per: month }
      - { units: 60, per: month }
      - { units: 5, per: month, endpoint: image-analysis, mode: observe }
      - { requests: 1, per: month, endpoint: report }
      - { units: 15, per: month, endpoint: report }
  team: { limits: [{ requests: 10, per: month }], shared: [{ units: 6, per: month }] }
  twice: { limits: [{ requests: 2, per: month }, { requests: 2, per: minute }] }
  soft: { limits: [{ units: 5, per: month, mode: observe }] }
`,
		"routes:\n", `routes:
  - { match: "POST /api/image-analysis", endpoint: image-analysis, upstream: analysis, cost: 5 }
  - { match: "POST /api/chat", endpoint: chat, upstream: analysis, cost: { max: 20, min: 2, from: "json usage.total" } }
`,
		"endpoint: report,  upstream: analysis", `endpoint: report, upstream: analysis, cost: { max: 20, from: "header X-Report-Cost" }`,
	).Replace(browserYAML)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, s.yaml)
	s.gateway = gatewaytest.StartFile(t, []string{"STORE=embedded:" + t.TempDir(), "UPSTREAM=" + upstream.URL}, file)
	return s
}

// openPage opens a page of a user that has `send(endpoint, wait, options)`, and records what
// it shows as running, in `seen`.
func (s *creditsSite) openPage(t *testing.T, user, plan string) *browsertest.Tab {
	t.Helper()
	return s.openMemberPage(t, "", user, plan)
}

// openMemberPage is openPage for a member of an organisation.
func (s *creditsSite) openMemberPage(t *testing.T, org, user, plan string) *browsertest.Tab {
	t.Helper()
	tab := s.openWithToken(t, s.browser, s.gateway.URL, testkit.MemberToken(org, user, plan))
	tab.Eval(`void (
		window.send = (endpoint, wait = '', options = {}) => window.sent = full.client.fetch(full.client.baseUrl + 'api/' + endpoint + wait, { method: 'POST', ...options }),
		window.seen = [], full.client.subscribe((s) => { if (seen.at(-1) !== s.pending) seen.push(s.pending); }),
		window.rows = () => [...part('endpoints').children].map((li) => (li.innerText + ' ' + li.className.replace('wide', '')).replace(/\s+/g, ' ').trim()))`, nil)
	tab.Want("full.client.connection + full.client.current?.user", "live"+user)
	return tab
}

// use makes n calls to an endpoint, which must succeed.
func (s *creditsSite) use(t *testing.T, user, plan, endpoint string, n int) {
	t.Helper()
	for range n {
		if status := gatewaytest.Post(http.DefaultClient, s.gateway.URL+"/api/"+endpoint, testkit.Token(user, plan)); status != 200 {
			t.Fatalf("a call of %s: %d", user, status)
		}
	}
}

// Pages of a gateway with costs show units, and know what a call costs.
func TestPagesShowCosts(t *testing.T) {
	s := newCreditsSite(t)
	for name, test := range map[string]func(*creditsSite, *testing.T){
		"pending":         (*creditsSite).pendingIsInUnits,
		"body":            (*creditsSite).callsArePendingUntilTheirBodiesEnd,
		"refusal":         (*creditsSite).refusalNamesUnits,
		"several limits":  (*creditsSite).breakdownShowsAllLimits,
		"soft headline":   (*creditsSite).softHeadlineIsNoAlarm,
		"limit of report": (*creditsSite).refusalNamesBindingLimit,
		"organisation":    (*creditsSite).refusalNamesOrganisation,
	} {
		t.Run(name, func(t *testing.T) { test(s, t) })
	}
	t.Run("reload", s.reloadChangesPending) // changes the costs
}

// A call whose cost stands in its response's body shows what it may still cost until the body has
// ended, in all tabs. The sum of what is used and pending is never less meanwhile
// than the call costs in the end.
func (s *creditsSite) callsArePendingUntilTheirBodiesEnd(t *testing.T) {
	tab, other := s.openPage(t, "chat", "credits"), s.openPage(t, "chat", "credits")
	for _, tab := range []*browsertest.Tab{tab, other} {
		tab.Eval(`void (window.sums = [], full.client.subscribe((s) => { if (sums.at(-1) !== s.used + s.pending) sums.push(s.used + s.pending); }))`, nil)
	}
	// held is what the gateway says that it holds: so its numbers have arrived.
	want := func(used, pending, held int) {
		t.Helper()
		for _, tab := range []*browsertest.Tab{tab, other} {
			tab.Want("[full.client.current.used, full.client.current.pending, full.client.current.in_flight].join()", fmt.Sprint(used, ",", pending, ",", held))
		}
	}
	send := func() {
		t.Helper()
		tab.Eval("void send('chat', '', { usageEndpoint: 'chat', signal: (window.leave = new AbortController()).signal })", nil)
		tab.Want("sent.then((r) => [r.status, r.url.endsWith('/api/chat'), r.type, r.headers.get('X-Usage-Cost'), r.headers.get('X-Usage-Pending')].join())", "200,true,cors,2,18")
	}
	send()
	want(2, 18, 18)
	tab.Eval("void sent.then((r) => [r.clone(), r]).then(([c, r]) => Promise.all([c.text(), r.json(), c.url])).then(([text, json, url]) => { window.got = text + json.usage.total + url.endsWith('/api/chat'); })", nil)
	s.cost <- "7"
	want(7, 0, 0)
	tab.Want("window.got", `{"text":"","usage":{"total":7}}7true`)
	for _, tab := range []*browsertest.Tab{tab, other} {
		tab.Want("sums.at(-1) + ' ' + sums.slice(1).every((sum) => sum >= 7)", "7 true")
	}
	// So it is in browsers that have no streams of bytes.
	tab.Eval("void (window.Stream = ReadableStream, window.ReadableStream = class extends Stream { constructor(s, o) { if (s.type) throw new RangeError(s.type); super(s, o); } })", nil)
	send()
	want(9, 18, 18)
	tab.Eval("void sent.then((r) => r.json()).then((json) => { window.got = json.usage.total; })", nil)
	s.cost <- "8"
	want(15, 0, 0)
	tab.Want("window.got", "8")
	tab.Eval("void (window.ReadableStream = Stream)", nil)
	// A call that is cancelled, or aborted while it is read, is pending no more. The gateway reads on.
	used := 15
	for _, end := range []string{"r.body.cancel()", "(r.text().catch(() => {}), leave.abort())", "r.body.getReader({ mode: 'byob' }).cancel()"} {
		send()
		want(used+2, 18, 18)
		tab.Eval("void sent.then((r) => "+end+")", nil)
		want(used+2, 0, 18)
		s.cost <- "5"
		used += 5
		want(used, 0, 0)
	}
}

// A running call shows as what it may cost once that is known, in all tabs.
func (s *creditsSite) pendingIsInUnits(t *testing.T) {
	tab, other := s.openPage(t, "pending", "credits"), s.openPage(t, "pending", "credits")
	used := 0
	call := func(endpoint, options, cost string, pending, charged int) {
		t.Helper()
		tab.Eval(fmt.Sprintf("void send('%s', '?wait', %s)", endpoint, options), nil)
		for _, tab := range []*browsertest.Tab{tab, other} {
			tab.Want("full.client.current.pending", fmt.Sprint(pending))
			tab.Want("text('running') + '; ' + text('label', 'small') + ' ' + text('count', 'small')", strings.Replace(
				fmt.Sprintf("%d credits held; Credits %d/100, %d held", pending, used, pending), "1 credits", "1 credit", 1))
		}
		s.cost <- cost
		tab.Want("sent.then((r) => r.status + ' ' + r.headers.get('X-Usage-Cost'))", fmt.Sprint("200 ", charged))
		used += charged
		for _, tab := range []*browsertest.Tab{tab, other} {
			tab.Want("[full.client.current.used, full.client.current.pending].join()", fmt.Sprint(used, ",0"))
			tab.Want("text('count') + text('running')", fmt.Sprint(used, " of 100 credits used"))
		}
	}
	// The client does not know yet what the route costs: at least 1. Its answer tells.
	call("image-analysis", "{}", "", 1, 5)
	call("image-analysis", "{}", "", 5, 5)
	call("analyze", "{}", "", 1, 1)
	call("report", "{ usageEndpoint: 'report' }", "7", 20, 7)
	call("report", "{}", "2", 20, 2) // only a report can have cost 7
	// Two calls, one in each tab; a failed one is not charged.
	tab.Eval("void send('image-analysis', '?wait')", nil)
	other.Eval("void send('report', '?wait', { usageEndpoint: 'report' })", nil)
	for _, tab := range []*browsertest.Tab{tab, other} {
		tab.Want("full.client.current.pending", "25")
	}
	s.cost <- "20"
	s.cost <- "20"
	for _, tab := range []*browsertest.Tab{tab, other} {
		tab.Want("[full.client.current.used, full.client.current.pending].join()", "45,0")
	}
	// Nothing else was shown in between.
	tab.Want("seen.slice(0, 11).join()", "0,1,0,5,0,1,0,20,0,20,0")
	other.Want("seen.slice(0, 11).join()", "0,1,0,5,0,1,0,20,0,20,0")
	// A screen reader hears the unit, and the page can ask for prices.
	tab.Want("part('bar').ariaValueText.startsWith('45 of 100 credits used, Resets ')", "true")
	tab.Want("text('price')", "")
	tab.Eval("void (full.price = 'image-analysis report nonsense analyze', small.setAttribute('price', 'analyze'))", nil)
	tab.Want("text('price') + '; ' + text('price', 'small')", "image-analysis costs 5 credits, report costs 1 to 20 credits, analyze costs 1 credit; analyze costs 1 credit")
	tab.Eval("part('details').open = true", nil)
	tab.Want("rows().join('; ')", "analyze 1 credit; chat 0 credits; image-analysis 15 credits; report 29 credits")
}

// The configuration changes while a call runs: its cost, and then what the plan limits.
func (s *creditsSite) reloadChangesPending(t *testing.T) {
	tab := s.openPage(t, "reload", "credits")
	tab.Want("send('image-analysis').then((r) => r.headers.get('X-Usage-Cost'))", "5")
	tab.Eval("void send('image-analysis', '?wait')", nil)
	tab.Want("full.client.current.pending", "5")
	tab.Want("full.client.current.in_flight", "5") // the gateway has it, and holds the old cost
	reload := func(before, after string) {
		t.Helper()
		s.yaml = strings.Replace(s.yaml, before, after, 1)
		s.gateway.Save(s.yaml)
		s.gateway.Reload(gatewaytest.AdminToken) // the gateway may have seen the file before
	}
	reload("cost: 5 }", "cost: 3 }")
	tab.Want("full.client.current.endpoints['image-analysis'].cost.max", "3")
	tab.Want("full.client.current.pending", "1") // what was learned by the old costs is forgotten
	tab.Eval("void full.client.fetch(full.client.baseUrl + 'api/image-analysis?wait', { method: 'POST', usageEndpoint: 'image-analysis' })", nil)
	tab.Want("full.client.current.pending", "4")
	reload("credits: { limits: [{ units: 100,", "credits: { limits: [{ requests: 100,")
	tab.Want("full.client.current.pending + text('running')", "22 running")
	reload("credits: { limits: [{ requests: 100,", "credits: { limits: [{ units: 100,")
	tab.Want("full.client.current.pending + text('running')", "44 credits held")
	s.cost <- ""
	s.cost <- ""
	tab.Want("sent.then((r) => r.headers.get('X-Usage-Cost'))", "5") // as it was held
	tab.Want("[full.client.current.used, full.client.current.pending].join()", "13,0")
	// The answer with the old cost has taught nothing. That with the new one could be of report.
	tab.Eval("void send('image-analysis', '?wait')", nil)
	tab.Want("full.client.current.pending", "3")
	s.cost <- ""
	tab.Want("[full.client.current.used, full.client.current.pending].join()", "16,0")
}

// A call that is too expensive for what is left is refused, and a cheaper one is not.
func (s *creditsSite) refusalNamesUnits(t *testing.T) {
	s.use(t, "refusal", "credits", "image-analysis", 19)
	s.use(t, "refusal", "credits", "analyze", 2)
	tab := s.openPage(t, "refusal", "credits")
	tab.Want("text('count') + text('remaining')", "97 of 100 credits used3 left")
	tab.Want("['image-analysis', 'report', 'analyze', undefined].map(full.client.canSend).join()", "false,false,true,true")
	tab.Want("send('image-analysis').then((r) => r.status + ' ' + r.headers.get('X-Usage-Cost'))", "429 0")
	tab.Want("text('prompt-title') + text('prompt-text').split(' Resets')[0]",
		"Your last request was refusedThe request may cost 5 credits, and only 3 of 100 are left for this month.")
	tab.Want("full.shadowRoot.querySelector('[role=status]').textContent.includes('only 3 of 100 are left')", "true")
	s.use(t, "refusal", "credits", "analyze", 3)
	tab.Want("text('count') + full.client.canSend()", "100 of 100 credits usedfalse")
	tab.Want("send('analyze').then((r) => r.status)", "429")
	tab.Want("text('prompt-text').split(' Resets')[0]", "You have used all 100 credits for this month.")
	// What a running call holds is not used.
	s.use(t, "holds", "credits", "image-analysis", 19)
	tab = s.openPage(t, "holds", "credits")
	tab.Eval("void send('image-analysis', '?wait')", nil)
	tab.Want("full.client.current.in_flight", "5")
	tab.Want("full.client.fetch(full.client.baseUrl + 'api/image-analysis', { method: 'POST' }).then((r) => r.json()).then((p) => p.detail)",
		"This request may cost 5 credits. You have 100 credits per month on the credits plan: 95 are used, and running requests hold 5. Try again when one of them has finished.")
	tab.Want("text('prompt-text')", "Requests that are still running may use up the rest. Try again in a moment.")
	s.cost <- ""
	tab.Want("sent.then((r) => r.status)", "200")
}

// The breakdown has each limit that is shown nowhere else. A soft one is never red.
func (s *creditsSite) breakdownShowsAllLimits(t *testing.T) {
	tab := s.openPage(t, "several", "mixed")
	tab.Eval("part('details').open = true", nil)
	s.use(t, "several", "mixed", "image-analysis", 2)
	tab.Want("text('count') + text('count', 'small') + text('status')", "2 of 50 used2/50")
	tab.Want("rows().join('; ')", strings.Join([]string{
		"analyze 0", "chat 0", "image-analysis (not enforced) 10 of 5 credits warning", "report 0 of 1 ok",
		"All endpoints, this month (not enforced) 2 of 2 warning",
		"All endpoints, this month 10 of 60 credits ok", "report, this month 0 of 15 credits ok"}, "; "))
	// The headline limit is on requests, so a call shows as one.
	tab.Eval("void send('image-analysis', '?wait')", nil)
	tab.Want("full.client.current.pending + text('running')", "11 running")
	s.cost <- ""
	tab.Want("text('count') + text('running')", "3 of 50 used")
	// The second limit refuses.
	s.use(t, "several", "mixed", "image-analysis", 9)
	tab.Want("text('count') + full.client.canSend('image-analysis')", "12 of 50 usedfalse")
	tab.Want("send('image-analysis').then((r) => r.status)", "429")
	tab.Want("text('prompt-text').split(' Resets')[0]", "You have used all 60 credits for this month.")
	tab.Want("rows()[5]", "All endpoints, this month 60 of 60 credits blocked")
}

// A call that several limits refuse names the one that is out of reach, with its quantity.
func (s *creditsSite) refusalNamesBindingLimit(t *testing.T) {
	tab := s.openPage(t, "binding", "mixed")
	tab.Want("send('report').then((r) => r.json()).then((p) => p['violated-policies'].join())", "report-month-units")
	tab.Want("text('prompt-text').split(' Resets')[0]",
		"The request may cost 20 credits, and only 15 of 15 report credits are left for this month.")
	tab.Want("full.client.canSend('report') + ' ' + full.client.canSend()", "false true")
	// Both limits are reached, unless a minute has just ended. The month is the longer wait.
	tab = s.openPage(t, "twice", "twice")
	s.use(t, "twice", "twice", "image-analysis", 2)
	tab.Want("send('image-analysis').then((r) => r.status)", "429")
	tab.Want("text('prompt-title') + text('prompt-text').split(' Resets')[0]", "Your last request was refusedYou have used all 2 requests for this month.")
}

// A limit that the members of an organisation share says so, in the list and in a refusal.
func (s *creditsSite) refusalNamesOrganisation(t *testing.T) {
	tab, other := s.openMemberPage(t, "acme", "ann", "team"), s.openMemberPage(t, "acme", "ben", "team")
	tab.Eval("part('details').open = true", nil)
	other.Want("send('image-analysis').then((r) => r.status)", "200")
	tab.Want("text('count')", "0 of 10 used")
	tab.Want("text('pool-label') + ': ' + text('pool-count') + ' ' + part('pool').className", "Your organisation this month: 5 of 6 credits pool ok")
	tab.Want("[part('pool-bar').role, part('pool-bar').ariaValueNow, part('pool-bar').ariaValueText].join()", "meter,5,5 of 6 credits used")
	tab.Want("rows().some((row) => row.includes('organisation'))", "false")
	tab.Want("send('image-analysis').then((r) => r.status)", "429")
	tab.Want("text('prompt-text').split(' Resets')[0]",
		"The request may cost 5 credits, and only 1 of 6 is left to your organisation for this month.")
	tab.Want("send('analyze').then((r) => r.status)", "200")
	tab.Want("send('analyze').then((r) => r.status)", "429")
	tab.Want("text('prompt-text').split(' Resets')[0]", "Your organisation has used all 6 credits for this month.")
	tab.Want("part('pool').className", "pool blocked")
	alone := s.openPage(t, "alone", "team")
	alone.Want("part('pool').hidden", "true")
}

// A plan whose only limit is soft refuses nothing, so nothing turns red.
func (s *creditsSite) softHeadlineIsNoAlarm(t *testing.T) {
	tab := s.openPage(t, "soft", "soft")
	tab.Want("send('image-analysis').then((r) => r.status)", "200")
	tab.Want("text('count') + '; ' + text('status')", "5 of 5 credits used; Limit reached, not enforced")
	tab.Want("colour() + part('prompt').hidden", yellow+"true")
	tab.Want("send('image-analysis').then((r) => r.status)", "200")
	tab.Want("part('bar').ariaValueText.startsWith('10 of 5 credits used, Limit reached, not enforced')", "true")
}
