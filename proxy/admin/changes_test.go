package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota"
)

// A request that is not understood changes nothing, and the answer says what is wrong and
// where.
func TestInvalidRequestsChangeNothing(t *testing.T) {
	r := newTestAPI(t)
	const u = "/admin/users/u"
	big := strings.Repeat(" ", 64<<10)
	for _, c := range []struct {
		status                  int
		say, method, path, body string
	}{
		{400, `unknown member "request"; the members are endpoint, per, reason, requests`, "POST", "/grants", `{"request":5}`},
		{400, `unknown member "Requests"`, "POST", "/grants", `{"Requests":5}`},
		{400, "body: requests: must be a whole number, got \"5\"", "POST", "/grants", `{"requests":"5"}`},
		{400, "body: requests: must be a whole number, got 1.5", "POST", "/grants", `{"requests":1.5}`},
		{400, "body: requests: must be a whole number", "POST", "/grants", `{"requests":99999999999999999999}`},
		{400, "requests is given twice", "POST", "/grants", `{"requests":5,"requests":6}`},
		{400, "after the JSON object", "POST", "/grants", `{"requests":5}{}`},
		{400, "after the JSON object", "POST", "/grants", `{"requests":5} x`},
		{400, "the text ends before", "POST", "/grants", `{"requests":5`},
		{400, "the text ends before", "POST", "/grants", `{"requests":`},
		{400, "the text ends before", "POST", "/grants", ` `},
		{400, "is not JSON at byte 14", "POST", "/grants", `{"requests":5,}`},
		{400, "must be a JSON object, got [5]", "POST", "/grants", `[5]`},
		{400, "must be a JSON object, got null", "POST", "/grants", `null`},
		{400, "not UTF-8", "POST", "/grants", "{\"requests\":5,\"reason\":\"\xff\"}"},
		{400, "requests must be 1 to", "POST", "/grants", `{}`},
		{400, "requests must be 1 to", "POST", "/grants", `{"requests":0}`},
		{400, "requests must be 1 to", "POST", "/grants", `{"requests":-5}`},
		{400, "requests must be 1 to", "POST", "/grants", `{"requests":null}`},
		{400, "per: must be minute, hour, day, week, month, year or ever", "POST", "/grants", `{"requests":5,"per":"fortnight"}`},
		{400, "per must be minute, hour, day, week, month, year or ever if there is an endpoint", "POST", "/grants", `{"requests":5,"endpoint":"analyze"}`},
		{400, "reason must be", "POST", "/grants", `{"requests":5,"reason":"a\u0000b"}`},
		{422, "free has no limit analyze-month. It has month, image-analysis-month", "POST", "/grants", `{"requests":5,"endpoint":"analyze","per":"month"}`},
		{422, `body: endpoint: no route counts under "analize"; the endpoints are analyze, image-analysis`, "POST", "/grants", `{"requests":5,"endpoint":"analize","per":"month"}`},
		{422, "free has no limit day", "POST", "/grants", `{"requests":5,"per":"day"}`},
		{422, "open has no headline limit", "POST", "/grants?plan=open", `{"requests":5}`},
		{422, `there is no plan "gold"; the plans are free, open, pro`, "POST", "/grants?plan=gold", `{"requests":5}`},
		{413, "65536 bytes", "POST", "/grants", `{"requests":5}` + big},
		{422, `there is no plan "gold"; the plans are free, open, pro`, "PUT", "/plan", `{"plan":"gold"}`},
		{400, "plan", "PUT", "/plan", `{}`},
		{422, "must be in the future", "PUT", "/plan", `{"plan":"pro","until":"2026-11-24T12:00:00Z"}`},
		{400, `until: must be a time like "2026-12-31T00:00:00Z", got "tomorrow"`, "PUT", "/plan", `{"plan":"pro","until":"tomorrow"}`},
		{400, "until: must be a time like", "PUT", "/plan", `{"plan":"pro","until":1796083200}`},
		{400, "analyze: must be a whole number", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":"5"}}`},
		{400, "analyze: must be a whole number", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":null}}`},
		{400, "analyze is given twice", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":5,"analyze":6}}`},
		{400, "must be 0 to", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":-1}}`},
		{400, "counts must have 1 to", "PUT", "/counts", `{"per":"month"}`},
		{400, "per must be", "PUT", "/counts", `{"endpoints":{"analyze":5}}`},
		{422, `no route counts under "analize"; the endpoints are analyze, image-analysis`, "PUT", "/counts", `{"per":"month","endpoints":{"analize":5}}`},
		{422, "over 1000000000000", "PUT", "/counts", `{"per":"month","endpoints":{"analyze":1000000000000,"image-analysis":1}}`},
		{400, `unknown member "why"; the only member is reason`, "POST", "/reset", `{"why":"x"}`},
		{400, `query: unknown parameter "at"; this path takes none`, "POST", "/reset?at=2026", ""},
		{400, "query: reason is given twice", "DELETE", "/plan?reason=a&reason=b", ""},
		{400, `query: unknown parameter "until"; this path takes reason`, "DELETE", "/plan?until=x", ""},
		{400, `unknown parameter "att"; this path takes at, per, plan`, "GET", "?att=2026-10", ""},
		{400, "query:", "GET", "?at=%zz", ""},
		{422, `there is no plan "gold"`, "GET", "?plan=gold", ""},
		{400, `unknown parameter "x"`, "GET", "/audit?x", ""},
		{405, "served for POST", "GET", "/grants", ""},
		{405, "served for DELETE, PUT", "GET", "/plan", ""},
		{405, "served for GET, HEAD", "DELETE", "", ""},
	} {
		r.refused(c.status, c.say, c.method, u+c.path, c.body)
	}
	r.refused(415, "Content-Type must be application/json", "POST", u+"/grants", `{"requests":5}`, "Content-Type: text/plain")
	r.refused(415, "Content-Type must be application/json", "POST", u+"/grants", `{"requests":5}`, "Content-Type: ")
	r.refused(401, "token", "POST", u+"/grants", `{"requests":5}`, "Authorization: Bearer x")
	r.refused(401, "token", "GET", "/admin/users", "", "Authorization: ")
	r.refused(401, "token", "GET", "/admin/users/a/b/c", "", "Authorization: ") // without a token the path is not even looked at
	if _, header, _ := r.do("PATCH", u+"/plan", ""); header.Get("Allow") != "DELETE, PUT" {
		t.Errorf("Allow is %q", header.Get("Allow"))
	}
	if status, _, text := r.do("GET", u+"/audit", ""); status != 200 || !strings.Contains(text, `"entries":[]`) {
		t.Errorf("something was changed: %s", text)
	}
	r.ok("POST", u+"/grants", `{"requests":5}`, "Content-Type: Application/JSON; charset=utf-8")
	off := newTestAPI(t, func(o *admin.Options) { o.Gateway.(*gateway).token = "" })
	off.refused(403, "admin.token", "GET", u, "")
}

// A grant that is sent twice with the same key is made once.
func TestIdempotencyKeyAppliesOnce(t *testing.T) {
	r := newTestAPI(t)
	const u = "/admin/users/u"
	for _, key := range []string{"k1", `"k1"`, "k1"} {
		if s := r.ok("POST", u+"/grants", `{"requests":5}`, "Idempotency-Key: "+key); *s.Limit != 105 {
			t.Errorf("limit %d, want 105", *s.Limit)
		}
	}
	r.refused(409, "Another change", "POST", u+"/grants", `{"requests":6}`, "Idempotency-Key: k1")
	if s := r.ok("POST", u+"/grants", `{"requests":6}`, "Idempotency-Key: k2"); *s.Limit != 111 {
		t.Errorf("limit %d, want 111", *s.Limit)
	}
	if s := r.ok("POST", "/admin/users/v/grants", `{"requests":6}`, "Idempotency-Key: k1"); *s.Limit != 106 {
		t.Errorf("limit %d of another user, want 106", *s.Limit)
	}
	for _, bad := range []string{"", `""`, "é", strings.Repeat("k", 257)} {
		status, _, text := r.do("POST", u+"/grants", `{"requests":5}`, "Idempotency-Key: "+bad)
		if status != 400 {
			t.Errorf("the key %q: %d %s", bad, status, text)
		}
	}
	for i := range quota.MaxChangeIDs - 2 {
		r.ok("POST", u+"/grants", `{"requests":1}`, fmt.Sprint("Idempotency-Key: n", i))
	}
	r.refused(429, "without", "POST", u+"/grants", `{"requests":1}`, "Idempotency-Key: more")
	r.ok("POST", u+"/grants", `{"requests":1}`)
}

// What is accepted after a loss of data is said, and a store that does not answer is no success.
func TestAcceptData(t *testing.T) {
	for _, c := range []struct {
		gateway gateway
		status  int
		say     string
	}{
		{gateway{lostParts: 3}, 200, `{"status":"accepted","parts":3}`},
		{gateway{}, 200, `{"status":"nothing_lost","parts":0}`},
		{gateway{acceptErr: errDown}, 503, "not accepted yet"},
	} {
		r := newTestAPI(t, func(o *admin.Options) { c.gateway.token = token; o.Gateway = &c.gateway })
		if status, _, text := r.do("POST", "/admin/data/accept", ""); status != c.status || !strings.Contains(text, c.say) || strings.Contains(text, errDown.Error()) {
			t.Errorf("%d %s, want %d %s", status, text, c.status, c.say)
		}
		r.refused(401, "token", "POST", "/admin/data/accept", "", "Authorization: ")
	}
}
