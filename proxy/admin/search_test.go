package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/proxy/admin"
	"metergate/quota"
	"metergate/quota/testkit"
)

// A foundPage is the answer of GET /admin/search/users.
type foundPage struct {
	Users []struct {
		User, Org, Plan, Unit string
		Used                  int64
		Limit, Percent        *int64
		Status                string
		Nearest               *struct {
			Limit             string
			Used, Of, Percent int64
		}
		Override  bool
		BlockedBy []string `json:"blocked_by"`
	}
	Matched, Scanned int64
	Done             bool
	Next             *string
	AsOf             time.Time `json:"as_of"`
}

// names are those of the users in the page, "ORG/USER" for members.
func (p *foundPage) names() (names []string) {
	for _, u := range p.Users {
		if u.Org != "" {
			u.User = u.Org + "/" + u.User
		}
		names = append(names, u.User)
	}
	return names
}

// search makes a search that must succeed.
func (r *testAPI) search(query string) (page foundPage) {
	r.Helper()
	status, _, text := r.do("GET", "/admin/search/users?"+query, "")
	if err := json.Unmarshal([]byte(text), &page); err != nil || status != 200 || !page.Done || page.Users == nil {
		r.Fatalf("%s: %d, error %v: %s", query, status, err, text)
	}
	return page
}

// setCounts sets what users have used in the month.
func (r *testAPI) setCounts(used map[string]int64) {
	r.Helper()
	var sets sync.WaitGroup
	free := make(chan struct{}, 64)
	for account, n := range used {
		free <- struct{}{}
		sets.Go(func() {
			defer func() { <-free }()
			choice := quota.PlanChoice{Claimed: r.plans["free"], ByName: r.plans, Scope: quota.ScopeOf(account)}
			if _, err := r.bolt.ApplyChange(context.Background(), account, choice,
				quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": n}}); err != nil {
				r.Error(err)
			}
		})
	}
	sets.Wait()
}

func TestSearchFindsUsers(t *testing.T) {
	r := newTestAPI(t)
	r.setCounts(map[string]int64{"anna": 50, "ben": 80, "Hanna": 100, "nan": 3, quota.MemberAccount("acme", "anna"): 99, "over": 250})
	r.ok("PUT", "/admin/users/anna/counts", `{"per":"month","endpoints":{"image-analysis":19}}`)
	r.ok("PUT", "/admin/users/nan/plan", `{"plan":"open"}`)
	r.ok("PUT", "/admin/users/new/plan", `{"plan":"pro"}`)
	r.ok("POST", "/admin/users/over/grants", `{"requests":300}`)
	for query, want := range map[string]string{
		"":                            "Hanna acme/anna anna ben over new nan",
		"sort=percent&order=asc":      "nan new over ben anna acme/anna Hanna",
		"sort=used":                   "over Hanna acme/anna ben anna nan new",
		"sort=used&order=asc":         "new nan anna ben acme/anna Hanna over",
		"sort=user":                   "Hanna anna acme/anna ben nan new over",
		"sort=user&order=desc":        "over new nan ben anna acme/anna Hanna",
		"sort=plan":                   "Hanna anna acme/anna ben over nan new",
		"sort=plan&order=desc":        "new nan Hanna anna acme/anna ben over",
		"plan=open":                   "nan",
		"state=near":                  "acme/anna anna ben",
		"state=blocked":               "Hanna",
		"q=anna":                      "acme/anna anna Hanna",
		"q=NA":                        "Hanna acme/anna anna nan",
		"q=N&sort=user&plan=free":     "Hanna anna acme/anna ben",
		"q=nobody":                    "",
		"org=acme":                    "acme/anna",
		"org=globex":                  "",
		"q=anna&org=acme":             "acme/anna",
		"limit=2":                     "Hanna acme/anna",
		"limit=500&q=&org=&state=any": "Hanna acme/anna anna ben over new nan",
	} {
		page := r.search(query)
		if got := strings.Join(page.names(), " "); got != want {
			t.Errorf("%q finds %s, want %s", query, got, want)
		}
		if strings.HasPrefix(query, "limit=2") {
			if page.Matched != 7 || page.Scanned != 7 || page.Next == nil {
				t.Errorf("%q: %+v", query, page)
			}
		} else if page.Next != nil || page.Matched != int64(len(page.Users)) || !page.AsOf.Equal(noon) {
			t.Errorf("%q: next %v, %+v", query, page.Next, page)
		}
	}
	_, _, text := r.do("GET", "/admin/search/users?q=anna&org=acme", "")
	if want := `{"users":[{"user":"anna","org":"acme","plan":"free","unit":"requests","used":99,"limit":100,"percent":99,"status":"warning",` +
		`"nearest":{"limit":"month","used":99,"of":100,"percent":99},"override":false,"blocked_by":[]}],"matched":1,"scanned":1,"done":true,"as_of":"2026-11-24T12:00:00Z","next":null}`; strings.TrimSpace(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	u := r.search("q=hanna&sort=used").Users[0]
	if u.User != "Hanna" || u.Status != "blocked" || !slices.Equal(u.BlockedBy, []string{"month"}) {
		t.Errorf("%+v", u)
	}
	if u := r.search("q=over").Users[0]; u.Percent == nil || *u.Percent != 62 || *u.Limit != 400 {
		t.Errorf("with a grant: %+v", u)
	}
	if u := r.search("q=nan").Users[0]; u.Limit != nil || u.Nearest != nil || u.Status != "ok" || !u.Override {
		t.Errorf("without limits: %+v", u)
	}
	r.ok("POST", "/admin/users/over/reset", "")
	if u := r.search("q=over").Users[0]; u.Used != 0 {
		t.Errorf("after a reset: %+v", u)
	}
	if status, header, text := r.do("HEAD", "/admin/search/users", ""); status != 200 || text != "" || header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %v %q", status, header, text)
	}
}

func TestSearchRefusesBadParameters(t *testing.T) {
	r := newTestAPI(t)
	for _, c := range []struct {
		status     int
		query, say string
	}{
		{400, "sort=name", "sort: must be one of percent, used, user, plan"},
		{400, "order=up", "order: must be one of desc, asc"},
		{400, "state=", "state: must be one of any, near, blocked"},
		{422, "plan=gold", "there is no plan \"gold\"; the plans are free, open, pro"},
		{400, "limit=0", "limit: must be a whole number from 1 to 500"},
		{400, "limit=501", "limit: must be"},
		{400, "limit=x", "limit: must be"},
		{400, "q=" + strings.Repeat("a", 257), "q: must be at most 256 bytes"},
		{400, "org=%00", "organisation's id"},
		{400, "after=x", "after: the cursor is not one that this search has returned"},
		{400, "after=e30", "after: the cursor"},
		{400, "page=2", "unknown parameter \"page\""},
		{400, "q=a&q=b", "q is given twice"},
	} {
		r.refused(c.status, c.say, "GET", "/admin/search/users?"+c.query, "")
	}
	r.setCounts(map[string]int64{"a": 1, "b": 1})
	next := *r.search("limit=1").Next
	r.refused(400, "after: the cursor is not one", "GET", "/admin/search/users?sort=user&after="+next, "")
	r.refused(405, "GET", "POST", "/admin/search/users", "")
}

// Page by page, each user comes once, whatever the id and the order, also beyond what one scan keeps.
func TestSearchPagesHaveEachUserOnce(t *testing.T) {
	r := newTestAPI(t)
	used := map[string]int64{}
	for i, id := range []string{"https://issuer/u/1", "..", "a//b", "/", "%2F", "日本語", "e\u0301", `"`, `\`, "<b>", "a&b=c", "+1", strings.Repeat("😀", 64), "user-0 "} {
		used[id] = int64(1 + i%3)
		used[quota.MemberAccount("../"+id[:1], id)] = 2
	}
	delete(used, quota.MemberAccount("../"+"日本語"[:1], "日本語")) // not UTF-8
	delete(used, quota.MemberAccount("../"+"😀"[:1], strings.Repeat("😀", 64)))
	for i := range 2_300 {
		used[fmt.Sprint("user-", i)] = int64(1 + i%7)
	}
	r.setCounts(used)
	var want []string
	for account := range used {
		org, user := quota.SplitAccount(account)
		if org != "" {
			user = org + "/" + user
		}
		want = append(want, user)
	}
	slices.Sort(want)
	for _, query := range []string{"", "sort=used&order=asc", "sort=user&order=desc", "sort=plan"} {
		var got []string
		after := ""
		for pages := 0; pages < 10; pages++ {
			page := r.search(query + "&limit=500&after=" + url.QueryEscape(after))
			got = append(got, page.names()...)
			if page.Matched != int64(len(want)) || len(page.Users) > 500 {
				t.Errorf("%q: matched %d of %d, %d in a page", query, page.Matched, len(want), len(page.Users))
			}
			if page.Next == nil {
				break
			}
			after = *page.Next
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %d users, want %d", query, len(got), len(want))
		}
	}
	for account := range maps.Keys(used) {
		org, user := quota.SplitAccount(account)
		if strings.HasPrefix(user, "user-1") || strings.HasPrefix(user, "user-2") {
			continue
		}
		if page := r.search("limit=1&q=" + url.QueryEscape(user) + "&org=" + url.QueryEscape(org)); len(page.Users) != 1 || page.Users[0].User != user {
			t.Fatalf("%q of %q: %+v", user, org, page.Users)
		}
		break
	}
}

// A gatedStore holds its scans up until they are let go on.
type gatedStore struct {
	admin.Store
	mu      sync.Mutex
	scans   int           // that were begun
	ended   int           // because nobody waits for them any more
	release chan struct{} // closed: they go on
}

func (s *gatedStore) ScanSnapshots(ctx context.Context, q quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error {
	s.mu.Lock()
	s.scans++
	s.mu.Unlock()
	n := 0
	err := s.Store.ScanSnapshots(ctx, q, func(u quota.UserSnapshot) error {
		if err := yield(u); err != nil {
			return err
		}
		if n++; n > 1 {
			return nil
		}
		select {
		case <-s.release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if ctx.Err() != nil {
		s.mu.Lock()
		s.ended++
		s.mu.Unlock()
	}
	return err
}

func (s *gatedStore) counts() (scans, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scans, s.ended
}

// events begins a search as server-sent events.
func (r *testAPI) events(ctx context.Context, path string) *http.Response {
	r.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", r.url+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { res.Body.Close() })
	return res
}

// nextPage reads the next event of a search.
func (r *testAPI) nextPage(in *bufio.Reader) (page foundPage) {
	r.Helper()
	event, err := in.ReadString('\n')
	data, _ := in.ReadString('\n')
	in.ReadString('\n')
	if text, ok := strings.CutPrefix(data, "data: "); err != nil || event != "event: page\n" || !ok || json.Unmarshal([]byte(text), &page) != nil {
		r.Fatalf("event %q, data %q, error %v", event, data, err)
	}
	return page
}

// A scan is shared by those who ask the same, shows what it has found so far, and ends with the last of
// them.
func TestSearchesShareScans(t *testing.T) {
	gated := &gatedStore{release: make(chan struct{})}
	r := newTestAPI(t, func(o *admin.Options) { gated.Store = o.Store; o.Store = gated })
	r.setCounts(map[string]int64{"a": 50, "b": 100, "c": 1})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := r.events(ctx, "/admin/search/users"), r.events(ctx, "/admin/search/users?limit=1")
	if got := first.Header.Get("Content-Type"); first.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("status %d, %s", first.StatusCode, got)
	}
	readers := []*bufio.Reader{bufio.NewReader(first.Body), bufio.NewReader(second.Body)}
	for _, in := range readers {
		if page := r.nextPage(in); page.Done || page.Next != nil || page.Scanned < 1 || len(page.Users) != 1 {
			t.Errorf("the first page is %+v", page)
		}
	}
	if n, _ := gated.counts(); n != 1 {
		t.Errorf("%d scans for one question", n)
	}
	cancel()
	testkit.Eventually(t, "the scan ends", func() bool { _, ended := gated.counts(); return ended == 1 })

	third := r.events(t.Context(), "/admin/search/users?limit=2")
	in := bufio.NewReader(third.Body)
	r.nextPage(in)
	close(gated.release)
	page := r.nextPage(in)
	for !page.Done {
		page = r.nextPage(in)
	}
	if got := page.names(); !slices.Equal(got, []string{"b", "a"}) || page.Next == nil || page.Matched != 3 {
		t.Errorf("at the end: %+v", page)
	}
	if rest, err := in.ReadString(0); rest != "" {
		t.Errorf("after the last page: %q, error %v", rest, err)
	}
	before, _ := gated.counts()
	if got := r.search("limit=2&after=" + *page.Next); !slices.Equal(got.names(), []string{"c"}) {
		t.Errorf("the next page has %q", got.names())
	}
	if after, _ := gated.counts(); after != before {
		t.Errorf("the next page took %d more scans", after-before)
	}
}

// Beyond the scans that may wait, a client gets to know at once.
func TestSearchesAreBounded(t *testing.T) {
	gated := &gatedStore{release: make(chan struct{})}
	r := newTestAPI(t, func(o *admin.Options) { gated.Store = o.Store; o.Store = gated })
	r.setCounts(map[string]int64{"a": 50, "ab": 60})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting []*http.Response
	for i := range 10 {
		query := url.Values{"sort": {[]string{"percent", "used", "user", "plan"}[i%4]}, "order": {[]string{"asc", "desc"}[i/4%2]}}
		if i >= 8 {
			query.Set("plan", "free")
		}
		waiting = append(waiting, r.events(ctx, "/admin/search/users?"+query.Encode()))
	}
	for _, res := range waiting {
		r.nextPage(bufio.NewReader(res.Body)) // waiting shows progress as well
	}
	if n, _ := gated.counts(); n != 2 {
		t.Errorf("%d scans run at once, want 2", n)
	}
	r.refused(503, "Too many searches are under way", "GET", "/admin/search/users?q=b", "")
	r.refused(503, "Too many searches are under way", "GET", "/admin/plans", "")
	if res := r.events(ctx, "/admin/search/users?q=b"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("as events: %d %v", res.StatusCode, res.Header)
	}
	close(gated.release)
	testkit.Eventually(t, "there is room again", func() bool {
		status, _, text := r.do("GET", "/admin/search/users?q=ab", "")
		return status == 200 && strings.Contains(text, `"user":"ab"`)
	})
}

// The user object says how many requests run of those that may run at once.
func TestUserObjectShowsRunningRequests(t *testing.T) {
	r := newTestAPI(t)
	two, err := quota.NewPlan(quota.PlanOptions{Name: "two", Concurrent: quota.ConcurrencyLimit{Requests: 2}, Endpoints: []string{"analyze"}, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	r.plans["two"] = two
	r.use("u", "two", "analyze")
	if _, _, text := r.do("GET", "/admin/users/u", ""); !strings.Contains(text, `"concurrent":{"running":1,"limit":2}`) {
		t.Error(text)
	}
	if _, _, text := r.do("GET", "/admin/users/other", ""); strings.Contains(text, "concurrent") {
		t.Error(text)
	}
}
