package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/proxy/admin"
	"metergate/quota"
)

// billStore is a store whose bills are those that a test gives it.
type billStore struct {
	admin.Store
	err error // of both methods

	mu    sync.Mutex
	query quota.BillQuery
	bills map[string][]quota.Bill
	// breaks ends a scan after so many accounts; 0: it does not.
	breaks int
}

func (s *billStore) ScanBills(_ context.Context, q quota.BillQuery, yield func(quota.AccountBills) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.query = q; s.err != nil {
		return s.err
	}
	accounts := 0
	for _, account := range slices.Sorted(func(yield func(string) bool) {
		for account := range s.bills {
			if !yield(account) {
				return
			}
		}
	}) {
		if accounts++; accounts == s.breaks {
			return errors.New("connection lost")
		}
		q.Progress(int64(accounts), int64(len(s.bills)))
		if err := yield(quota.AccountBills{Account: account, Bills: s.bills[account]}); err != nil {
			return err
		}
	}
	return nil
}

func (s *billStore) EndBills(_ context.Context, account string, ended []quota.Bill) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.bills[account] = slices.DeleteFunc(s.bills[account], func(b quota.Bill) bool {
		return slices.ContainsFunc(ended, func(e quota.Bill) bool {
			return e.Endpoint == b.Endpoint && e.Hour == b.Hour && e.Revision == b.Revision
		})
	})
	return nil
}

var eleven = quota.BillHourAt(noon) - 1

func newBillsAPI(t *testing.T, change ...func(*admin.Options)) (*testAPI, *billStore) {
	t.Helper()
	s := &billStore{bills: map[string][]quota.Bill{
		"u-17":                             {{Endpoint: "analyze", Hour: eleven, Revision: 1, Used: quota.Used{Requests: 12, Units: 40}}, {Endpoint: "analyze", Hour: eleven, Revision: 2, Used: quota.Used{Units: 3}}},
		quota.MemberAccount("acme", "<b>"): {{Endpoint: "image-analysis", Hour: eleven - 1, Revision: 7, Used: quota.Used{Requests: 1, Units: 5}}},
	}}
	return newTestAPI(t, append(change, func(o *admin.Options) { s.Store, o.Store = o.Store, s })...), s
}

const (
	memberLine = `{"user":"<b>","org":"acme","endpoint":"image-analysis","hour":"2026-11-24T10:00:00Z","revision":7,"requests":1,"units":5}` + "\n"
	userLines  = `{"user":"u-17","endpoint":"analyze","hour":"2026-11-24T11:00:00Z","revision":1,"requests":12,"units":40}` + "\n" +
		`{"user":"u-17","endpoint":"analyze","hour":"2026-11-24T11:00:00Z","revision":2,"requests":0,"units":3}` + "\n"
)

// A POST makes the bills of the hours that are over; a GET shows what it would make.
func TestListBills(t *testing.T) {
	r, s := newBillsAPI(t)
	for method, dryRun := range map[string]bool{"GET": true, "POST": false} {
		status, header, text := r.do(method, "/admin/bills", "")
		want := `{"progress":{"done":1,"total":2}}` + "\n" + memberLine + userLines + `{"end":true}` + "\n"
		if status != 200 || text != want || header.Get("Content-Type") != "application/jsonl" {
			t.Errorf("%s: %d %s:\n%s\nwant:\n%s", method, status, header.Get("Content-Type"), text, want)
		}
		if s.query.DryRun != dryRun || s.query.Since != 0 || s.query.Before != eleven+1 {
			t.Errorf("%s: asked for %+v", method, s.query)
		}
	}
	r.do("POST", "/admin/bills?since=2026-11-24T08:59:59%2B01:00&before=2026-11-24T11:30:00Z", "")
	if s.query.Since.Start().Format(time.RFC3339) != "2026-11-24T07:00:00Z" || s.query.Before != eleven {
		t.Errorf("asked for %+v", s.query)
	}
	if status, header, text := r.do("HEAD", "/admin/bills", ""); status != 200 || text != "" || header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("HEAD: %d %s", status, header)
	}
	for _, method := range []string{"GET", "POST"} {
		r.refused(400, `since: must be a time like 2026-11-29T14:00:00Z, got "yesterday"`, method, "/admin/bills?since=yesterday", "")
		r.refused(400, "since: must not be in the future, got 2026-11-24T13:00:00Z", method, "/admin/bills?since=2026-11-24T13:00:00Z", "")
		r.refused(400, "before: must not be in the future", method, "/admin/bills?before=2026-11-24T13:00:00Z", "")
		r.refused(400, `unknown parameter "dry_run"; this path takes since, before`, method, "/admin/bills?dry_run=true", "")
	}
	r.refused(405, "GET, HEAD, POST", "PUT", "/admin/bills", "")
	r.refused(405, "POST", "GET", "/admin/bills/sent", "")
	r.bearer("wrong", 401, "GET", "/admin/bills")
	r.bearer("wrong", 401, "POST", "/admin/bills")
	r.bearer("wrong", 401, "POST", "/admin/bills/sent")
}

// bearer makes a request with another token.
func (r *testAPI) bearer(token string, want int, method, path string) {
	r.Helper()
	if status, _, _ := r.do(method, path, "", "Authorization: Bearer "+token); status != want {
		r.Errorf("%s %s: %d, want %d", method, path, status, want)
	}
}

// Half a list is not taken for the whole, and an error before it has its own status.
func TestListOfBillsThatBreaksOff(t *testing.T) {
	r, s := newBillsAPI(t)
	s.breaks = 2
	req, _ := http.NewRequest("POST", r.url+"/admin/bills", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err == nil || strings.Contains(string(text), "end") {
		t.Errorf("error %v: %s", err, text)
	}
	s.mu.Lock() // the handler may not have returned
	s.breaks = 1
	s.mu.Unlock()
	r.refused(503, "The store does not answer", "POST", "/admin/bills", "")
}

// Where nothing is kept for billing, all paths say so.
func TestBillsAreNotKept(t *testing.T) {
	r, s := newBillsAPI(t)
	s.err = quota.ErrNotKept
	for _, c := range [][2]string{{"GET", "/admin/bills"}, {"POST", "/admin/bills"}, {"POST", "/admin/bills/sent"}} {
		body, fields := "", []string{}
		if strings.HasSuffix(c[1], "sent") {
			body, fields = userLines, []string{"Content-Type: application/jsonl"}
		}
		status, _, text := r.do(c[0], c[1], body, fields...)
		var p struct{ Detail, Reason string }
		if err := json.Unmarshal([]byte(text), &p); err != nil || status != 404 || p.Reason != "no_billing" || !strings.Contains(p.Detail, "Set billing.keep") {
			t.Errorf("%v: %d %s", c, status, text)
		}
		if c[1] == "/admin/bills" && c[0] == "POST" {
			if e := r.entries("/admin/audit")[0]; e.Action != "make bills" || e.Detail != "" || !strings.HasPrefix(e.Outcome, "refused: ") {
				t.Errorf("the list of actions has %+v, want no detail", e)
			}
		}
	}
}

// Bills that were sent are dropped, each once; the rest stays.
func TestSentBillsAreDropped(t *testing.T) {
	r, s := newBillsAPI(t)
	send := func(body string) (int, string) {
		t.Helper()
		status, _, text := r.do("POST", "/admin/bills/sent", body, "Content-Type: application/jsonl")
		return status, text
	}
	firstLine, _, _ := strings.Cut(userLines, "\n")
	for range 2 { // the second time changes nothing
		if status, text := send(firstLine + "\n\n" + memberLine); status != 200 || text != `{"bills":2}`+"\n" {
			t.Errorf("%d %s", status, text)
		}
		if left := s.bills["u-17"]; len(left) != 1 || left[0].Revision != 2 || len(s.bills[quota.MemberAccount("acme", "<b>")]) > 0 {
			t.Errorf("left: %+v", s.bills)
		}
	}
	line := func(change ...string) string { return strings.NewReplacer(change...).Replace(firstLine) }
	for body, want := range map[string]string{
		"":                                      "must have 1 to 1000 lines",
		strings.Repeat(firstLine+"\n", 1001):    "must have 1 to 1000 lines",
		"{}":                                    "line 1: user: is missing",
		firstLine + "\nnonsense":                "line 2: is not JSON",
		line(`"analyze"`, `""`):                 "line 1: endpoint: is missing",
		line("11:00:00", "11:30:00"):            `line 1: hour: must be the start of an hour, such as "2026-11-29T14:00:00Z", got "2026-11-24T11:30:00Z"`,
		line(`"2026-11-24T11:00:00Z"`, "7"):     `line 1: hour: must be a time like`,
		line(`"revision":1`, `"revision":0`):    "line 1: revision: must be 1 or more, got 0",
		line(`"revision"`, `"version"`):         `line 1: unknown member "version"`,
		line(`"u-17"`, `"u\u0001"`):             "line 1: a user's id must be",
		line(`"user"`, `"org":"\u0001","user"`): "line 1: an organisation's id must be",
	} {
		status, text := send(body)
		var p struct{ Detail string }
		if err := json.Unmarshal([]byte(text), &p); err != nil || status != 400 || !strings.Contains(p.Detail, want) {
			t.Errorf("%.100s: %d %s; want %s", body, status, text, want)
		}
	}
	r.refused(413, "at most 1048576 bytes and 1000 bills", "POST", "/admin/bills/sent", strings.Repeat(" ", 1<<20)+firstLine, "Content-Type: application/jsonl")
	r.refused(415, "application/jsonl", "POST", "/admin/bills/sent", firstLine)
	s.err = fmt.Errorf("connection lost")
	r.refused(503, "The bills of 0 of 1 users are noted as sent. Send all of them again.", "POST", "/admin/bills/sent", firstLine, "Content-Type: application/jsonl")
}
