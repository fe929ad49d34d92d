package admin_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/proxy/admin"
	"metergate/quota"
)

func withTerms(o *admin.Options) { o.Gateway.(*gateway).terms = true }

// useOwn counts a request of a user of the plan own whose token has an anchor.
func (r *testAPI) useOwn(user string, a quota.Anchor) {
	r.Helper()
	if r.plans["own"] == nil {
		p, err := quota.NewPlan(quota.PlanOptions{Name: "own", Limits: []quota.Limit{{Amount: 100, Period: quota.Month}, {Amount: 1000, Period: quota.Year}}, Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80, Anchor: quota.ClaimAnchor})
		if err != nil {
			r.Fatal(err)
		}
		r.plans["own"] = p
	}
	d, err := r.bolt.Reserve(context.Background(), quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Lease: time.Minute,
		Plans: quota.PlanChoice{Claimed: r.plans["own"], ByName: r.plans, Terms: true, Anchor: &a}})
	if err == nil {
		_, err = r.bolt.Commit(context.Background(), &d.Reservation)
	}
	if err != nil || !d.Admitted {
		r.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
}

// An anchorState is what the API says of an anchor.
type anchorState struct {
	Window string
	Used   int64
	Anchor *struct {
		Day, Month int
		From       *time.Time
		Set        bool
	}
}

func (r *testAPI) anchorOf(method, path, body string) (s anchorState) {
	r.Helper()
	status, _, text := r.do(method, path, body)
	if err := json.Unmarshal([]byte(text), &s); err != nil || status != 200 {
		r.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return s
}

// An administrator's anchor holds from the end of the running month on, until it is cleared. The audit
// log has both.
func TestAnchorIsSetAndCleared(t *testing.T) {
	r := newTestAPI(t, withTerms)
	const u = "/admin/users/u"
	if s := r.anchorOf("GET", u, ""); s.Anchor == nil || s.Anchor.Day != 1 || s.Anchor.Set || s.Anchor.From != nil {
		t.Errorf("of an unknown user: %+v", s.Anchor)
	}
	r.useOwn("u", quota.NewAnchor(20, time.March)) // new: at once
	if s := r.anchorOf("GET", u, ""); s.Window != "month-2026-11-20" || s.Anchor.Day != 20 || s.Anchor.Month != 3 || s.Anchor.Set || s.Anchor.From != nil {
		t.Errorf("by the token: %+v, %+v", s, s.Anchor)
	}
	s := r.anchorOf("PUT", u+"/anchor", `{"anchor":"15","reason":"as agreed"}`)
	if s.Window != "month-2026-11-20" || s.Used != 1 || s.Anchor.Day != 15 || !s.Anchor.Set || s.Anchor.From == nil || !s.Anchor.From.Equal(time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("after 15 was set: %+v, %+v", s, s.Anchor)
	}
	r.advance(27 * 24 * time.Hour) // 21 December: a short month
	r.useOwn("u", quota.NewAnchor(20, time.March))
	if s := r.anchorOf("GET", u, ""); s.Window != "month-2026-12-20" || s.Used != 1 || s.Anchor.Day != 15 || s.Anchor.From != nil {
		t.Errorf("on 21 December: %+v, %+v", s, s.Anchor)
	}
	if s := r.anchorOf("DELETE", u+"/anchor?reason=over", ""); s.Anchor.Set {
		t.Errorf("after it was cleared: %+v", s.Anchor)
	}
	if s := r.anchorOf("PUT", u+"/anchor", `{"anchor":31}`); s.Anchor.Day != 31 || !s.Anchor.Set {
		t.Errorf("after 31 was set: %+v", s.Anchor)
	}
	_, _, text := r.do("GET", u+"/audit", "")
	for _, want := range []string{`"action":"set_anchor","anchor":"15"`, `"reason":"as agreed"`, `"action":"clear_anchor"`, `"reason":"over"`, `"anchor":"31"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit log lacks %s: %s", want, text)
		}
	}
	for _, body := range []string{`{"anchor":"32"}`, `{"anchor":0}`, `{"anchor":1.5}`, `{"anchor":""}`, `{}`, `{"anchor":"the 15th"}`} {
		r.refused(400, "1 to 31", "PUT", u+"/anchor", body)
	}
	r.refused(400, "anchor", "PUT", u+"/anchor", `{"anchor":true}`)
	newTestAPI(t).refused(422, "Add anchor", "PUT", u+"/anchor", `{"anchor":15}`)
}

// A month of a user's own is found by its id, and by the month in which it begins. A list has each
// user's own window, with its start and end.
func TestOwnWindowsAreFound(t *testing.T) {
	r := newTestAPI(t, withTerms)
	r.useOwn("on-20", quota.NewAnchor(20, 0))
	r.useOwn("on-20", quota.NewAnchor(20, 0))
	r.useOwn("on-1", quota.Anchor{})
	r.advance(20 * 24 * time.Hour) // 14 December
	r.useOwn("on-20", quota.NewAnchor(20, 0))
	r.advance(10 * 24 * time.Hour) // 24 December
	r.useOwn("on-20", quota.NewAnchor(20, 0))
	for at, want := range map[string]anchorState{
		"2026-11": {Window: "month-2026-11-20", Used: 3}, "month-2026-11-20": {Window: "month-2026-11-20", Used: 3},
		"2026-12": {Window: "month-2026-12-20", Used: 1}, "2026-10": {Window: "month-2026-10-20"}, "2026-11-24": {Window: "2026-11-24"},
	} {
		if s := r.anchorOf("GET", "/admin/users/on-20?at="+at, ""); s.Window != want.Window || s.Used != want.Used {
			t.Errorf("at %s: %d used in %s, want %d in %s", at, s.Used, s.Window, want.Used, want.Window)
		}
	}
	if s := r.anchorOf("GET", "/admin/users/on-1?at=2026-11", ""); s.Window != "2026-11" || s.Used != 1 {
		t.Errorf("of the calendar: %+v", s)
	}
	r.refused(422, "their window is month-2026-11-20", "GET", "/admin/users/on-20?at=month-2026-12-15", "")
	r.refused(422, "their window is 2026-12", "GET", "/admin/users/on-1?at=month-2026-12-15", "")
	r.refused(400, "names no window", "GET", "/admin/users/on-20?at=month-2026-12-32", "")
	r.refused(400, "a list is of a window of the calendar", "GET", "/admin/users?at=month-2026-11-20", "")
	_, _, text := r.do("GET", "/admin/users?format=csv&at=2026-11", "")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"user", "plan", "endpoint", "used", "start", "end"},
		{"on-1", "own", "analyze", "1", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		{"on-20", "own", "analyze", "3", "2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z"}}
	for i := range want {
		if i >= len(rows) || strings.Join(rows[i], ",") != strings.Join(want[i], ",") {
			t.Fatalf("the list is\n%s\nwant %q", text, want)
		}
	}
	if _, _, text := r.do("GET", "/admin/users?at=2026-11", ""); !strings.Contains(text, `"start":"2026-11-20T00:00:00Z","end":"2026-12-20T00:00:00Z"`) {
		t.Errorf("the list in JSON is %s", text)
	}
}

// After a change of the day, two months of a user can begin in one month of the calendar. A list has
// both, and every month is in one list; so is every year. The object of a user has the later one.
func TestShortWindowsAreInOneList(t *testing.T) {
	r := newTestAPI(t, withTerms)
	use := func(month time.Month, day, dayOfAnchor, times int) {
		t.Helper()
		year := 2026
		if month < time.November {
			year = 2027
		}
		r.clock.Store(time.Date(year, month, day, 12, 0, 0, 0, time.UTC).UnixNano())
		for range times {
			r.useOwn("u", quota.NewAnchor(dayOfAnchor, time.December))
		}
	}
	use(time.November, 10, 5, 1)
	use(time.November, 11, 15, 1) // from 5 December on
	use(time.December, 6, 15, 4)  // the short month ends on 15 December
	use(time.December, 7, 15, 1)
	use(time.December, 20, 15, 8)
	use(time.December, 21, 30, 1) // from 15 January on
	use(time.January, 16, 30, 2)  // until 30 January
	use(time.January, 31, 30, 6)
	for at, want := range map[string]string{
		"2026-10": "", "2026-11": "2026-11-05..2026-12-05 2", "2026-12": "2026-12-05..2026-12-15 5, 2026-12-15..2027-01-15 9",
		"2027-01": "2027-01-15..2027-01-30 2, 2027-01-30..2027-02-28 6",
		"2025":    "2025-12-05..2026-12-05 2", "2026": "2026-12-05..2026-12-15 5, 2026-12-15..2027-12-15 17",
	} {
		status, _, text := r.do("GET", "/admin/users?at="+at, "")
		var got []string
		for line := range strings.Lines(text) {
			var u struct {
				Used       int64
				Start, End time.Time
			}
			if err := json.Unmarshal([]byte(line), &u); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			got = append(got, fmt.Sprintf("%s..%s %d", u.Start.Format(time.DateOnly), u.End.Format(time.DateOnly), u.Used))
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); status != 200 || text != want {
			t.Errorf("the list at %s: %d, %q; want %q", at, status, text, want)
		}
	}
	for at, want := range map[string]anchorState{
		"2026-12": {Window: "month-2026-12-15", Used: 9}, "month-2026-12-05": {Window: "month-2026-12-05", Used: 5}, "2027-01": {Window: "month-2027-01-30", Used: 6},
		"2026-12-10&per=month": {Window: "month-2026-12-05", Used: 5}, "2026-12&per=month": {Window: "month-2026-12-15", Used: 9}, "2026-11": {Window: "month-2026-11-05", Used: 2},
	} {
		if s := r.anchorOf("GET", "/admin/users/u?at="+at, ""); s.Window != want.Window || s.Used != want.Used {
			t.Errorf("the user at %s: %d used in %s, want %d in %s", at, s.Used, s.Window, want.Used, want.Window)
		}
	}
	use(time.February, 10, 30, 0) // the next one begins on the 28th
	r.refused(422, "the month of this user that begins in 2027-02 has not begun. The running one is month-2027-01-30.", "GET", "/admin/users/u?at=2027-02", "")
	if status, _, text := r.do("GET", "/admin/users", ""); status != 200 || !strings.Contains(text, `"start":"2027-01-30T`) {
		t.Errorf("the list of the running windows: %d %s", status, text)
	}
}

// Counts that were read from another window than the running one of the account are refused, and
// nothing is changed.
func TestCountsOfAnotherWindowAreRefused(t *testing.T) {
	r := newTestAPI(t, withTerms)
	r.useOwn("u", quota.NewAnchor(15, time.January)) // running: 15 November to 15 December
	const (
		month   = "/admin/counts?per=month"
		bounds  = `"start":"%s","end":"%s"`
		cure    = "Nothing was changed. Export the running window; or leave out start and end to set these counts in the running window on purpose."
		running = "from 2026-11-15T00:00:00Z to 2026-12-15T00:00:00Z"
	)
	line := func(user string, n int, window string) string {
		if window != "" {
			window = "," + window
		}
		return fmt.Sprintf(`{"user":%q,"endpoints":{"analyze":%d}%s}`+"\n", user, n, window)
	}
	past := fmt.Sprintf(bounds, "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z")
	current := fmt.Sprintf(bounds, "2026-11-15T01:00:00+01:00", "2026-12-15T00:00:00Z") // the same instants
	for _, c := range []struct{ say, path, body string }{
		{`line 2: user "u" has counts of the window from 2026-10-15T00:00:00Z to 2026-11-15T00:00:00Z, but the running month is ` + running + ". " + cure, month, line("other", 7, "") + line("u", 9, past)},
		{`line 1: user "u" has counts of the window from 2026-11-01T00:00:00Z, but the running month is ` + running, month, line("u", 9, `"start":"2026-11-01T00:00:00Z"`)},
		{`line 1: user "u" has counts of the window until 2026-11-15T00:00:00Z, but`, month, line("u", 9, `"end":"2026-11-15T00:00:00Z"`)},
		{`line 1: user "new" has counts of the window from 2026-11-15T01:00:00+01:00 to 2026-12-15T00:00:00Z, but the running month is from 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z`, month, line("new", 9, current)},
		{`but the running day is from 2026-11-24T00:00:00Z to 2026-11-25T00:00:00Z`, "/admin/counts?per=day", line("u", 9, current)},
		{`but the window ever has no start and no end`, "/admin/counts?per=ever", line("u", 9, current)},
		{`line 1: user "u" has counts`, month + "&dry_run=true", line("u", 9, past)},
	} {
		r.refused(409, c.say, "PUT", c.path, c.body, jsonLines)
	}
	_, _, text := r.do("PUT", month, line("u", 9, past)+line("v", 9, current), jsonLines)
	if want := `"other_windows":[{"line":1,"start":"2026-11-15T00:00:00Z","end":"2026-12-15T00:00:00Z"},{"line":2,"start":"2026-11-01T00:00:00Z","end":"2026-12-01T00:00:00Z"}]`; !strings.Contains(text, want) {
		t.Errorf("%s has no %s", text, want)
	}
	r.refused(400, "line 1: start: must be a time like", "PUT", month, line("u", 9, `"start":"November"`), jsonLines)
	r.refused(400, "query: dry_run: must be true or false", "PUT", month+"&dry_run=1", line("u", 9, ""), jsonLines)
	for step, want := range []struct {
		path, window string
		used         int64
	}{
		{month + "&dry_run=true", current, 1},
		{month, current, 10},
		{month, `"start":null,"end":null`, 11},
		{month, "", 12},
	} {
		if status, _, text := r.do("PUT", want.path, line("u", 9+step, want.window), jsonLines); status != 200 {
			t.Errorf("%s %s: %d %s", want.path, want.window, status, text)
		}
		if s := r.ok("GET", "/admin/users/u", ""); s.Used != want.used {
			t.Errorf("%s %s: u has used %d, want %d", want.path, want.window, s.Used, want.used)
		}
	}
	if s := r.ok("GET", "/admin/users/other", ""); s.Used != 0 {
		t.Errorf("other has used %d", s.Used)
	}
}
