package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/internal/testkit"
	"metergate/quota/redisstore/redistest"
)

// faultYAML is a configuration for gateways that do not live long. The lease of a
// unit is the upstream's timeout plus 10 s.
const faultYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 20s
admin: { listen: 127.0.0.1:0 }
store: { url: "${STORE}", on_failure: "${ON_FAILURE:-deny}", timeout: "${STORE_TIMEOUT:-10s}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: twenty
plans:
  twenty:    { limits: [{ requests: 20, per: month }] }
  low:       { limits: [{ requests: 300, per: month }] }
  minutes:   { limits: [{ requests: 100000, per: month }, { requests: 60, per: minute }, { requests: 30, per: minute, endpoint: image-analysis }] }
  high:      { limits: [{ requests: 1000000, per: month }, { requests: 1000000, per: day, endpoint: analyze }] }
  unlimited: { limits: [] }
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: "${UPSTREAM_TIMEOUT:-2s}" }
routes:
  - { match: "POST /api/analyze",        endpoint: analyze,        upstream: analysis }
  - { match: "POST /api/image-analysis", endpoint: image-analysis, upstream: analysis }
log: { level: info }
`

// killedLease is what the gateways of the kill tests hold units for.
const killedLease = 12 * time.Second

// A site is where one gateway runs: its folder, with the configuration and the
// journal, outlives its process.
type site struct {
	t    *testing.T
	file string
	env  []string
	now  atomic.Pointer[process]
}

func newSite(t *testing.T, store, upstream string, env ...string) *site {
	t.Helper()
	s := &site{t: t, file: filepath.Join(t.TempDir(), "gateway.yaml"),
		env: append([]string{"STORE=" + store, "UPSTREAM=" + upstream}, env...)}
	if err := os.WriteFile(s.file, []byte(faultYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

// start runs the gateway of the site; the one before it must have ended.
func (s *site) start() *process {
	s.t.Helper()
	p := start(s.t, s.env, "serve", "-config", s.file)
	p.until(func(text string) bool {
		for line := range strings.Lines(text) {
			var at struct{ Msg, Listen, Admin string }
			if json.Unmarshal([]byte(line), &at) == nil && at.Msg == "serving" {
				p.url, p.admin = "http://"+at.Listen, "http://"+at.Admin
				return true
			}
		}
		return false
	})
	s.now.Store(p)
	return p
}

// kill ends the gateway at once. It may be called by several at a time.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// post sends one request and returns the status that the client saw; 0: none.
func post(client *http.Client, url, token string) int {
	req, err := http.NewRequest("POST", url, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// hashOf is all that Redis has of a user.
func hashOf(t *testing.T, redisAddr, user string) map[string]string {
	t.Helper()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: redisAddr, ReadTimeout: 30 * time.Second})
	defer client.Close()
	keys, err := client.Keys(ctx, "metergate:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if client.HGet(ctx, key, "user").Val() == user {
			all, err := client.HGetAll(ctx, key).Result()
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
	}
	return nil
}

// A gateway is killed at each step of a request, while the test holds that step.
// Nothing is counted but what was settled, what was held comes back with the
// lease, and then the rest of the quota is there, to the unit.
func TestKillPoints(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	upstream := newToldUpstream(t)
	other := newSite(t, redis.URL(), upstream.URL).now.Load()
	client := crowd(t)
	post(client, other.url+"/api/analyze", testkit.Token("another", "")) // loads the scripts
	type point struct {
		name          string
		counted, held int64 // right after the kill
		// arm arranges that kill is called.
		arm func(kill func(), cable *redistest.Cable)
		// Set by the test.
		user   string
		killed *site
	}
	points := []*point{
		{name: "before the reserve", arm: func(kill func(), cable *redistest.Cable) {
			cable.OnCommand(killBefore(kill, redistest.Reserve))
		}},
		{name: "between the reserve and its answer", held: 1, arm: func(kill func(), cable *redistest.Cable) {
			cable.OnReply(killAfter(kill, redistest.Reserve))
		}},
		{name: "when the upstream is connected", held: 1, arm: func(kill func(), _ *redistest.Cable) {
			upstream.connected.Store(&kill)
		}},
		{name: "when the upstream has the request", held: 1, arm: func(kill func(), _ *redistest.Cable) {
			upstream.arrived.Store(&kill)
		}},
		{name: "between the upstream's status and the settle", held: 1, arm: func(kill func(), cable *redistest.Cable) {
			cable.OnCommand(killBefore(kill, redistest.Commit))
		}},
		{name: "between the settle and the client's status line", counted: 1, arm: func(kill func(), cable *redistest.Cable) {
			cable.OnReply(killAfter(kill, redistest.Commit))
		}},
	}
	for i, p := range points {
		p.user = fmt.Sprint("user-", i)
		cable := redistest.Connect(t, redis.Addr)
		p.killed = newSite(t, cable.URL(), upstream.URL)
		gateway := p.killed.now.Load()
		sent := upstream.sent.Load()
		before := time.Now()
		p.arm(gateway.kill, cable)
		if status := post(client, gateway.url+"/api/analyze", testkit.Token(p.user, "")); status != 0 {
			t.Errorf("%s: the client got %d, want no answer", p.name, status)
		}
		after := time.Now()
		cable.Heal()
		upstream.connected.Store(nil)
		upstream.arrived.Store(nil)
		if u := usageOf(t, other, testkit.Token(p.user, "")); u.Used != p.counted || u.InFlight != p.held {
			t.Errorf("%s: after the kill %d used, %d held, want %d and %d", p.name, u.Used, u.InFlight, p.counted, p.held)
		}
		if sent := upstream.sent.Load() - sent; p.counted > sent {
			t.Errorf("%s: counted %d, the upstream sent %d", p.name, p.counted, sent)
		}
		for field, value := range hashOf(t, redis.Addr, p.user) {
			if strings.HasPrefix(field, "lease/") {
				ms, _, _ := strings.Cut(value, " ")
				expiry, _ := strconv.ParseInt(ms, 10, 64)
				earliest, latest := before.Add(killedLease).UnixMilli(), after.Add(killedLease).UnixMilli()
				if expiry < earliest || expiry > latest {
					t.Errorf("%s: the hold ends %d ms after %v from the request, want 0 to %d", p.name, expiry-earliest, killedLease, latest-earliest)
				}
			}
		}
	}
	const limit = 20 // of the default plan
	for _, p := range points {
		token := testkit.Token(p.user, "")
		again := p.killed.start()
		testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool { return usageOf(t, other, token).InFlight == 0 })
		if u := usageOf(t, again, token); u.Used != p.counted {
			t.Errorf("%s: %d used when nothing is held, want %d", p.name, u.Used, p.counted)
		}
		if admitted := fill(client, token, 2*limit, again, other); admitted != limit-p.counted {
			t.Errorf("%s: %d were admitted afterwards, want %d", p.name, admitted, limit-p.counted)
		}
	}
}

// killBefore kills when a script is called, before Redis hears of it.
func killBefore(kill func(), script string) func(redistest.Command) redistest.Fate {
	return func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() != script {
			return redistest.Pass
		}
		kill()
		return redistest.Cut
	}
}

// killAfter kills once a script has run, before its answer is relayed.
func killAfter(kill func(), script string) func(redistest.Command, string) redistest.Fate {
	return func(cmd redistest.Command, _ string) redistest.Fate {
		if cmd.Script() != script {
			return redistest.Pass
		}
		kill()
		return redistest.Cut
	}
}

// fill sends n requests of a user at once and returns how many succeed.
func fill(client *http.Client, token string, n int, gateways ...*process) int64 {
	var admitted atomic.Int64
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			if post(client, gateways[i%len(gateways)].url+"/api/analyze?status=200", token)/100 == 2 {
				admitted.Add(1)
			}
		})
	}
	wait.Wait()
	return admitted.Load()
}

// A toldUpstream says yes to everything, and calls what it was told to.
type toldUpstream struct {
	*httptest.Server
	sent               atomic.Int64
	connected, arrived atomic.Pointer[func()]
}

func newToldUpstream(t *testing.T) *toldUpstream {
	u := &toldUpstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := u.arrived.Load(); f != nil {
			(*f)()
		}
		u.sent.Add(1)
	}))
	u.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if f := u.connected.Load(); f != nil && state == http.StateNew {
			(*f)()
		}
	}
	// A connection for each request.
	u.Config.SetKeepAlivesEnabled(false)
	u.Start()
	t.Cleanup(u.Close)
	return u
}

// A ledger is what clients and the upstream know of some users, by which the
// counts are judged.
type ledger struct {
	*httptest.Server // the upstream
	users            []*account
	pick             func(*rand.Rand) int // a user for the next request; nil: any
	requests         sync.Map             // those that clients wait for, by number: *entry
	answered         atomic.Int64
}

type account struct {
	user, plan string
	limit      int64 // of the month; 0: none to speak of
	fails      bool  // none of the requests succeeds

	requests, seen, sent atomic.Int64
	refused, unavailable atomic.Int64 // 429, and the gateway's own 503
	running              atomic.Int64 // that a client waits for
}

// An entry is one request.
type entry struct {
	reached atomic.Bool  // the upstream
	sent    atomic.Int64 // the status that the upstream sent
}

// newLedger starts an upstream that does as a request's query says and notes the
// status before it sends it.
func newLedger(t *testing.T, users ...*account) *ledger {
	l := &ledger{users: users}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		q := r.URL.Query()
		e := &entry{} // of a request that no client waits for any more
		if known, ok := l.requests.Load(q.Get("n")); ok {
			e = known.(*entry)
		}
		e.reached.Store(true)
		if delay, _ := time.ParseDuration(q.Get("delay")); delay > 0 {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
			}
		}
		status, _ := strconv.Atoi(q.Get("status"))
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		if status/100 == 2 {
			if user, err := strconv.Atoi(q.Get("user")); err == nil {
				l.users[user].sent.Add(1)
			}
		}
		e.sent.Store(int64(status))
		w.WriteHeader(status)
		if q.Get("break") != "" && status == 200 {
			w.Write(make([]byte, 10_000))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

// load sends requests of all kinds, one after another, until the context ends.
// Each goes to the gateway that runs at one of the sites now.
func (l *ledger) load(ctx context.Context, t *testing.T, client *http.Client, random *rand.Rand, sites ...*site) {
	worker := random.Uint64()
	for i := 0; ctx.Err() == nil; i++ {
		user := random.IntN(len(l.users))
		if l.pick != nil {
			user = l.pick(random)
		}
		u := l.users[user]
		number := fmt.Sprintf("%x-%d", worker, i)
		e := &entry{}
		l.requests.Store(number, e)
		statuses := []int{302, 404, 500, 503, 0, 200, 200, 200, 200, 201, 204}
		if u.fails {
			statuses = statuses[:5]
		}
		status := statuses[random.IntN(len(statuses))]
		delay := time.Duration(random.IntN(20)) * time.Millisecond
		if random.IntN(50) == 0 {
			delay = time.Duration(random.IntN(1000)) * time.Millisecond
		}
		query := fmt.Sprintf("?n=%s&user=%d&status=%d&delay=%v", number, user, status, delay)
		if random.IntN(10) == 0 {
			query += "&break=1"
		}
		path := []string{"/api/analyze", "/api/image-analysis"}[random.IntN(2)]
		own, cancel := context.WithTimeout(context.Background(), time.Minute)
		if random.IntN(8) == 0 { // hangs up
			time.AfterFunc(time.Duration(random.IntN(25))*time.Millisecond, cancel)
		}
		url := sites[random.IntN(len(sites))].now.Load().url + path + query
		req, err := http.NewRequestWithContext(own, "POST", url, strings.NewReader(strings.Repeat("x", random.IntN(2000))))
		if err != nil {
			t.Error(err)
			cancel()
			return
		}
		req.Header.Set("Authorization", "Bearer "+testkit.Token(u.user, u.plan))
		u.requests.Add(1)
		u.running.Add(1)
		if res, err := client.Do(req); err == nil {
			l.answered.Add(1)
			sent := e.sent.Load()
			switch {
			case res.StatusCode/100 == 2:
				u.seen.Add(1)
				if sent != int64(res.StatusCode) {
					t.Errorf("request %s: the client saw %d, the upstream sent %d", number, res.StatusCode, sent)
				}
			case res.StatusCode == http.StatusTooManyRequests:
				u.refused.Add(1)
				if e.reached.Load() {
					t.Errorf("request %s was refused, and forwarded", number)
				}
			case res.StatusCode == http.StatusServiceUnavailable && sent != http.StatusServiceUnavailable:
				u.unavailable.Add(1)
				if e.reached.Load() {
					t.Errorf("request %s was answered 503 by the gateway, and forwarded", number)
				}
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		} else if own.Err() == nil {
			// The gateway has gone; the client must not spin until it is back.
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		u.running.Add(-1)
		l.requests.Delete(number)
		cancel()
	}
}

// A gateway is killed again and again under load, wherever it is.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	kills := 10
	if *long {
		kills = 100
	}
	random := newRandom(t)
	redis := redistest.Start(t)
	l := newLedger(t,
		&account{user: "a", plan: "unlimited"}, &account{user: "b", plan: "high"},
		&account{user: "c", plan: "low", limit: 300}, &account{user: "d", plan: "twenty", limit: 20},
		&account{user: "e", plan: "low", limit: 300, fails: true})
	gateway := newSite(t, redis.URL(), l.URL)
	client := crowd(t)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for range 16 {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		wait.Go(func() { l.load(ctx, t, client, own, gateway) })
	}
	caught := int64(0) // requests that were running when a gateway was killed
	for range kills {
		next := l.answered.Load() + 1 + random.Int64N(100)
		testkit.EventuallyWithin(t, time.Minute, "clients get answers", func() bool { return l.answered.Load() >= next })
		for _, u := range l.users {
			caught += u.running.Load()
		}
		gateway.now.Load().kill()
		gateway.start()
	}
	stop()
	wait.Wait()
	if caught == 0 {
		t.Error("no request was running at any of the kills")
	}
	other := newSite(t, redis.URL(), l.URL).now.Load()
	var table report
	for _, u := range l.users {
		token := testkit.Token(u.user, u.plan)
		testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool { return usageOf(t, other, token).InFlight == 0 })
		counted := usageOf(t, other, token).Used
		table.judge(t, u, counted, 0, 0)
		if u.limit > 0 {
			want := u.limit - counted
			if admitted := fill(client, token, int(want)+20, gateway.now.Load(), other); admitted != want {
				t.Errorf("user %s: %d were admitted afterwards, want %d", u.user, admitted, want)
			}
		}
	}
	t.Logf("%d kills; %d requests were running then\n%s", kills, caught, &table)
}

// A report is the table that a run under faults ends with, a line for each plan.
type report struct{ lines []*line }

type line struct {
	plan                                  string
	users, requests, refused, unavailable int64
	seen, counted, sent, over, lost, held int64
}

// judge holds a user's count against the rules. allowed is how many units beyond
// the limit the rules allow.
func (r *report) judge(t *testing.T, u *account, counted, held, allowed int64) {
	t.Helper()
	seen, sent, over := u.seen.Load(), u.sent.Load(), int64(0)
	if u.limit > 0 {
		over = max(0, counted-u.limit)
	}
	name := u.plan
	if u.fails {
		name += ", failing"
	}
	at := slices.IndexFunc(r.lines, func(l *line) bool { return l.plan == name })
	if at < 0 {
		at = len(r.lines)
		r.lines = append(r.lines, &line{plan: name})
	}
	l := r.lines[at]
	l.users++
	l.requests += u.requests.Load()
	l.refused += u.refused.Load()
	l.unavailable += u.unavailable.Load()
	l.seen += seen
	l.counted += counted
	l.sent += sent
	l.over += over
	l.lost += max(0, seen-counted)
	l.held += held
	switch {
	case counted < seen:
		t.Errorf("user %s: clients saw %d successes, only %d are counted", u.user, seen, counted)
	case counted > sent:
		t.Errorf("user %s: %d are counted, the upstream sent only %d", u.user, counted, sent)
	}
	if held > 0 {
		t.Errorf("user %s: %d units are still held", u.user, held)
	}
	if over > allowed {
		t.Errorf("user %s: %d counted with a limit of %d; the rules allow %d over it", u.user, counted, u.limit, allowed)
	}
	if n := u.refused.Load(); n > 0 && u.limit == 0 {
		t.Errorf("user %s: %d times 429, far below any limit", u.user, n)
	}
	if u.limit == 0 && !u.fails && seen == 0 {
		t.Errorf("user %s: no success in the whole run", u.user)
	}
}

func (r *report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "plan\tusers\trequests\t429\t503\t2xx seen\tcounted\t2xx sent\tover\tlost\theld\t")
	for _, l := range r.lines {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.plan, l.users, l.requests,
			l.refused, l.unavailable, l.seen, l.counted, l.sent, l.over, l.lost, l.held)
	}
	w.Flush()
	return b.String()
}
