package admin_test

import (
	"strings"
	"testing"
	"time"
)

// The list of a window, as JSON lines and as CSV.
func TestListUsersOfWindow(t *testing.T) {
	r := newTestAPI(t)
	if status, header, text := r.do("GET", "/admin/users", ""); status != 200 || text != "" || header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("nobody: %d %s %q", status, header.Get("Content-Type"), text)
	}
	if _, _, text := r.do("GET", "/admin/users?format=csv", ""); text != "user,plan,endpoint,used\r\n" {
		t.Errorf("nobody as CSV: %q", text)
	}
	r.use("token", "pro", "analyze")
	r.use("token", "pro", "image-analysis")
	r.ok("PUT", "/admin/users/=cmd()/counts", `{"per":"month","endpoints":{"analyze":12}}`)
	r.ok("PUT", "/admin/users/=cmd()/plan", `{"plan":"open","until":"2026-12-05T00:00:00Z"}`)
	r.ok("PUT", "/admin/users/a%2C%22b/counts", `{"per":"day","endpoints":{"analyze":7}}`)
	wantCSV := "user,plan,endpoint,used\r\n=cmd(),open,analyze,12\r\ntoken,pro,analyze,1\r\ntoken,pro,image-analysis,1\r\n"
	wantLines := `{"user":"=cmd()","plan":"open","used":12,"endpoints":{"analyze":12},"claimed":null,"override":{"plan":"open","until":"2026-12-05T00:00:00Z"}}` + "\n" +
		`{"user":"token","plan":"pro","used":2,"endpoints":{"analyze":1,"image-analysis":1},"claimed":"pro","override":null}` + "\n"
	for _, later := range []time.Duration{0, 10 * 24 * time.Hour} { // the next month
		r.advance(later)
		for query, want := range map[string]string{
			"?at=2026-11&format=csv": wantCSV, "?at=2026-11": wantLines, "?at=2026-11&format=jsonl": wantLines,
			"?at=2026-11-24&format=csv&per=month": wantCSV,
			"?at=2026-11-24&format=csv":           "user,plan,endpoint,used\r\n\"a,\"\"b\",free,analyze,7\r\n",
			"?at=2026-10&format=csv":              "user,plan,endpoint,used\r\n",
		} {
			status, header, text := r.do("GET", "/admin/users"+query, "")
			kind := map[bool]string{true: "text/csv; charset=utf-8; header=present", false: "application/jsonl"}[strings.Contains(query, "csv")]
			if status != 200 || text != want || header.Get("Content-Type") != kind {
				t.Errorf("%s: %d %s:\n%s\nwant:\n%s", query, status, header.Get("Content-Type"), text, want)
			}
		}
	}
	if _, _, text := r.do("GET", "/admin/users", ""); text != "" {
		t.Errorf("in December: %s", text)
	}
	if status, header, text := r.do("HEAD", "/admin/users?format=csv&at=2026-11", ""); status != 200 || text != "" || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		t.Errorf("HEAD: %d %v", status, header)
	}
	r.refused(400, "format: must be jsonl or csv", "GET", "/admin/users?format=xml", "")
	r.refused(400, "per: must be minute", "GET", "/admin/users?per=decade", "")
	r.refused(400, "names no window", "GET", "/admin/users?at=now", "")
	r.refused(422, "in the future", "GET", "/admin/users?at=2027", "")
	r.refused(400, `unknown parameter "limit"; this path takes at, per, format`, "GET", "/admin/users?limit=5", "")
	r.refused(405, "GET, HEAD", "POST", "/admin/users", "")
}
