package quotatest

import (
	"testing"
	"time"

	"metergate/quota"
)

// A watcher is notified of a hold and of its end, and of nothing about another user.
func testWatch(t *testing.T, h *harness) {
	notified, other := make(chan struct{}, 1), make(chan struct{}, 1)
	stop, stopOther := h.store.Watch("u", notified), h.store.Watch("v", other)
	defer stopOther()
	// A store may begin to listen a little later.
	for listening := false; !listening; {
		h.release(h.admit("v", "analyze", hundredAMonth))
		select {
		case <-other:
			listening = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	drain := func(ch chan struct{}) {
		for {
			select {
			case <-ch:
			case <-time.After(100 * time.Millisecond):
				return
			}
		}
	}
	wait := func(what string) {
		t.Helper()
		select {
		case <-notified:
		case <-time.After(30 * time.Second):
			t.Fatalf("no notification of %s within 30 s", what)
		}
	}
	drain(notified)
	drain(other)
	r := h.admit("u", "analyze", hundredAMonth)
	wait("a reserve")
	h.commit(r)
	wait("a commit")
	r = h.admit("u", "analyze", hundredAMonth)
	wait("a second reserve")
	h.release(r)
	wait("a release")
	if len(other) > 0 {
		t.Error("notified of another user's requests")
	}
	stop()
	drain(notified)
	h.use(1, "u", "analyze", hundredAMonth)
	drain(other)
	if len(notified) > 0 {
		t.Error("notified after stop")
	}
}

func testWatchChanges(t *testing.T, h *harness) {
	notified := make(chan struct{}, 1)
	defer h.store.Watch("u", notified)()
	wait := func(what string, change func()) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
			change()
			select {
			case <-notified:
				return
			case <-time.After(100 * time.Millisecond): // it may begin to listen a little later
			}
		}
		t.Fatalf("no notification of %s within 30 s", what)
	}
	for _, c := range []quota.Change{
		{Action: quota.ActionGrant, Requests: 1},
		{Action: quota.ActionReset},
		{Action: quota.ActionSetPlan, Plan: "pro"},
		{Action: quota.ActionClearPlan},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 1}},
	} {
		wait(string(c.Action), func() { h.applyChange("u", hundredAMonth, c) })
	}
}
