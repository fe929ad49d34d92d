package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		room, used uint64
		want       int
	}{
		{64 * mib, 8 * mib, 800},
		{64 * mib, 10 * mib, 625}, // 640, in steps of 25
		{64 * mib, 63 * mib, 100},
		{64 * mib, 85 * mib, 75},
		{64 * mib, 500 * mib, 30}, // never less
		{64 * mib, 0, 800},        // nothing collected yet
		{64 * mib, 1 * mib, 800},  // never more
		{8 * mib, 8 * mib, 100},
	} {
		if got := percentFor(c.room, c.used); got != c.want {
			t.Errorf("percentFor(%d MiB, %d MiB) = %d, want %d", c.room/mib, c.used/mib, got, c.want)
		}
	}
}

// The room does not grow with the heap, whenever that does.
func TestRoomFollowsTheHeap(t *testing.T) {
	const room = 64 << 20
	reaches := func(what string, ok func(percent, used uint64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
			runtime.GC() // what is set after it is set by a goroutine of the runtime's
			percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(percent)
			if ok(percent[0].Value.Uint64(), inUse()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: GOGC is %d with %d bytes in use", what, percent[0].Value.Uint64(), inUse())
			}
		}
	}
	near := func(percent, used uint64) bool {
		got := percent * used / 100
		return got > room*8/10 && got < room*12/10 || percent == maxPercent && got < room
	}
	(&collections{room: room}).adjust()
	reaches("at the start", near)
	heap := make([]byte, 32<<20)
	reaches("a heap that has grown", func(percent, used uint64) bool { return used > 32<<20 && near(percent, used) })
	runtime.KeepAlive(heap)
	reaches("a heap that has shrunk", func(percent, used uint64) bool { return used < 32<<20 && near(percent, used) })
}
