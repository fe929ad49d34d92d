package admin_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota/testkit"
)

// A decision says who may use a route, with a request that succeeds.
type decision struct {
	least string // anyone, viewer or admin
	body  string
	kind  string // its Content-Type, as a header; empty: JSON
	// log is where a success leaves its entry: the path of a list; empty: it changes nothing.
	log string
}

// decisions are for all routes. A new route needs a row here: who may use it is a decision.
func decisions() map[string]decision {
	d := map[string]decision{
		"GET /livez":                    {least: "anyone"},
		"GET /readyz":                   {least: "anyone"},
		"GET /metrics":                  {least: "anyone"},
		"GET /":                         {least: "anyone"},
		"GET /console/{file}":           {least: "anyone"},
		"GET /admin/audit":              {least: "viewer"},
		"GET /admin/backup":             {least: "admin", log: "/admin/audit"}, // it has everything
		"GET /admin/bills":              {least: "viewer"},
		"GET /admin/config":             {least: "viewer"},
		"GET /admin/session":            {least: "viewer"},
		"GET /admin/overview":           {least: "viewer"},
		"GET /admin/events":             {least: "viewer"},
		"GET /admin/users":              {least: "viewer"},
		"GET /admin/search/users":       {least: "viewer"},
		"GET /admin/plans":              {least: "viewer"},
		"GET /admin/plans/check":        {least: "viewer"},
		"POST /admin/bills":             {least: "admin", log: "/admin/audit"},
		"POST /admin/bills/sent":        {least: "admin", log: "/admin/audit", kind: jsonLines, body: `{"user":"u-17","endpoint":"analyze","hour":"2026-11-24T11:00:00Z","revision":1}`},
		"POST /admin/data/accept":       {least: "admin", log: "/admin/audit"},
		"POST /admin/reload":            {least: "admin", log: "/admin/audit"},
		"PUT /admin/counts":             {least: "admin", log: "/admin/audit", kind: jsonLines, body: `{"user":"u-1","endpoints":{"analyze":3}}`},
		"GET /admin/orgs/{org}/members": {least: "viewer"},
	}
	d["GET /debug/pprof/{profile}"] = decision{least: "admin"} // it slows the gateway down
	d["GET /admin/upstreams"] = decision{least: "viewer"}
	d["POST /admin/upstreams/{upstream}/drain"] = decision{least: "admin", log: "/admin/audit", body: `{"url":"http://10.0.0.1","reason":"kernel"}`}
	d["POST /admin/upstreams/{upstream}/undrain"] = decision{least: "admin", log: "/admin/audit", body: `{"url":"http://10.0.0.1"}`}
	for _, account := range []string{"/admin/users/{user}", "/admin/orgs/{org}", "/admin/orgs/{org}/members/{user}"} {
		log := strings.NewReplacer("{user}", "u-2", "{org}", "acme").Replace(account) + "/audit"
		maps.Copy(d, map[string]decision{
			"GET " + account:                {least: "viewer"},
			"GET " + account + "/audit":     {least: "viewer"},
			"GET " + account + "/history":   {least: "viewer"},
			"PUT " + account + "/anchor":    {least: "admin", log: log, body: `{"anchor":"15"}`},
			"DELETE " + account + "/anchor": {least: "admin", log: log},
			"PUT " + account + "/counts":    {least: "admin", log: log, body: `{"per":"month","endpoints":{"analyze":3}}`},
			"POST " + account + "/grants":   {least: "admin", log: log, body: `{"requests":5}`},
			"PUT " + account + "/plan":      {least: "admin", log: log, body: `{"plan":"team"}`},
			"DELETE " + account + "/plan":   {least: "admin", log: log},
			"POST " + account + "/reset":    {least: "admin", log: log},
		})
	}
	delete(d, "GET /admin/orgs/{org}/history")
	return d
}

// ask sends a route's request with a token, which may be empty. Of a stream it reads only the header.
func (r *testAPI) ask(route, query, token string, d decision) (status int, text string) {
	r.Helper()
	method, path, _ := strings.Cut(route, " ")
	path = strings.NewReplacer("{user}", "u-2", "{org}", "acme", "{file}", "icon.svg", "{upstream}", "api", "{profile}", "heap").Replace(path)
	req, err := http.NewRequestWithContext(r.Context(), method, r.url+path+query, strings.NewReader(d.body))
	if err != nil {
		r.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	_, kind, _ := strings.Cut(cmp.Or(d.kind, "Content-Type: application/json"), ": ")
	req.Header.Set("Content-Type", kind)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return res.StatusCode, ""
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// entries returns the entries of a log as they are, the newest first.
func (r *testAPI) entries(log string) (entries []struct{ Action, From, By, Detail, Reason, Outcome string }) {
	r.Helper()
	var list struct{ Entries json.RawMessage }
	_, _, text := r.do("GET", log, "")
	if json.Unmarshal([]byte(text), &list) != nil || json.Unmarshal(list.Entries, &entries) != nil {
		r.Fatalf("%s: %s", log, text)
	}
	return entries
}

// newWholeAPI returns an API that serves all routes.
func newWholeAPI(t *testing.T, change ...func(*admin.Options)) *testAPI {
	r, _ := newBillsAPI(t, append([]func(*admin.Options){withOrganisations(t), withTerms, withMonitor}, change...)...)
	r.ok("PUT", "/admin/orgs/acme/plan", `{"plan":"team"}`)
	return r
}

// A parameter that a path of the admin API does not take is refused, so that nobody believes that it has
// an effect.
func TestUnknownParametersAreRefused(t *testing.T) {
	r := newWholeAPI(t)
	for route, d := range decisions() {
		if !strings.Contains(route, " /admin/") {
			continue
		}
		if status, text := r.ask(route, "?nothing=1", token, d); status != 400 || !strings.Contains(text, "nothing") {
			t.Errorf("%s?nothing=1: %d %s, want 400", route, status, text)
		}
	}
}

// Every route has a decision, and answers each token by it. What viewers are refused has not happened.
func TestRolesOfAllRoutes(t *testing.T) {
	r := newWholeAPI(t)
	decided, routes := decisions(), admin.Routes()
	if got := slices.Sorted(maps.Keys(decided)); !slices.Equal(got, routes) {
		t.Errorf("decisions are for\n%s\nbut the routes are\n%s", strings.Join(got, "\n"), strings.Join(routes, "\n"))
	}
	for _, route := range routes {
		d := decided[route]
		before := 0
		if d.log != "" {
			before = len(r.entries(d.log))
		}
		for token, allowed := range map[string]bool{"": d.least == "anyone", "wrong": d.least == "anyone", viewerToken: d.least != "admin"} {
			status, text := r.ask(route, "", token, d)
			switch {
			case allowed && (status == 401 || status == 403 || status == 429):
				t.Errorf("%s with %q: %d %s", route, token, status, text)
			case !allowed && token == viewerToken && (status != 403 || !strings.Contains(text, `"reason":"read_only"`)):
				t.Errorf("%s with the viewer token: %d %s; want 403 and read_only", route, status, text)
			case !allowed && token == "" && status != 401, !allowed && token == "wrong" && status != 401 && status != 429:
				t.Errorf("%s with %q: %d %s", route, token, status, text)
			}
		}
		if d.log != "" && len(r.entries(d.log)) != before {
			t.Errorf("%s: a request that was refused is in %s", route, d.log)
		}
		if isChange := !strings.HasPrefix(route, "GET ") || route == "GET /admin/backup"; isChange != (d.log != "") || isChange && d.least != "admin" {
			t.Errorf("%s: is for %q and leaves its entry in %q; a change is for administrators and leaves one", route, d.least, d.log)
		}
	}
}

// Each change leaves exactly one entry when it succeeds. One of the whole gateway also leaves one when
// it fails, with the reason.
func TestEveryChangeLeavesOneEntry(t *testing.T) {
	r := newWholeAPI(t)
	decided := decisions()
	document, page := string(testkit.ReadFile(t, "docs/openapi.yaml")), string(testkit.ReadFile(t, "docs/admin.md"))
	_, known, _ := strings.Cut(document, `action: { description: "what was done", enum: [`)
	known, _, _ = strings.Cut(known, "]")
	for _, route := range admin.Routes() {
		d := decided[route]
		if d.log == "" {
			continue
		}
		r.ok("PUT", "/admin/orgs/acme/plan", `{"plan":"team"}`) // the plan may have been cleared
		before := len(r.entries(d.log))
		if status, text := r.ask(route, "", token, d); status != 200 {
			t.Errorf("%s: %d %s", route, status, text)
		}
		entries := r.entries(d.log)
		if len(entries) != before+1 || entries[0].Action == "" || entries[0].From+entries[0].By != "127.0.0.1" {
			t.Errorf("%s: %d entries before and %d after, %+v", route, before, len(entries), entries)
		}
		if d.log != "/admin/audit" {
			continue
		}
		if action := entries[0].Action; !slices.Contains(strings.Split(known, ", "), action) || !strings.Contains(page, "`"+action+"`") {
			t.Errorf("%s: docs/openapi.yaml and docs/admin.md do not both have the action %q", route, action)
		}
		if entries[0].Outcome != "done" {
			t.Errorf("%s: outcome %q", route, entries[0].Outcome)
		}
		if status, text := r.ask(route, "?nothing=1", token, d); status != 400 {
			t.Errorf("%s with a bad parameter: %d %s", route, status, text)
		}
		if failed := r.entries(d.log); len(failed) != before+2 || !strings.HasPrefix(failed[0].Outcome, "refused: query: unknown parameter") {
			t.Errorf("%s with a bad parameter: %d entries more, %+v", route, len(failed)-before, failed[0])
		}
	}
}

// The list says what an action was about, why it was done and what came of it.
func TestActionsSayWhatHappened(t *testing.T) {
	g := new(gateway)
	r, bills := newBillsAPI(t, func(o *admin.Options) { g = o.Gateway.(*gateway) })
	want := func(detail, reason, outcome string) {
		t.Helper()
		if e := r.entries("/admin/audit")[0]; e.Detail != detail || e.Reason != reason || e.Outcome != outcome {
			t.Errorf("got %+v, want detail %q, reason %q, outcome %q", e, detail, reason, outcome)
		}
	}
	g.lostParts = 2
	r.do("POST", "/admin/data/accept?reason=restored%20from%20a%20backup", "")
	want("2 parts of the store had lost data", "restored from a backup", "done")
	g.acceptErr = errors.New("no answer")
	r.do("POST", "/admin/data/accept", "")
	want("", "", "failed: The store does not answer; the data are not accepted yet. Try again.")
	g.reloadWarnings = []string{"listen has changed"}
	r.do("POST", "/admin/reload", "")
	want("listen has changed", "", "done")
	g.reloadErr = errors.New("gateway.yaml:3: listen: no\ngateway.yaml:4: more")
	r.do("POST", "/admin/reload?reason=x", "")
	want("", "x", "refused: The configuration was refused; the previous one stays in force. gateway.yaml:3: listen: no gateway.yaml:4: more")
	r.refused(400, "query: reason: must be at most 1024 bytes", "POST", "/admin/reload?reason=a%0Ab", "")

	before := len(r.entries("/admin/audit"))
	const lines = `{"user":"u-1","endpoints":{"analyze":3,"image-analysis":1}}` + "\n" + `{"user":"u-2","endpoints":{"analyze":3}}`
	r.do("PUT", "/admin/counts?dry_run=true&reason=try", lines, jsonLines)
	if after := len(r.entries("/admin/audit")); after != before {
		t.Errorf("a dry run left %d entries", after-before)
	}
	r.do("PUT", "/admin/counts?reason=move", lines, jsonLines)
	want("3 counts of 2 users, per month", "move", "done")
	r.do("PUT", "/admin/counts", `{"user":"u-1","endpoints":{"analyze":3},"start":"2026-10-01T00:00:00Z","end":"2026-11-01T00:00:00Z"}`, jsonLines)
	if e := r.entries("/admin/audit")[0]; !strings.HasPrefix(e.Outcome, "refused: line 1: ") {
		t.Errorf("counts of another window: %+v", e)
	}
	r.do("POST", "/admin/bills", "")
	want("3 bills listed", "", "done")
	bills.breaks = 2
	req, _ := http.NewRequest("POST", r.url+"/admin/bills", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	if res, err := http.DefaultClient.Do(req); err == nil { // the list may break off before its first byte
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	want("1 bills listed", "", "failed: the response broke off")
}

// An import in many requests leaves the other actions in the list.
func TestActionsAreBounded(t *testing.T) {
	var a admin.Actions
	for i := range 20 {
		a.Add(admin.Action{Action: "reload", Detail: fmt.Sprint(i)})
	}
	for i := range 1000 {
		a.Add(admin.Action{Action: "import counts", Detail: fmt.Sprint(i), Outcome: strings.Repeat("é", 2000) + "\n"})
	}
	list := a.List()
	if len(list) != 200 || list[0].Detail != "999" || list[179].Detail != "820" || list[180].Detail != "19" || list[199].Detail != "0" {
		t.Errorf("%d entries, from %+v to %+v", len(list), list[0], list[len(list)-1])
	}
	if n := len(list[0].Outcome); n > 1024 {
		t.Errorf("an outcome of %d bytes", n)
	}
}
