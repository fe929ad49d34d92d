package billing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/cmd/metergate/billing/billingtest"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/admin"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// start is where the clock of a world begins. All of a test is in one month.
var start = time.Date(2026, time.November, 10, 9, 30, 0, 0, time.UTC)

// A world is a store whose clock a test moves, with its admin API. It knows what must be billed.
type world struct {
	*testing.T
	clock    *quotatest.Clock
	store    *guard.Store
	network  *redistest.FaultProxy // to Redis; nil: the store is embedded
	admin    string
	receiver *billingtest.Receiver
	to       string
	random   *rand.Rand
	plans    quota.PlanChoice

	mu    sync.Mutex
	want  map[billingtest.Key]billingtest.Amount
	total map[string]quota.Used // by account and endpoint
	late  []lateCommit
}

// A lateCommit is a call that comes some hours later, as when a journal is replayed.
type lateCommit struct {
	quota.Reservation
	rest bool // CommitRest
	hour int  // of the test
}

func newWorld(t *testing.T, to string, onRedis bool) *world {
	t.Helper()
	w := &world{T: t, clock: quotatest.NewClock(start), to: to, random: gatewaytest.NewRandom(t),
		want: map[billingtest.Key]billingtest.Amount{}, total: map[string]quota.Used{}}
	plan, err := quota.NewPlan(quota.PlanOptions{Name: "paid", Endpoints: endpoints, WarnAt: 80,
		Limits: []quota.Limit{{Amount: 1e9, Period: quota.Month}, {Amount: 1e9, Period: quota.Month, Quantity: quota.Units}}})
	if err != nil {
		t.Fatal(err)
	}
	w.plans = quota.PlanChoice{Claimed: plan, ByName: map[string]*quota.Plan{"paid": plan}}
	const timeout = 20 * time.Second // no store is meant to be slow
	calendar := quota.NewCalendar(nil)
	o := guard.Options{AllowOnFailure: true, Timeout: timeout, Calendar: calendar, Keep: 400 * 24 * time.Hour, BillingHours: quota.MaxBillingHours}
	if onRedis {
		w.network = redistest.StartFaultProxy(t, redistest.Start(t).Addr)
		if o.Journal, err = guard.OpenJournal(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		backend, err := redisstore.Open(redisstore.Options{URL: w.network.URL(), Timeout: timeout, Calendar: calendar, Keep: o.Keep,
			BillingHours: quota.MaxBillingHours, Now: w.clock.Now, Offset: w.clock.Offset})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { backend.Close() })
		o.Backend = backend
	} else {
		backend, err := boltstore.Open(t.TempDir(), boltstore.Options{Calendar: calendar, Keep: o.Keep, BillingHours: quota.MaxBillingHours, Now: w.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { backend.Close() })
		o.Backend = backend
	}
	if w.store, err = guard.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	server := httptest.NewServer(admin.Handler(admin.Options{Gateway: adminGateway{w.plans}, Store: w.store, Calendar: calendar, Clock: w.clock}))
	t.Cleanup(server.Close)
	w.admin = server.URL
	w.receiver = billingtest.Start(t, to)
	return w
}

var endpoints = []string{"analyze", "report", "chat"}

// adminGateway is what the admin API asks of a gateway.
type adminGateway struct{ plans quota.PlanChoice }

func (adminGateway) Tokens() admin.Tokens                    { return admin.Tokens{Admin: gatewaytest.AdminToken} }
func (adminGateway) AdminHosts() []string                    { return nil }
func (adminGateway) ReloadConfig() ([]string, error)         { return nil, nil }
func (adminGateway) AcceptData(context.Context) (int, error) { return 0, nil }
func (adminGateway) EffectiveConfig() any                    { return nil }
func (adminGateway) HasOrganisations() bool                  { return true }
func (g adminGateway) PlansFor(string) quota.PlanChoice      { return g.plans }

// account returns a user's account. Some users are members of an organisation.
func account(user int) string {
	org := ""
	if user%3 == 0 {
		org = fmt.Sprintf("org-%d", user%7)
	}
	return quota.MemberAccount(org, fmt.Sprintf("u-%d", user))
}

// use makes requests of random users in the running hour of the test, some of which are counted hours later.
func (w *world) use(hour, users, requests int) {
	w.Helper()
	type request struct {
		account, endpoint string
		unused, rest      int64
		charged           int64
		fate              float64
		later             int
	}
	const units = 5
	queue := make(chan request, requests)
	for range requests {
		r := request{account: account(w.random.IntN(users)), endpoint: endpoints[w.random.IntN(len(endpoints))], unused: w.random.Int64N(units + 1),
			fate: w.random.Float64(), later: 1 + w.random.IntN(8)}
		r.rest = w.random.Int64N(r.unused + 1)
		r.charged = w.random.Int64N(r.rest + 1)
		queue <- r
	}
	close(queue)
	var working sync.WaitGroup
	for range 8 {
		working.Go(func() {
			for r := range queue {
				d, err := w.store.Reserve(w.Context(), quota.Request{ID: quota.NewID(), User: r.account, Endpoint: r.endpoint, Units: units, Plans: w.plans, Lease: time.Minute})
				if err != nil || !d.Admitted {
					w.Errorf("Reserve: %v", err)
					return
				}
				if r.fate < 0.05 {
					w.store.Release(w.Context(), &d.Reservation)
					continue
				}
				d.Reservation.Unused, d.Reservation.Rest, d.Reservation.RestCharged = r.unused, r.rest, r.charged
				w.expect(&d.Reservation)
				w.count(lateCommit{Reservation: d.Reservation, hour: hour}, r.fate > 0.9, r.later)
				if r.rest > 0 {
					w.count(lateCommit{Reservation: d.Reservation, hour: hour, rest: true}, r.fate > 0.8, r.later)
				}
			}
		})
	}
	working.Wait()
}

// expect says that a reservation will be billed in its hour.
func (w *world) expect(r *quota.Reservation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.BillHour == 0 {
		w.Errorf("a reservation without an hour: %+v", r)
	}
	_, user := quota.SplitAccount(r.User)
	used := quota.Used{Requests: 1, Units: r.ChargedUnits() + r.ChargedRest()}
	key := billingtest.Key{Customer: user, Code: r.Endpoint, Hour: r.BillHour.Start()}
	amount := w.want[key]
	amount.Requests += used.Requests
	if w.to != "stripe" { // it gets requests alone
		amount.Units += used.Units
	}
	w.want[key] = amount
	total := w.total[r.User+" "+r.Endpoint]
	w.total[r.User+" "+r.Endpoint] = quota.Used{Requests: total.Requests + used.Requests, Units: total.Units + used.Units}
}

// count makes a call now, or some hours later.
func (w *world) count(c lateCommit, late bool, hours int) {
	if late {
		w.mu.Lock()
		defer w.mu.Unlock()
		c.hour += hours
		w.late = append(w.late, c)
		return
	}
	var err error
	if c.rest {
		_, err = w.store.CommitRest(context.Background(), &c.Reservation)
	} else {
		_, err = w.store.Commit(context.Background(), &c.Reservation)
	}
	if err != nil {
		w.Errorf("counting: %v", err)
	}
}

// countLate makes the late calls of hours up to this one.
func (w *world) countLate(hour int) {
	w.mu.Lock()
	var due []lateCommit
	rest := w.late[:0]
	for _, c := range w.late {
		if c.hour <= hour {
			due = append(due, c)
		} else {
			rest = append(rest, c)
		}
	}
	w.late = rest
	w.mu.Unlock()
	for _, c := range due {
		w.count(c, false, 0)
	}
}

var billEnv = []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken, "METERGATE_BILL_TOKEN=" + billingtest.Token}

func billArgs(admin, to string, receiver *billingtest.Receiver, more ...string) []string {
	return append([]string{"bill", "-to", to, "-url", receiver.URL, "-admin", admin, "-rate", "10000"}, more...)
}

func startBill(t testing.TB, admin, to string, receiver *billingtest.Receiver, more ...string) *gatewaytest.Process {
	t.Helper()
	return gatewaytest.Start(t, billEnv, billArgs(admin, to, receiver, more...)...)
}

// billAll runs metergate bill until it has nothing more to send.
func billAll(t testing.TB, admin, to string, receiver *billingtest.Receiver) {
	t.Helper()
	limit := time.Duration(gatewaytest.Times(2, 20)) * time.Minute
	testkit.EventuallyWithin(t, limit, "everything is billed", func() bool {
		p := startBill(t, admin, to, receiver)
		return p.Wait() == 0 && strings.HasPrefix(p.Output(), "sent 0 events of 0 users: ")
	})
}

// wantSums compares what the receiver has with what was counted, and that with the counters.
func (w *world) wantSums() {
	w.Helper()
	want := map[billingtest.Key]billingtest.Amount{}
	for key, amount := range w.want {
		if amount != (billingtest.Amount{}) {
			want[key] = amount
		}
	}
	if diff := cmp.Diff(want, w.receiver.Sums()); diff != "" {
		w.Errorf("billed (+), counted (-): %.4000s", diff)
	}
	counted := map[string]quota.Used{}
	err := w.store.ScanUsers(w.Context(), quota.WindowQuery{Period: quota.Month, At: start}, func(u quota.UserUsage) error {
		for endpoint, requests := range u.Endpoints {
			counted[quota.MemberAccount(u.Org, u.User)+" "+endpoint] = quota.Used{Requests: requests, Units: requests + u.Extra[endpoint]}
		}
		return nil
	})
	if diff := cmp.Diff(w.total, counted); err != nil || diff != "" {
		w.Errorf("the counters: error %v, %.4000s", err, diff)
	}
	stats := w.receiver.Stats()
	w.Logf("%d requests with %d events, %d of them for the second time; %d faults; %d hours of users", stats.Requests, stats.Events, stats.Repeated, stats.Faults, len(want))
}

// faulty makes a receiver fail in one of three requests.
func faulty(receiver *billingtest.Receiver) {
	receiver.Fault = func() billingtest.Fault {
		if rand.IntN(3) > 0 {
			return billingtest.None
		}
		return 1 + rand.N(billingtest.ClosesLate)
	}
}
