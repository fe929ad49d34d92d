package admin_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/proxy/admin"
	"metergate/quota"
	"metergate/quota/boltstore"
)

// Every change shows in the user's state, and in the audit log.
func TestChangesShowInStateAndAudit(t *testing.T) {
	r := newTestAPI(t)
	const u = "/admin/users/u"
	// An unknown user has used nothing, on the default plan or on the one that is asked for.
	s := r.ok("GET", u, "")
	if s.User != "u" || s.Plan != "free" || s.Used != 0 || *s.Limit != 100 || s.Claimed != nil || s.Override != nil || len(s.Granted) != 0 || s.Window != "2026-11" {
		t.Errorf("an unknown user: %+v", s)
	}
	if s := r.ok("GET", u+"?plan=pro", ""); s.Plan != "pro" || *s.Limit != 5000 {
		t.Errorf("with ?plan=pro: %+v", s)
	}
	r.use("u", "pro", "analyze")
	if s := r.ok("GET", u, ""); s.Plan != "pro" || s.Used != 1 || s.Claimed == nil || *s.Claimed != "pro" {
		t.Errorf("after a call with a token of pro: %+v", s)
	}
	if s := r.ok("POST", u+"/grants", `{"requests":50,"reason":"a bad week"}`); *s.Limit != 5050 || len(s.Granted) != 1 || s.Granted[0].Name != "month" || s.Granted[0].Requests != 50 {
		t.Errorf("after a grant: %+v", s)
	}
	if s := r.ok("POST", u+"/grants", `{"requests":1,"per":"minute"}`); s.Limits[1].Limit != 61 {
		t.Errorf("after a grant of a minute: %+v", s)
	}
	if s := r.ok("PUT", u+"/plan", `{"plan":"free","until":"2026-11-25T00:00:00+01:00"}`); s.Plan != "free" || *s.Limit != 150 || s.Override.Plan != "free" ||
		!s.Override.Until.Equal(time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC)) || *s.Claimed != "pro" {
		t.Errorf("with another plan: %+v", s)
	}
	if s := r.ok("PUT", u+"/counts", `{"per":"month","endpoints":{"image-analysis":20,"analyze":30}}`); s.Used != 50 || s.Endpoints["image-analysis"].Status != "blocked" {
		t.Errorf("after counts were set: %+v", s)
	}
	if s := r.ok("DELETE", u+"/plan?reason=over", ""); s.Plan != "pro" || s.Override != nil || s.Used != 50 {
		t.Errorf("after the plan was cleared: %+v", s)
	}
	if s := r.ok("POST", u+"/reset", ""); s.Used != 0 || *s.Limit != 5050 {
		t.Errorf("after a reset: %+v", s)
	}
	r.ok("POST", u+"/reset", `{"reason":"again"}`)

	status, _, text := r.do("GET", u+"/audit", "")
	var list struct {
		User    string
		Entries []quota.AuditEntry
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 || list.User != "u" {
		t.Fatalf("audit: %d, error %v: %s", status, err, text)
	}
	var got []string
	for _, e := range list.Entries {
		got = append(got, fmt.Sprint(e.Action, " ", e.Reason))
		if e.By != "127.0.0.1" || !e.At.Equal(noon) {
			t.Errorf("%+v: by %q at %v", e, e.By, e.At)
		}
	}
	want := []string{"reset again", "reset ", "clear_plan over", "set_counts ", "set_plan ", "grant ", "grant a bad week"}
	if !slices.Equal(got, want) {
		t.Errorf("the audit log is %q, want %q", got, want)
	}
	if status, _, text := r.do("GET", "/admin/users/nobody/audit", ""); status != 200 || text != `{"user":"nobody","entries":[]}`+"\n" {
		t.Errorf("nobody's audit log: %d %s", status, text)
	}
	if status, _, text := r.do("HEAD", u, ""); status != 200 || text != "" {
		t.Errorf("HEAD: %d %q", status, text)
	}
}

// Past and running windows of all periods can be read.
func TestReadWindowAt(t *testing.T) {
	r := newTestAPI(t)
	r.use("u", "free", "analyze")
	r.ok("PUT", "/admin/users/u/counts", `{"per":"day","endpoints":{"analyze":4}}`)
	r.ok("PUT", "/admin/users/u/counts", `{"per":"hour","endpoints":{"analyze":3}}`)
	r.ok("PUT", "/admin/users/u/counts", `{"per":"week","endpoints":{"analyze":5}}`)
	r.ok("PUT", "/admin/users/u/counts", `{"per":"year","endpoints":{"analyze":6}}`)
	r.ok("POST", "/admin/users/u/grants", `{"requests":7}`)
	for _, later := range []time.Duration{0, 10 * time.Hour} {
		r.advance(later)
		for at, want := range map[string]int64{
			"2026-11": 1, "2026-11-24": 4, "2026-W48": 5, "2026": 6, "2026-11-24T12": 3, "2026-11-24T12%2B0000": 3, "2026-11-24T12+0000": 3,
			"2026-10": 0, "2025-12-31": 0, "2026-11-24T11": 0,
		} {
			s := r.ok("GET", "/admin/users/u?at="+at, "")
			window := strings.NewReplacer("%2B", "+").Replace(at)
			if s.Used != want || s.Endpoints["analyze"].Used != want || !strings.HasPrefix(s.Window, window) {
				t.Errorf("at %s: %d used, %+v, window %s; want %d", at, s.Used, s.Endpoints, s.Window, want)
			}
			// Only the month has limits.
			if month := s.Period.Period == quota.Month; (s.Limit != nil) != month || len(s.Limits) != map[bool]int{true: 2}[month] {
				t.Errorf("at %s: limits %+v", at, s.Limits)
			}
		}
	}
	r.refused(422, "too long ago", "GET", "/admin/users/u?at=2026-11-24T12:00", "") // minutes stay for two hours
	if s := r.ok("GET", "/admin/users/u?at=2026-11", ""); *s.Limit != 107 {
		t.Errorf("limit %d, want 100 and what was granted", *s.Limit)
	}
	r.refused(400, "names no window", "GET", "/admin/users/u?at=yesterday", "")
	r.refused(400, "names no window", "GET", "/admin/users/u?at=", "")
	r.refused(422, "in the future", "GET", "/admin/users/u?at=2026-12", "")
	r.refused(422, "too long ago", "GET", "/admin/users/u?at=2024-12", "")
}

// Every id names its own user, whatever it looks like in a path.
func TestIDsThatLookLikePaths(t *testing.T) {
	r := newTestAPI(t)
	ids := []string{
		"https://issuer/u/1", "a//b", "..", ".", "...", "/", "//", "/../x", "a/", "/a", "a b", " ", "+", "a+b", "%", "%2F", "%2f%2F", "a%2Fb", "a/b", "?", "a?at=2026", "#", "a#b", ";", "a;b",
		"reset", "plan", "a/plan", "u/reset", "audit", "users", "日本語", "é", "e\u0301", `"`, `\`, `..\x`, "=1+1", "+1", "-1", "@SUM(A1)", "a,b", `a"b`, "*", "{user}", strings.Repeat("😀", 64),
	}
	everyByte := func(id string) string {
		var b strings.Builder
		for i := range len(id) {
			fmt.Fprintf(&b, "%%%02X", id[i])
		}
		return b.String()
	}
	for i, id := range ids {
		r.ok("PUT", "/admin/users/"+url.PathEscape(id)+"/counts", fmt.Sprintf(`{"per":"month","endpoints":{"analyze":%d}}`, i+1))
	}
	for i, id := range ids {
		for _, path := range []string{url.PathEscape(id), everyByte(id), strings.ToLower(everyByte(id))} {
			if s := r.ok("GET", "/admin/users/"+path, ""); s.User != id || s.Used != int64(i)+1 {
				t.Errorf("%q at %s: user %q, used %d, want %d", id, path, s.User, s.Used, i+1)
			}
		}
	}
	// Lists contain the ids unchanged.
	_, _, text := r.do("GET", "/admin/users?format=csv", "")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != len(ids)+1 {
		t.Fatalf("%d rows, error %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		if i := slices.Index(ids, row[0]); i < 0 || row[3] != fmt.Sprint(i+1) || row[1] != "free" || row[2] != "analyze" {
			t.Errorf("row %q", row)
		}
	}
	for _, path := range []string{"/admin/users/", "/admin/users//plan", "/admin/users/a/b", "/admin/users/a/plan/", "/admin/users/a/", "/admin/users/a/plan/x",
		"/admin/users/a/Plan", "/admin/users/a/%70lan", "/admin/users/https://issuer/u"} {
		r.refused(404, "%2F", "GET", path, "")
	}
	for _, path := range []string{"/admin/users/%00", "/admin/users/a%0Ab", "/admin/users/%ff", "/admin/users/" + strings.Repeat("a", 257)} {
		r.refused(400, "user's id", "GET", path, "")
		r.refused(400, "user's id", "POST", path+"/reset", "")
	}
	r.refused(404, "Nothing is here", "GET", "/admin/usersx", "")
}

// Support staff see what the user sees, also of members, and of users who have used nothing.
func TestHistoryOfUser(t *testing.T) {
	store, err := boltstore.Open(t.TempDir(), boltstore.Options{HistoryDays: 35, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := newTestAPI(t, func(o *admin.Options) { o.Store, o.Clock, o.HistoryDays = store, store, 35 })
	for _, account := range []string{"/admin/users/u-17", "/admin/orgs/acme/members/u-17", "/admin/orgs/acme"} {
		r.ok("PUT", account+"/counts", `{"per":"day","endpoints":{"analyze":7}}`)
	}
	for path, want := range map[string]string{
		"/admin/users/u-17/history?days=2": `{"user":"u-17","per":"day","from":"2026-11-23","to":"2026-11-24","timezone":"UTC","days":[` +
			`{"date":"2026-11-23","used":0,"endpoints":{}},{"date":"2026-11-24","used":7,"endpoints":{"analyze":{"used":7}}}],"stale":false,"as_of":"2026-11-24T12:00:00Z"}`,
		"/admin/orgs/acme/members/u-17/history?days=1": `{"user":"u-17","org":"acme","per":"day","from":"2026-11-24","to":"2026-11-24","timezone":"UTC","days":[` +
			`{"date":"2026-11-24","used":7,"endpoints":{"analyze":{"used":7}}}],"stale":false,"as_of":"2026-11-24T12:00:00Z"}`,
		"/admin/users/never/history?days=1": `{"user":"never","per":"day","from":"2026-11-24","to":"2026-11-24","timezone":"UTC","days":[` +
			`{"date":"2026-11-24","used":0,"endpoints":{}}],"stale":false,"as_of":"2026-11-24T12:00:00Z"}`,
	} {
		if status, _, text := r.do("GET", path, ""); status != 200 || strings.TrimSpace(text) != want {
			t.Errorf("%s: %d %s\nwant %s", path, status, text, want)
		}
	}
	if _, _, text := r.do("GET", "/admin/users/u-17/history", ""); strings.Count(text, `"date"`) != 30 {
		t.Errorf("without days: %s", text)
	}
	for _, days := range []string{"0", "36", "x", "", "07"} {
		r.refused(400, "days: must be a whole number from 1 to 35", "GET", "/admin/users/u-17/history?days="+days, "")
	}
	r.refused(400, "days is given twice", "GET", "/admin/users/u-17/history?days=7&days=7", "")
	r.refused(400, `unknown parameter "at"`, "GET", "/admin/users/u-17/history?at=2026", "")
	r.refused(405, "GET, HEAD", "DELETE", "/admin/users/u-17/history", "")
	r.refused(404, "Nothing is here", "GET", "/admin/orgs/acme/history", "")
	without := newTestAPI(t)
	without.refused(404, "history.keep", "GET", "/admin/users/u-17/history", "")
	if _, _, text := without.do("GET", "/admin/users/u-17/history", ""); !strings.Contains(text, `"reason":"no_history"`) {
		t.Error(text)
	}
}
