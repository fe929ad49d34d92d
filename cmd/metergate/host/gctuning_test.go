package host

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGOGCFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		allowance, used uint64
		want            int
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
		if got := gogcFor(c.allowance, c.used); got != c.want {
			t.Errorf("gogcFor(%d MiB, %d MiB) = %d, want %d", c.allowance/mib, c.used/mib, got, c.want)
		}
	}
}

// The allowance stays the same when the heap grows or shrinks.
func TestGCTunerFollowsTheHeap(t *testing.T) {
	const allowance = 64 << 20
	waitFor := func(when string, reached func(gogc, used uint64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
			runtime.GC() // a goroutine of the runtime runs the finalizer some time after it
			gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
			metrics.Read(gogc)
			if reached(gogc[0].Value.Uint64(), bytesInUse()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: GOGC is %d with %d bytes in use", when, gogc[0].Value.Uint64(), bytesInUse())
			}
		}
	}
	near := func(gogc, used uint64) bool {
		got := gogc * used / 100
		return got > allowance*8/10 && got < allowance*12/10 || gogc == maxGOGC && got < allowance
	}
	(&gcTuner{allowance: allowance}).adjust()
	waitFor("at the start", near)
	heap := make([]byte, 32<<20)
	waitFor("after the heap has grown", func(gogc, used uint64) bool { return used > 32<<20 && near(gogc, used) })
	runtime.KeepAlive(heap)
	waitFor("after the heap has shrunk", func(gogc, used uint64) bool { return used < 32<<20 && near(gogc, used) })
}
