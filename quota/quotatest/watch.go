package quotatest

import (
	"fmt"
	"testing"
	"time"

	"metergate/quota"
)

// watched is a plan by which a member and their pool can each be changed alone.
var watched = NewPlan("watched", quota.Limit{Amount: 1000, Period: quota.Month},
	quota.Limit{Amount: 1000, Period: quota.Month, Shared: true})

// A watcher hears what the store tells of one account. A store may begin to tell a little later, may
// tell that it has begun, and may tell the same again after a fault. So no notification is
// certain to be about the last call: a watcher believes a silence before it and after it.
type watcher struct {
	h       *harness
	account string
	heard   chan struct{} // has room for all notifications of a test
	stop    func()
}

// silence is how long a watcher hears nothing before it takes it that all notifications are there. On
// a machine that needs longer a check is repeated, or finds less.
const silence = 50 * time.Millisecond

// watch returns a watcher of an account that hears its changes. The first notification may be that
// of the beginning, which may also come after a change that it did not hear of; the second is of
// a change.
func (h *harness) watch(account string) *watcher {
	h.t.Helper()
	w := &watcher{h: h, account: account, heard: make(chan struct{}, 1000)}
	w.stop = h.store.Watch(account, w.heard)
	h.t.Cleanup(w.stop)
	n := 0
	for deadline := time.Now().Add(30 * time.Second); n < 2; n += w.listen() {
		if time.Now().After(deadline) {
			h.t.Fatalf("%d notifications of changes of %q within 30 s", n, account)
		}
		w.change()
	}
	return w
}

// change makes a change of the account, of which the store tells once.
func (w *watcher) change() {
	w.h.t.Helper()
	w.h.applyChange(w.account, watched, quota.Change{Action: quota.ActionGrant, Requests: 1})
}

// listen waits for silence, and returns how many notifications came before.
func (w *watcher) listen() (n int) {
	for {
		select {
		case <-w.heard:
			n++
		case <-time.After(silence):
			return n
		}
	}
}

// wantHears checks that the watcher is notified of what do does.
func (w *watcher) wantHears(what string, do func()) {
	w.h.t.Helper()
	w.listen()
	do()
	select {
	case <-w.heard:
	case <-time.After(30 * time.Second):
		w.h.t.Fatalf("no notification to a watcher of %q of %s within 30 s", w.account, what)
	}
}

// wantMisses checks that the watcher is notified of nothing that do does, although it hears a
// change that follows. It tries again when it hears more, which may be late: a store that notifies of
// what do does will do so each time.
func (w *watcher) wantMisses(what string, do func()) {
	w.h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		w.listen()
		do()
		w.change()
		n := w.listen()
		if n == 1 {
			return
		}
		if time.Now().After(deadline) {
			w.h.t.Fatalf("a watcher of %q is notified of %s: %d notifications, want 1", w.account, what, n)
		}
	}
}

// A watcher is notified of a hold and of its end, and of nothing about another user.
func testWatch(t *testing.T, h *harness) {
	u, v := h.watch("u"), h.watch("v")
	var r quota.Reservation
	hold := func() { r = h.admit("u", "analyze", watched) }
	use := func() { h.use(1, "u", "analyze", watched) }
	u.wantHears("a reserve", hold)
	u.wantHears("a commit", func() { h.commit(r) })
	u.wantHears("a second reserve", hold)
	u.wantHears("a release", func() { h.release(r) })
	v.wantMisses("another user's requests", use)
	u.stop()
	u.listen()
	v.wantMisses("another user's requests", use)
	if len(u.heard) > 0 {
		t.Error("notified after stop")
	}
}

// A watcher of the pool is notified of what every member does, and one of a member of nothing that
// another does.
func testWatchPool(t *testing.T, h *harness) {
	pool, other := h.watch(acme), h.watch(member("b"))
	for i := range 3 {
		user := member(fmt.Sprint("a-", i))
		var r quota.Reservation
		pool.wantHears("a member's hold", func() { r = h.admit(user, "analyze", watched) })
		pool.wantHears("a member's count", func() { h.commit(r) })
	}
	other.wantMisses("another member's requests", func() { h.use(3, member("a"), "analyze", watched) })
}

func testWatchChanges(t *testing.T, h *harness) {
	w := h.watch("u")
	for _, c := range []quota.Change{
		{Action: quota.ActionGrant, Requests: 1},
		{Action: quota.ActionReset},
		{Action: quota.ActionSetPlan, Plan: "pro"},
		{Action: quota.ActionClearPlan},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 1}},
	} {
		w.wantHears(string(c.Action), func() { h.applyChange("u", hundredAMonth, c) })
	}
}

// Watchers are notified of both steps.
func testWatchRest(t *testing.T, h *harness) {
	w := h.watch("u")
	r := h.twoSteps(weighted("u", "report", 9, hundredUnits), 8, 0)
	w.wantHears("a commit", func() { h.commit(r) })
	w.wantHears("what was given back", func() { h.commitRest(r) })
}
