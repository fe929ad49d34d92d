package billing

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/cmd/metergate/billing/billingtest"
	"metergate/quota/testkit"
)

// hoursOf returns bills of a user, hour by hour.
func hoursOf(user, n int) (bills []Bill) {
	for h := range n {
		b := newBill(user)
		b.Hour = hour.Add(time.Duration(h) * time.Hour)
		bills = append(bills, b)
	}
	return bills
}

// A few customers whom the receiver refuses, with any number of events, keep no other from being billed.
func TestRefusedCustomersHoldUpNoOther(t *testing.T) {
	r, notes := billingtest.Start(t, "stripe"), &notebook{}
	r.Refuses = func(e billingtest.Event) bool { return len(e.Customer) == len("u-1") }
	var bills []Bill
	for u := range 3 {
		bills = append(bills, hoursOf(u, 320)...)
	}
	for u := range 30 {
		bills = append(bills, newBill(100+u))
	}
	report := newSender(t, Options{To: "stripe", URL: r.URL}).Send(t.Context(), list(bills...), notes, nil)
	if report.Events != 30 || report.Refused != 960 || report.Unsent != 0 || report.Stopped != nil {
		t.Errorf("%+v", report)
	}
}

// An endpoint of which nothing is taken is given up. The others are billed.
func TestRefusedEndpointHoldsUpNoOther(t *testing.T) {
	r, notes := billingtest.Start(t, "stripe"), &notebook{}
	r.Refuses = func(e billingtest.Event) bool { return e.Code == "report" }
	var bills []Bill
	for u := range 1000 {
		b := newBill(u)
		b.Endpoint = "report"
		bills = append(bills, b)
	}
	for u := range 20 {
		bills = append(bills, newBill(u))
	}
	report := newSender(t, Options{To: "stripe", URL: r.URL}).Send(t.Context(), list(bills...), notes, nil)
	if report.Events != 20 || report.Refused < 100 || report.Refused > 100+workers || report.Refused+report.Unsent != 1000 ||
		report.Stopped == nil || !strings.HasPrefix(report.Stopped.Error(), "stripe takes nothing of the endpoint report: 400") {
		t.Errorf("%+v", report)
	}
}

// While a customer's many events take their time, those of others are sent.
func TestSlowCustomerHoldsUpNoOther(t *testing.T) {
	r, notes := billingtest.Start(t, "stripe"), &notebook{}
	good := newBills(20)
	bills := append(good[:len(good):len(good)], hoursOf(999, 3*batchBills)...)
	var waited atomic.Bool
	var once sync.Once
	enough := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := new(strings.Builder)
		copyBody(body, req)
		if strings.Contains(body.String(), "u-999") && waited.CompareAndSwap(false, true) {
			select {
			case <-enough:
			case <-time.After(testkit.Patience):
				t.Error("events of others are not sent")
			}
		}
		r.ServeHTTP(w, withBody(req, body.String()))
	}))
	defer front.Close()
	report := newSender(t, Options{To: "stripe", URL: front.URL}).Send(t.Context(), list(bills...), notes, func(r Report) {
		if r.Events >= int64(len(good)) {
			once.Do(func() { close(enough) })
		}
	})
	if !report.Complete() {
		t.Errorf("%+v", report)
	}
}

// With the line *,* those who are not in the file keep their ids.
func TestCustomersThatKeepTheirIDs(t *testing.T) {
	r, notes := billingtest.Start(t, "stripe"), &notebook{}
	s := newSender(t, Options{To: "stripe", URL: r.URL, Customers: map[string]string{"u-1": "cus_1", "u-2": NotBilled, "*": "*"}})
	report := s.Send(t.Context(), list(newBill(1), newBill(2), newBill(3)), notes, nil)
	if !report.Complete() || report.Events != 2 || report.NotBilled != 1 {
		t.Errorf("%+v", report)
	}
	customers := map[string]bool{}
	for _, e := range r.Events() {
		customers[e.Customer] = true
	}
	if diff := cmp.Diff(map[string]bool{"cus_1": true, "u-3": true}, customers); diff != "" {
		t.Error(diff)
	}
}

// The reason to stop tells what was taken before, and at which event it was.
func TestTookNothingNamesTheEvent(t *testing.T) {
	r := run{Sender: newSender(t, Options{To: "stripe", URL: "http://127.0.0.1:1"}), report: Report{Events: 280}}
	err := r.tookNothing(5*time.Second, verdict{text: "500 no"}, event{bill: newBill(1)})
	if want := `stripe has taken nothing for 5s: 500 no; it took 280 before, and an event of user "u-1", analyze, 2026-11-29T14:00Z may be to blame`; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// Refused events of a customer are one line, and so is an answer that many customers get.
func TestFaultsSayWhomTheyAreAbout(t *testing.T) {
	var f faults
	for _, b := range hoursOf(1, 320) {
		f.add(`user "u-1"`, b, "400 deleted")
	}
	for u := range 30 {
		f.add(fmt.Sprint("user ", u), newBill(u), "400 no meter")
	}
	for u := range 30 {
		f.add("user", newBill(u), fmt.Sprint("no customer for ", u))
	}
	lines, more := f.lines()
	if len(lines) != 20 || more != 12 {
		t.Fatalf("%q and %d", lines, more)
	}
	want := []string{
		`user "u-1": 320 events of analyze, 2026-11-29T14:00Z to 2026-12-12T21:00Z: 400 deleted`,
		"user 0; user 1; user 2; user 3; user 4 and 25 more: 30 events of analyze, 2026-11-29T14:00Z: 400 no meter",
		"user: 1 event of analyze, 2026-11-29T14:00Z: no customer for 0",
	}
	if diff := cmp.Diff(want, lines[:3]); diff != "" {
		t.Error(diff)
	}
}
