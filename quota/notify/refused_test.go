package notify

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// However many events are refused for what they say, they keep no others waiting: the clock stands still.
func TestManyRefusedEventsStopNoOthers(t *testing.T) {
	bad := map[string]bool{}
	for i := range 60 {
		bad[fmt.Sprint("bad-", i)] = true
	}
	h := newHook(t, nil)
	h.answerTo = func(w http.ResponseWriter, e received) {
		if bad[e.User] {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}
	b := newBench(t, "http://127.0.0.1:1")
	b.sender.SetReceiver(nil)
	for account := range bad {
		b.store.cross(account, 80)
	}
	b.sender.SetReceiver(receiverAt(t, h.URL))
	b.until("all are refused", func() bool { return b.sender.Stats().Failed >= 60 })
	for i := range 20 {
		b.store.cross(fmt.Sprint("good-", i), 80)
	}
	b.until("the others are delivered", func() bool { return b.store.waiting() == 60 })
	if log := b.log.String(); strings.Contains(log, "they wait in the store") {
		t.Error(log)
	}
}

// The answers that are about the receiver count towards its death, and those about the event do not.
func TestWhichAnswersMakeAReceiverDead(t *testing.T) {
	for code, dies := range map[int]bool{
		302: true, 400: false, 401: true, 402: false, 403: true, 404: true, 405: true, 408: true, 409: false, 410: true, 413: false,
		415: false, 422: false, 425: true, 429: true, 500: true, 503: true,
	} {
		h := newHook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		answer, err := receiverAt(t, h.URL).Post(t.Context(), eventOf(quota.Crossing{ID: "msg_1", Account: "u"}))
		if err == nil || answer.refusesEvent() == dies {
			t.Errorf("%d: %v, refuses the event: %t", code, err, answer.refusesEvent())
		}
	}
	h := newHook(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusBadRequest)
	})
	if answer, _ := receiverAt(t, h.URL).Post(t.Context(), eventOf(quota.Crossing{ID: "msg_1", Account: "u"})); answer.refusesEvent() {
		t.Error("Retry-After is about the receiver")
	}
	if (Answer{}).refusesEvent() {
		t.Error("a receiver that does not answer refuses no event")
	}
}

// A dead receiver that can tell good events from bad ones again is alive.
func TestRefusedEventRevivesADeadReceiver(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusServiceUnavailable)
	h := newHook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	b := newBench(t, h.URL)
	for i := range 20 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	isDead := func() bool { dead, _ := b.sender.health.isDead(); return dead }
	b.until("it is dead", func() bool { return isDead() && b.sender.pending.Load() == 0 })
	status.Store(http.StatusUnprocessableEntity)
	b.untilLater("it is alive", func() bool { return !isDead() })
	if strings.Contains(b.log.String(), "accepts them again") {
		t.Error("it has accepted none")
	}
	status.Store(http.StatusNoContent)
	b.untilLater("all are delivered", func() bool { return b.store.waiting() == 0 })
	if !strings.Contains(b.log.String(), "accepts them again") {
		t.Error(b.log.String())
	}
}

// The cure of a dead receiver may be another configuration: the log says that it has worked.
func TestLogSaysThatANewReceiverAccepts(t *testing.T) {
	b := newBench(t, newHook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }).URL)
	for i := range 20 {
		b.store.cross(fmt.Sprint("u-", i), 80)
	}
	b.until("it is dead", func() bool { return strings.Contains(b.log.String(), "they wait in the store") })
	b.sender.SetReceiver(receiverAt(t, newHook(t, nil).URL))
	b.untilLater("all are delivered", func() bool { return b.store.waiting() == 0 })
	b.until("the log says it once", func() bool { return strings.Count(b.log.String(), "accepts them again") == 1 })
}

// Each event that is given up can be found in the log.
func TestLogHasEachEventThatIsGivenUp(t *testing.T) {
	h := newHook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	b := newBench(t, h.URL)
	var lines []string
	for i := range 20 {
		c := b.store.cross(fmt.Sprint("u-", i), 80)
		lines = append(lines, fmt.Sprintf("id=%s user=name-of-u-%d limit=month threshold=80 resets_at=2026-12-01T00:00:00.000Z\n", c.ID, i))
	}
	shared := b.store.cross(quota.PoolAccount("acme"), 80)
	lines = append(lines, "id="+shared.ID+" org=name-of-acme limit=month")
	b.Add(giveUpAfter + time.Second)
	b.untilLater("all are given up", func() bool { return b.sender.Stats().GaveUp == 21 })
	b.until("the log has all", func() bool { return strings.Count(b.log.String(), "level=ERROR") == 21 })
	for _, line := range lines {
		if log := b.log.String(); !strings.Contains(log, line) {
			t.Fatalf("%q is not in\n%s", line, log)
		}
	}
}

// The log says which step of the store has failed.
func TestLogSaysWhatTheStoreKeeps(t *testing.T) {
	h := newHook(t, nil)
	b := newBench(t, h.URL)
	b.store.setKeeps(true)
	c := b.store.cross("u-1", 80)
	b.until("it is logged", func() bool {
		log := b.log.String()
		return strings.Contains(log, `"a notification was delivered, but the store did not drop it; it may be sent again" id=`+c.ID) &&
			strings.Contains(log, "the store did not release the notifications of a user")
	})
	b.Add(giveUpAfter + time.Second)
	b.untilLater("it is logged", func() bool {
		return strings.Contains(b.log.String(), "too old to be sent, but the store did not drop it")
	})
	if log := b.log.String(); strings.Contains(log, "the store does not say") || strings.Contains(log, "given up") {
		t.Error(log)
	}
	b.store.setKeeps(false)
	b.untilLater("it is given up", func() bool { return b.store.waiting() == 0 })
}
