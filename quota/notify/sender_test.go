package notify

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"metergate/quota"
	"metergate/quota/testkit"
)

func TestDeliversSignedEventsOnce(t *testing.T) {
	h := newHook(t, nil)
	b := newBench(t, h.URL)
	want := map[string]string{} // accounts by the ids
	for i := range 100 {
		account := fmt.Sprint("u-", i)
		if i%3 == 0 {
			account = quota.PoolAccount(account)
		}
		want[b.store.cross(account, 80).ID] = account
		want[b.store.cross(account, 100).ID] = account
	}
	b.until("all are delivered", func() bool { return b.store.waiting() == 0 })
	h.check(t)
	last := map[string]int{} // the threshold that an account has reached
	for _, e := range h.events() {
		account := quota.MemberAccount(e.Org, e.User)
		if e.Type != typeThreshold || want[e.ID] != account {
			t.Errorf("unexpected, or again: %+v", e)
		}
		if delete(want, e.ID); e.Data.Threshold <= last[account] {
			t.Errorf("%q: %d after %d", account, e.Data.Threshold, last[account])
		}
		last[account] = e.Data.Threshold
	}
	b.until("the numbers show it", func() bool { st := b.sender.Stats(); return st == (Stats{Sent: 200}) })
	if len(want) > 0 {
		t.Errorf("%d are missing", len(want))
	}
}

// While a secret is being changed, the receiver may know the old one or the new one.
func TestSignsWithBothSecrets(t *testing.T) {
	for _, known := range []string{secret, oldSecret} {
		h := newHook(t, nil)
		h.secret = known
		r, err := NewReceiver(h.URL, []string{secret, oldSecret})
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := r.Post(t.Context(), eventOf(quota.Crossing{ID: "msg_1", Account: "u"})); err != nil || answer.Status != "204 No Content" {
			t.Error(answer, err)
		}
		h.check(t)
	}
	if _, err := NewReceiver("https://a", []string{"whsec_?"}); err == nil {
		t.Error("accepted a secret that is not base64")
	}
}

// Whatever a receiver does other than accept an event, the same event comes again, later and later.
func TestSendsAgainUntilAccepted(t *testing.T) {
	elsewhere := newHook(t, nil)
	var tries atomic.Int64
	answers := []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, // closes the connection
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
		},
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, // an open one: it is sent again at once
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
	}
	const failures = 5
	h := newHook(t, func(w http.ResponseWriter, r *http.Request) { answers[tries.Add(1)-1](w, r) })
	b := newBench(t, h.URL)
	c := b.store.cross("u-1", 80)
	for i := range failures + 1 {
		b.until("it is sent", func() bool { return len(b.store.delays("u-1")) == i+1 })
		delay := b.store.delays("u-1")[i]
		low, high := time.Second<<i, 5*time.Second<<i
		switch i {
		case 4:
			low = 2 * time.Minute
		case failures:
			low, high = 0, 0
		}
		if delay < low || delay > max(high, low) {
			t.Errorf("after try %d it waits for %v, want %v to %v", i+1, delay, low, high)
		}
		b.Add(delay)
	}
	if b.until("it is delivered", func() bool { return b.store.waiting() == 0 }); b.store.ended[c.ID] != 1 {
		t.Error("ended", b.store.ended[c.ID])
	}
	if got := h.events(); len(got) != len(answers) || len(elsewhere.events()) > 0 {
		t.Errorf("%d requests, %d elsewhere", len(got), len(elsewhere.events()))
	}
	h.check(t)
	if st := b.sender.Stats(); st.Sent != 1 || st.Failed != failures {
		t.Errorf("%+v", st)
	}
}

// A receiver that hangs is a failure like others, and what it holds is bounded.
func TestReceiverThatHangsIsCutOff(t *testing.T) {
	release := make(chan struct{})
	var atOnce, most atomic.Int64
	h := newHook(t, func(_ http.ResponseWriter, r *http.Request) {
		if n := atOnce.Add(1); n > most.Load() {
			most.Store(n) // a smaller number that overtakes it still shows too many
		}
		defer atOnce.Add(-1)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	defer close(release)
	b := newBench(t, "http://127.0.0.1:1")
	r := receiverAt(t, h.URL)
	r.timeout = 100 * time.Millisecond
	b.sender.SetReceiver(r)
	for i := range 100 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	b.until("it is dead", func() bool { dead, _ := b.sender.health.isDead(); return dead })
	b.until("its failure is logged", func() bool { return strings.Contains(b.log.String(), "it did not answer within 100ms") })
	// The receiver may notice a little later than the gateway that a request has ended.
	if most.Load() > 2*postsAtOnce || b.store.waiting() != 100 {
		t.Errorf("%d requests at once, %d wait", most.Load(), b.store.waiting())
	}
}

// While a receiver is dead it gets a request now and then, and nothing is lost.
func TestDeadReceiverIsTriedWithOneEvent(t *testing.T) {
	var alive atomic.Bool
	var refused atomic.Int64
	h := newHook(t, func(w http.ResponseWriter, _ *http.Request) {
		if !alive.Load() {
			refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b := newBench(t, h.URL)
	for i := range 300 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	idle := func() bool { return b.sender.pending.Load() == 0 }
	b.until("it is dead", func() bool { dead, _ := b.sender.health.isDead(); return dead && idle() })
	before := refused.Load()
	if before < failuresInARow || before > 2*postsAtOnce {
		t.Errorf("%d requests", before)
	}
	for i := range 10 {
		b.Add(maxProbeDelay)
		b.until("it is tried", func() bool { return refused.Load() > before && idle() })
		if n := refused.Load() - before; n != 1 {
			t.Errorf("try %d has %d requests", i, n)
		}
		before = refused.Load()
	}
	b.until("the numbers are right", func() bool {
		st := b.sender.Stats()
		return st.Waiting == 300 && st.Age.Round(time.Second) == 10*maxProbeDelay
	})
	if n := len(b.sender.failures); n > int(before) {
		t.Errorf("%d accounts are remembered after %d requests", n, before)
	}
	alive.Store(true)
	b.Add(maxDelay)
	b.until("all are delivered", func() bool { return b.store.waiting() == 0 })
	h.check(t)
	if log := b.log.String(); strings.Count(log, "they wait in the store") != 1 || strings.Count(log, "accepts them again") != 1 || strings.Contains(log, "u-1") {
		t.Error(log)
	}
}

// One event that a receiver does not like keeps no other user's waiting.
func TestRefusedEventStopsNoOthers(t *testing.T) {
	var bad atomic.Pointer[string]
	h := newHook(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == *bad.Load() {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	b := newBench(t, "http://127.0.0.1:1")
	bad.Store(new(b.store.cross("bad", 80).ID))
	second := b.store.cross("bad", 100)
	b.sender.SetReceiver(receiverAt(t, h.URL))
	b.untilLater("it was refused often", func() bool { return len(h.events()) > failuresInARow })
	for i := range 100 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	b.untilLater("the others are delivered", func() bool { return b.store.waiting() == 1 })
	if b.store.ended[second.ID] > 0 {
		t.Error("the second event of a user came before the first")
	}
	b.Add(giveUpAfter)
	b.untilLater("both are given up", func() bool { return b.store.waiting() == 0 && b.sender.Stats().GaveUp == 2 })
}

// What is too old is dropped, also while the receiver is dead.
func TestGivesUpAfterADay(t *testing.T) {
	h := newHook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	b := newBench(t, h.URL)
	for i := range 100 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	b.until("it is dead", func() bool { dead, _ := b.sender.health.isDead(); return dead })
	b.Add(giveUpAfter - time.Hour)
	b.store.cross("young", 80)
	b.until("it was seen that they wait", func() bool { return b.sender.Stats().Waiting == 101 })
	b.Add(time.Hour + time.Second)
	b.untilLater("the old ones are given up", func() bool { return b.store.waiting() == 1 })
	b.until("the numbers show it", func() bool { st := b.sender.Stats(); return st.GaveUp == 100 && st.Sent == 0 && st.Waiting == 1 })
	if log := b.log.String(); strings.Count(log, "for 24 hours") != 100 || !strings.Contains(log, "user=name-of-u-1 ") {
		t.Error(log)
	}
}

func TestTwoGatewaysShareTheWork(t *testing.T) {
	h := newHook(t, nil)
	b := newBench(t, h.URL)
	second := b.newSender(h.URL)
	for i := range 150 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	b.until("all are delivered", func() bool { return b.store.waiting() == 0 })
	h.check(t)
	if n := len(h.events()); n != 150 {
		t.Errorf("%d requests for 150 events", n)
	}
	b.until("both count theirs", func() bool { return b.sender.Stats().Sent+second.Stats().Sent == 150 })
}

// A gateway that died holds its claims for ClaimLife.
func TestTakesOverFromADeadGateway(t *testing.T) {
	h := newHook(t, nil)
	b := &bench{T: t, clock: &clock{frozen: time.Now()}, log: &logText{}}
	b.store = newMemory(b.Now)
	b.store.cross("u-1", 80)
	if claims, err := b.store.ClaimCrossings(t.Context(), 10); err != nil || len(claims.Claims) != 1 {
		t.Fatal(claims, err)
	}
	b.sender = b.newSender(h.URL)
	b.until("it has asked", func() bool { return b.sender.Stats().Waiting == 1 })
	if n := len(h.events()); n > 0 {
		t.Errorf("%d requests within the claim of another gateway", n)
	}
	b.Add(quota.ClaimLife)
	b.until("it is delivered", func() bool { return b.store.waiting() == 0 })
}

// An account with many events is claimed again before its claim ends.
func TestSlowReceiverIsServedUnderSeveralClaims(t *testing.T) {
	b := &bench{T: t, clock: &clock{frozen: time.Now()}, log: &logText{}}
	h := newHook(t, func(http.ResponseWriter, *http.Request) { b.Add(3 * time.Second) })
	b.store = newMemory(b.Now)
	for percent := range 20 {
		b.store.cross("u-1", percent+1)
	}
	b.sender = b.newSender(h.URL)
	b.until("all are delivered", func() bool { return b.store.waiting() == 0 })
	h.check(t)
	if n := len(h.events()); n != 20 || b.store.claimed < 5 {
		t.Errorf("%d requests under %d claims", n, b.store.claimed)
	}
}

func TestSendsNothingWithoutAReceiver(t *testing.T) {
	h := newHook(t, nil)
	b := newBench(t, h.URL)
	b.sender.SetReceiver(nil)
	b.until("it is idle", func() bool { return b.sender.pending.Load() == 0 })
	b.store.cross("u-1", 80)
	b.Add(time.Hour)
	other := newHook(t, nil)
	b.sender.SetReceiver(receiverAt(t, other.URL))
	b.until("it is delivered", func() bool { return b.store.waiting() == 0 })
	if len(h.events()) > 0 || len(other.events()) != 1 {
		t.Error("it went to the receiver of before")
	}
	never := New(Options{Store: b.store, StoreNow: b.Now})
	if err := never.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// Stop waits for what is being sent, and gives back what is not.
func TestStopEndsWhatIsBeingSent(t *testing.T) {
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	h := newHook(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
	b := newBench(t, h.URL)
	for i := range 30 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	for range postsAtOnce {
		testkit.Receive(t, "a request has arrived", arrived)
	}
	b.sender.stopTimeout = time.Minute
	stopped := make(chan error)
	go func() { stopped <- b.sender.Stop(context.Background()) }()
	testkit.Eventually(t, "it stops", b.sender.isStopping)
	close(release)
	if err := testkit.Receive(t, "it has stopped", stopped); err != nil {
		t.Error(err)
	}
	if n := len(h.events()); n != postsAtOnce || b.store.waiting() != 30-n {
		t.Errorf("%d requests, %d wait", n, b.store.waiting())
	}
	claims, err := b.store.ClaimCrossings(t.Context(), 100)
	if err != nil || len(claims.Claims) != 30-postsAtOnce {
		t.Errorf("%d of the others can be claimed at once: %v", len(claims.Claims), err)
	}
}

// A receiver that hangs does not keep the gateway from stopping.
func TestStopDoesNotWaitForAReceiverThatHangs(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	h := newHook(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
	defer close(release)
	b := newBench(t, h.URL)
	b.store.cross("u-1", 80)
	testkit.Receive(t, "a request has arrived", arrived)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.sender.Stop(ctx); err == nil {
		t.Error("it did not say that it was not done")
	}
	if st := b.sender.Stats(); st.Failed > 0 {
		t.Errorf("%+v", st)
	}
}

func TestStoreThatFailsIsAskedAgain(t *testing.T) {
	h := newHook(t, nil)
	b := newBench(t, h.URL)
	b.store.mu.Lock()
	b.store.fails = true
	b.store.mu.Unlock()
	b.store.cross("u-1", 80)
	b.until("its failure is logged", func() bool { return strings.Contains(b.log.String(), "the store does not say") })
	b.store.mu.Lock()
	b.store.fails = false
	b.store.mu.Unlock()
	b.until("it is delivered", func() bool { return b.store.waiting() == 0 })
}

// The query of an URL may be a secret, and errors are logged.
func TestErrorsShowNoURL(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, url := range []string{closed.URL, "https://127.0.0.1:1", "http://[::1", "http://nowhere.invalid"} {
		_, err := receiverAt(t, url+"/hook?key=hunter2").Post(t.Context(), eventOf(quota.Crossing{}))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// The header says when it was sent, so that a receiver that checks the time takes a retry.
func TestHeadersAreThoseOfStandardWebhooks(t *testing.T) {
	for _, header := range []string{standardwebhooks.HeaderWebhookID, standardwebhooks.HeaderWebhookTimestamp, standardwebhooks.HeaderWebhookSignature} {
		req, err := receiverAt(t, "https://a/").request(t.Context(), eventOf(quota.Crossing{ID: "msg_1", At: time.Now().Add(-time.Hour)}))
		if err != nil || req.Header.Get(header) == "" {
			t.Errorf("%s: %v, %v", header, req.Header, err)
		}
		if header == standardwebhooks.HeaderWebhookTimestamp && time.Since(parseUnix(t, req.Header.Get(header))) > time.Minute {
			t.Errorf("%s is %s", header, req.Header.Get(header))
		}
	}
}

func parseUnix(t *testing.T, text string) time.Time {
	t.Helper()
	var seconds int64
	if _, err := fmt.Sscan(text, &seconds); err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}
