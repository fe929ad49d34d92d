package upgrading

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// An api answers each request with a cost. A request with the query "hold" waits until its client,
// the gateway, is gone, or until the test lets it go.
type api struct {
	*httptest.Server
	n       atomic.Int64
	arrived chan struct{} // a request is held
	letGo   chan struct{}
}

func startAPI(t *testing.T) *api {
	a := &api{arrived: make(chan struct{}, 1), letGo: make(chan struct{})}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.RawQuery == "hold" {
			a.arrived <- struct{}{}
			select {
			case <-a.letGo:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("X-Cost", fmt.Sprint(a.n.Add(1)%5+1))
	}))
	t.Cleanup(a.Close)
	return a
}

// call makes a request and returns its status, 0: none, and what it was charged; the release before
// does not say, and charges 1.
func call(client *http.Client, g *gatewaytest.Process, query, user, plan string) (status int, cost int64) {
	req, err := http.NewRequestWithContext(context.Background(), "POST", g.URL+"/api/analyze"+query, strings.NewReader("{}"))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+testkit.Token(user, plan))
	res, err := client.Do(req)
	if err != nil {
		return 0, 0
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if cost, err = strconv.ParseInt(res.Header.Get("X-Usage-Cost"), 10, 64); err != nil && res.StatusCode == 200 {
		cost = 1
	}
	return res.StatusCode, cost
}

// stop ends a gateway as an operator does.
func stop(t *testing.T, g *gatewaytest.Process) {
	t.Helper()
	g.Signal(syscall.SIGTERM)
	if code := g.Wait(); code != 0 {
		t.Errorf("the gateway ended with status %d: %s", code, g.Output())
	}
}

// wantUsed compares what a gateway says that a user has used, in requests, and in units unless they
// are -1. Nothing may be held.
func wantUsed(t *testing.T, g *gatewaytest.Process, user, plan string, requests, units int64) {
	t.Helper()
	u := gatewaytest.Usage(t, g, testkit.Token(user, plan))
	e := u.Endpoints["analyze"]
	if e.Used != requests || u.InFlight != 0 || units >= 0 && (e.Units == nil || *e.Units != units) {
		t.Errorf("user %s: %+v, %d in flight; want %d requests, %d units", user, e, u.InFlight, requests, units)
	}
}

// Gateways of both releases serve the same users. The limit on requests is exact, this release counts
// what its own requests cost, and those of the release before count as one unit each.
func TestTwoReleasesShareRedis(t *testing.T) {
	t.Parallel()
	redis, upstream, client := redistest.Start(t), startAPI(t), gatewaytest.NewClient(t)
	older := before.start(t, t.TempDir(), redis.URL(), upstream.URL)
	newer := now.start(t, t.TempDir(), redis.URL(), upstream.URL)
	for round := range 5 {
		user := fmt.Sprint("user-", round)
		var passed, refused, charged atomic.Int64
		var wait sync.WaitGroup
		for i := range 400 {
			wait.Go(func() {
				g := older
				if i%2 == 0 {
					g = newer
				}
				switch status, cost := call(client, g, "", user, "free"); status {
				case 200:
					passed.Add(1)
					charged.Add(cost)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("status %d", status)
				}
			})
		}
		wait.Wait()
		if passed.Load() != 100 || refused.Load() != 300 {
			t.Errorf("round %d: %d passed, %d were refused; want 100 and 300", round, passed.Load(), refused.Load())
		}
		wantUsed(t, older, user, "free", 100, -1)
		wantUsed(t, newer, user, "free", 100, charged.Load())
	}
	// On the way back, the release before goes on with the counts of this one.
	newer.Kill()
	if status, _ := call(client, older, "", "user-0", "free"); status != 429 {
		t.Errorf("the 101st request: status %d", status)
	}
}

// A gateway dies with units held and a place taken, and the release before is the first to find that
// its lease has run out. It knows neither. This release must not take them for held for ever.
func TestReleaseEndsHoldOfUnits(t *testing.T) {
	t.Parallel()
	redis, upstream, client := redistest.Start(t), startAPI(t), gatewaytest.NewClient(t)
	older := before.start(t, t.TempDir(), redis.URL(), upstream.URL)
	newer := now.start(t, t.TempDir(), redis.URL(), upstream.URL)
	done := make(chan struct{})
	go func() { defer close(done); call(client, newer, "?hold", "u", "small") }()
	testkit.Receive(t, "the request at the upstream", upstream.arrived)
	newer.Kill()
	<-done
	token := testkit.Token("u", "small")
	if u := gatewaytest.Usage(t, older, token); u.InFlight != 1 {
		t.Errorf("the release before sees %d in flight, want 1", u.InFlight)
	}
	testkit.Eventually(t, "the lease has run out", func() bool { return gatewaytest.Usage(t, older, token).InFlight == 0 })
	newer = newer.Restart()
	// The limit is 20 units, and a request holds 20.
	if status, cost := call(client, newer, "", "u", "small"); status != 200 {
		t.Errorf("the next request: status %d", status)
	} else {
		wantUsed(t, newer, "u", "small", 1, cost)
	}
}

// While gateways are replaced one by one, a request that began on the release before ends there, and
// both releases see it held, and counted once. Grants stay.
func TestRequestOutlivesUpgrade(t *testing.T) {
	t.Parallel()
	redis, upstream, client := redistest.Start(t), startAPI(t), gatewaytest.NewClient(t)
	older := before.start(t, t.TempDir(), redis.URL(), upstream.URL)
	for range 3 {
		call(client, older, "", "u", "free")
	}
	gatewaytest.Administer(t, older, "POST", "/admin/users/u/grants", `{"requests": 7}`)
	status := make(chan int, 1)
	go func() { s, _ := call(client, older, "?hold", "u", "free"); status <- s }()
	testkit.Receive(t, "the request at the upstream", upstream.arrived)

	newer := now.start(t, t.TempDir(), redis.URL(), upstream.URL)
	if u := gatewaytest.Usage(t, newer, testkit.Token("u", "free")); u.Used != 3 || u.InFlight != 1 || *u.Limit != 107 || *u.Endpoints["analyze"].Units != 3 {
		t.Errorf("this release sees %+v", u)
	}
	_, cost := call(client, newer, "", "u", "free")
	close(upstream.letGo)
	if s := <-status; s != 200 {
		t.Errorf("the request that began before the upgrade got %d", s)
	}
	older.Kill()
	wantUsed(t, newer, "u", "free", 5, 4+cost)
}

// The release before refuses a journal that has the second step of a request, which it would leave. This
// one counts it, and then the way back is open.
func TestReleaseRefusesJournalOfRests(t *testing.T) {
	t.Parallel()
	redis, upstream, dir, ctx := redistest.Start(t), startAPI(t), t.TempDir(), context.Background()
	network := redistest.StartFaultProxy(t, redis.Addr)
	backend, err := redisstore.Open(redisstore.Options{URL: network.URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	journal, err := guard.OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	const keep = 400 * 24 * time.Hour
	store, err := guard.New(guard.Options{Backend: backend, Journal: journal, Timeout: 20 * time.Second, Calendar: quota.NewCalendar(nil), Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	plan := quotatest.NewWeightedPlan("free", quota.Limit{Amount: 1000, Period: quota.Month, Quantity: quota.Units})
	d, err := store.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Units: 9, Plans: plan.OnlyChoice(), Lease: time.Minute})
	if err != nil || !d.Admitted {
		t.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
	r := &d.Reservation
	r.Unused, r.Rest, r.RestCharged = 8, 8, 4
	if _, err := store.Commit(ctx, r); err != nil {
		t.Fatal(err)
	}
	network.RefuseConnections(true)
	network.CutConnections()
	if s, err := store.CommitRest(ctx, r); err != nil || !s.Stale {
		t.Fatalf("the second step in an outage: error %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	older := before.launch(t, dir, redis.URL(), upstream.URL)
	if code := older.Wait(); code != 1 || !strings.Contains(older.Output(), `the journal has format "2"; this version of the program reads only "1"`) {
		t.Errorf("the release before ended with status %d: %s", code, older.Output())
	}
	newer := now.start(t, dir, redis.URL(), upstream.URL)
	testkit.Eventually(t, "the journal is replayed", func() bool {
		e := gatewaytest.Usage(t, newer, testkit.Token("u", "free")).Endpoints["analyze"]
		return e.Used == 1 && *e.Units == 5
	})
	newer.Kill()
	older = before.start(t, dir, redis.URL(), upstream.URL)
	wantUsed(t, older, "u", "free", 1, -1)
}

// The embedded store of the release before is read and counted on. With the first cost its format
// changes, and the release before refuses it.
func TestUpgradeOfEmbeddedStore(t *testing.T) {
	t.Parallel()
	upstream, client, dir := startAPI(t), gatewaytest.NewClient(t), t.TempDir()
	const store = "embedded:data"
	older := before.start(t, dir, store, upstream.URL)
	for range 3 {
		call(client, older, "", "u", "free")
	}
	gatewaytest.Administer(t, older, "POST", "/admin/users/u/grants", `{"requests": 7}`)
	older.Kill()

	// Without costs the format stays, and the way back is open after a clean stop. A killed gateway leaves counts in a log
	// that the release before does not know.
	plain := before
	plain.release = false
	newer := plain.start(t, dir, store, upstream.URL)
	newer.Kill() // before it has counted: there is no log yet
	older = before.start(t, dir, store, upstream.URL)
	older.Kill()
	newer = plain.start(t, dir, store, upstream.URL)
	call(client, newer, "", "u", "free")
	newer.Kill()
	wantRefused := func(formats ...string) {
		t.Helper()
		older := before.launch(t, dir, store, upstream.URL)
		names := func(format string) bool {
			return strings.Contains(older.Output(), `/data/usage.db: the file has format "`+format+`", this version of the program reads only "1" and "2"`)
		}
		if code := older.Wait(); code != 1 || !slices.ContainsFunc(formats, names) {
			t.Errorf("the release before ended with status %d: %s", code, older.Output())
		}
	}
	wantRefused("2+log")
	newer = plain.start(t, dir, store, upstream.URL)
	newer.Kill() // it has taken in the log
	older = before.start(t, dir, store, upstream.URL)
	call(client, older, "", "u", "free")
	wantUsed(t, older, "u", "free", 5, -1)
	older.Kill()

	newer = now.start(t, dir, store, upstream.URL)
	wantUsed(t, newer, "u", "free", 5, 5)
	units := int64(5)
	for range 3 {
		status, cost := call(client, newer, "", "u", "free")
		if status != 200 {
			t.Errorf("status %d", status)
		}
		units += cost
	}
	wantUsed(t, newer, "u", "free", 8, units)
	if u := gatewaytest.Usage(t, newer, testkit.Token("u", "free")); *u.Limit != 107 {
		t.Errorf("the limit is %d, want 107 with what was granted", *u.Limit)
	}
	newer.Kill()
	wantRefused("2+log", "3+log") // the log has the new format as well
	newer = now.start(t, dir, store, upstream.URL)
	wantUsed(t, newer, "u", "free", 8, units)
	stop(t, newer)
	wantRefused("3")
	newer = now.start(t, dir, store, upstream.URL)
	wantUsed(t, newer, "u", "free", 8, units)
}
