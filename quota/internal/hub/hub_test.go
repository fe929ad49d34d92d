package hub

import "testing"

func isNotified(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestNotifyReachesWatchersOfTheKey(t *testing.T) {
	var h Hub
	a, b, other := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	stopA, firstA := h.Watch("u", a, nil)
	_, firstB := h.Watch("u", b, nil)
	h.Watch("v", other, nil)
	if !firstA || firstB {
		t.Errorf("first watcher: %v and then %v, want true and false", firstA, firstB)
	}
	h.Notify("u")
	h.Notify("u") // does not block, though nobody has received yet
	if !isNotified(a) || !isNotified(b) || isNotified(a) || isNotified(other) {
		t.Error("want one notification for each watcher of u, and none for v")
	}
	stopA()
	h.Notify("u")
	if isNotified(a) || !isNotified(b) {
		t.Error("after a has stopped, want a notification for b alone")
	}
	h.NotifyAll()
	if isNotified(a) || !isNotified(b) || !isNotified(other) {
		t.Error("want NotifyAll to reach all watchers that have not stopped")
	}
}

func TestLastStopCallsOnLast(t *testing.T) {
	var h Hub
	calls := 0
	onLast := func() { calls++ }
	stopA, _ := h.Watch("u", make(chan struct{}, 1), onLast)
	stopB, _ := h.Watch("u", make(chan struct{}, 1), onLast)
	if stopA(); calls != 0 {
		t.Error("onLast is called while there is a watcher")
	}
	stopB()
	if stopB(); calls != 1 {
		t.Errorf("onLast is called %d times, want once", calls)
	}
	if _, first := h.Watch("u", make(chan struct{}, 1), onLast); !first {
		t.Error("after the last watcher has stopped, the next one is the first")
	}
}
