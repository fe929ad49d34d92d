package billing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/cmd/metergate/billing/billingtest"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// pastStore is a store in which a test counts before gateways use it.
type pastStore interface {
	Reserve(context.Context, quota.Request) (*quota.Decision, error)
	Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Close() error
}

// fill counts requests of some users at a time that has passed, and returns what must be billed.
func fill(t *testing.T, store pastStore, users int) map[billingtest.Key]billingtest.Amount {
	t.Helper()
	plan, err := quota.NewPlan(quota.PlanOptions{Name: "open", Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	want := map[billingtest.Key]billingtest.Amount{}
	for user := range users {
		for i := range 1 + user%3 {
			d, err := store.Reserve(t.Context(), quota.Request{ID: quota.NewID(), User: account(user), Endpoint: endpoints[i], Units: int64(1 + user%5), Plans: quota.PlanChoice{Claimed: plan}, Lease: time.Minute})
			if err == nil {
				_, err = store.Commit(t.Context(), &d.Reservation)
			}
			if err != nil {
				t.Fatal(err)
			}
			want[billingtest.Key{Customer: fmt.Sprintf("u-%d", user), Code: endpoints[i], Hour: d.Reservation.BillHour.Start()}] = billingtest.Amount{Requests: 1, Units: int64(1 + user%5)}
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

// Whole gateways are killed while metergate bill asks them, and so is the command, and the receiver fails. In
// the end, everything is billed once.
func TestGatewaysDieWhileBilling(t *testing.T) {
	const ago = -5 * time.Hour
	past := time.Now().Add(ago)
	calendar := quota.NewCalendar(nil)
	for name, open := range map[string]func(*testing.T) (pastStore, string, error){
		"embedded": func(t *testing.T) (pastStore, string, error) {
			dir := t.TempDir()
			s, err := boltstore.Open(dir, boltstore.Options{Calendar: calendar, Keep: 400 * 24 * time.Hour, BillingHours: quota.MaxBillingHours, Now: func() time.Time { return past }})
			return s, "embedded:" + dir, err
		},
		"Redis": func(t *testing.T) (pastStore, string, error) {
			url := redistest.Start(t).URL()
			s, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "metergate", Timeout: 20 * time.Second, Calendar: calendar, Keep: 400 * 24 * time.Hour, BillingHours: quota.MaxBillingHours,
				Now: func() time.Time { return past }, Offset: func() time.Duration { return ago }})
			return s, url, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, url, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			want := fill(t, store, gatewaytest.Times(300, 3000))
			receiver := billingtest.Start(t, "cloudevents")
			faulty(receiver)
			gateway := gatewaytest.StartWithBilling(t, url, "http://127.0.0.1:1", gatewaytest.Patient)
			for range gatewaytest.Times(3, 30) {
				p := startBill(t, gateway.Admin, "cloudevents", receiver, "-retry", "2s")
				time.Sleep(rand.N(200 * time.Millisecond)) // the moment of the kill
				gateway.Kill()
				if rand.IntN(2) == 0 {
					p.Kill()
				}
				<-p.Done()
				gateway = gateway.Restart()
			}
			receiver.Heal()
			billAll(t, gateway.Admin, "cloudevents", receiver)
			if diff := cmp.Diff(want, receiver.Sums()); diff != "" {
				t.Errorf("billed (+), counted (-): %.4000s", diff)
			}
			t.Logf("%+v", receiver.Stats())
		})
	}
}

// A signal ends a run that waits for the receiver. What was delivered is noted, and the next run sends the rest.
func TestSignalEndsRun(t *testing.T) {
	past := time.Now().Add(-5 * time.Hour)
	dir := t.TempDir()
	store, err := boltstore.Open(dir, boltstore.Options{Calendar: quota.NewCalendar(nil), Keep: 400 * 24 * time.Hour, BillingHours: quota.MaxBillingHours, Now: func() time.Time { return past }})
	if err != nil {
		t.Fatal(err)
	}
	want := fill(t, store, 300)
	gateway := gatewaytest.StartWithBilling(t, "embedded:"+dir, "http://127.0.0.1:1")
	receiver := billingtest.Start(t, "openmeter")
	requests := 0
	receiver.Fault = func() billingtest.Fault {
		if requests++; requests > 2 {
			return billingtest.Stalls
		}
		return billingtest.None
	}
	p := startBill(t, gateway.Admin, "openmeter", receiver)
	testkit.Eventually(t, "the receiver stalls", func() bool { return receiver.Stats().Faults > 0 })
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 1 || !strings.Contains(p.Output(), "metergate: a signal ended the run; ") || !strings.Contains(p.Output(), "Run the command again") {
		t.Errorf("status %d: %s", code, p.Output())
	}
	receiver.Heal()
	billAll(t, gateway.Admin, "openmeter", receiver)
	if diff := cmp.Diff(want, receiver.Sums()); diff != "" {
		t.Errorf("billed (+), counted (-): %.4000s", diff)
	}
}
