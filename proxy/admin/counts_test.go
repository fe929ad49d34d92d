package admin_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota"
)

const jsonLines = "Content-Type: application/jsonl"

// One request sets the counts of many users.
func TestPutCountsOfManyUsers(t *testing.T) {
	r := newTestAPI(t)
	r.use("u-3", "pro", "analyze")
	var body strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&body, `{"user":"u-%d","endpoints":{"analyze":%d,"image-analysis":2}}`+"\n", i, i)
	}
	for range 2 { // counts are set, not added
		status, _, text := r.do("PUT", "/admin/counts?reason=import", body.String(), jsonLines)
		if status != 200 || text != `{"users":1000,"counts":2000}`+"\n" {
			t.Fatalf("%d %s", status, text)
		}
	}
	for _, i := range []int64{0, 3, 999} {
		if s := r.ok("GET", fmt.Sprint("/admin/users/u-", i), ""); s.Used != i+2 {
			t.Errorf("u-%d has used %d, want %d", i, s.Used, i+2)
		}
	}
	if s := r.ok("GET", "/admin/users/u-3", ""); s.Plan != "pro" || *s.Claimed != "pro" {
		t.Errorf("the plan of u-3 has become %s", s.Plan)
	}
	_, _, log := r.do("GET", "/admin/users/u-3/audit", "")
	if n := strings.Count(log, `"action":"set_counts","per":"month","counts":{"analyze":3,"image-analysis":2},"by":"127.0.0.1","reason":"import"`); n != 2 {
		t.Errorf("%d entries in the audit log, want 2: %s", n, log)
	}
	// What existed before and is gone can be set to 0; the last line needs no end.
	if status, _, text := r.do("PUT", "/admin/counts?per=day", "\n"+`{"user":"u-1","endpoints":{"former":0}}`, jsonLines); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	for range 2 { // made once
		r.do("PUT", "/admin/counts?per=month", `{"user":"u-3","endpoints":{"analyze":50}}`, jsonLines, "Idempotency-Key: k")
		r.use("u-3", "pro", "analyze")
	}
	if s := r.ok("GET", "/admin/users/u-3", ""); s.Used != 54 {
		t.Errorf("u-3 has used %d, want 54", s.Used)
	}
}

// A request with a fault changes nothing, and the answer names the line.
func TestInvalidCountsChangeNothing(t *testing.T) {
	r := newTestAPI(t)
	const good, month = `{"user":"u","endpoints":{"analyze":5}}` + "\n", "/admin/counts?per=month"
	for _, c := range []struct {
		status          int
		say, path, body string
	}{
		{400, "query: per: must be minute", "/admin/counts?per=fortnight", good},
		{400, "unknown parameter", month + "&users=1", good},
		{400, "line 2: user: must be a string in quotation marks, got 5", month, good + `{"user":5,"endpoints":{"analyze":5}}`},
		{400, "line 3: user \"u\" is already in line 1", month, good + "\n" + good},
		{400, "line 2: a user's id must be 1 to 256 bytes", month, good + `{"endpoints":{"analyze":5}}`},
		{400, "line 2: unknown member \"used\"", month, good + `{"user":"v","used":5}`},
		{400, "line 2: endpoints: analyze: must be a whole number, got 1.5", month, good + `{"user":"v","endpoints":{"analyze":1.5}}`},
		{400, "line 2: the count of analyze must be 0 to", month, good + `{"user":"v","endpoints":{"analyze":-1}}`},
		{400, "line 2: counts must have 1 to 100 endpoints", month, good + `{"user":"v"}`},
		{400, "line 2: must be a JSON object, but the text ends", month, good + `{"user":"v",`},
		{422, `line 2: no route counts under "analize"; the endpoints are analyze, image-analysis`, month, good + `{"user":"v","endpoints":{"analize":1}}`},
		{400, "body: must have 1 to 1000 lines like {", month, "\n\n"},
		{400, "body: must have 1 to 1000 lines like {", month, manyUsers(1001)},
		{413, "1048576 bytes and 1000 users", month, good + strings.Repeat(" ", 1<<20)},
	} {
		r.refused(c.status, c.say, "PUT", c.path, c.body, jsonLines)
	}
	r.refused(415, "Content-Type must be application/jsonl", "PUT", month, good)
	r.refused(401, "token", "PUT", month, good, jsonLines, "Authorization: Bearer x")
	r.refused(405, "PUT", "GET", month, "")
	for _, user := range []string{"u", "v"} {
		if s := r.ok("GET", "/admin/users/"+user, ""); s.Used != 0 {
			t.Errorf("%s has used %d", user, s.Used)
		}
	}
	// A sum that is too large is only known to the store.
	r.refused(422, `user "v": the number would be too large. The counts of 1 of 2 users are set.`, "PUT", month,
		good+`{"user":"v","endpoints":{"analyze":1000000000000,"image-analysis":1}}`, jsonLines)
}

func manyUsers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"user":"u-%d","endpoints":{"analyze":5}}`+"\n", i)
	}
	return b.String()
}

// A failingStore does not answer any more after some changes.
type failingStore struct {
	admin.Store
	left *atomic.Int64
}

func (s failingStore) ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	if s.left.Add(-1) < 0 {
		return quota.Snapshot{}, errDown
	}
	return s.Store.ApplyChange(ctx, user, plans, c)
}

// A store that fails in the middle leaves a part, which the answer tells. The whole can be sent
// again.
func TestPutCountsWhileStoreFails(t *testing.T) {
	var left atomic.Int64
	r := newTestAPI(t, func(o *admin.Options) { o.Store = failingStore{o.Store, &left} })
	left.Store(300)
	r.refused(503, "The store does not answer. The counts of 300 of 1000 users are set. Send all of them again", "PUT", "/admin/counts?per=month", manyUsers(1000), jsonLines)
	left.Store(1 << 30)
	if status, _, text := r.do("PUT", "/admin/counts?per=month", manyUsers(1000), jsonLines); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	for i := range 1000 {
		if s := r.ok("GET", fmt.Sprint("/admin/users/u-", i), ""); s.Used != 5 {
			t.Fatalf("u-%d has used %d, want 5", i, s.Used)
		}
	}
}
