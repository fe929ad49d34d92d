package billing

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
