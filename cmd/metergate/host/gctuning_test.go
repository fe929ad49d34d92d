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
		least           int
		want            int
	}{
		{64 * mib, 8 * mib, 30, 800},
		{64 * mib, 10 * mib, 30, 625}, // 640, in steps of 25
		{64 * mib, 63 * mib, 30, 100},
		{64 * mib, 85 * mib, 30, 75},
		{64 * mib, 150 * mib, 30, 40}, // 42, in steps of 5
		{64 * mib, 500 * mib, 30, 30}, // never less than that
		{64 * mib, 250 * mib, 10, 25},
		{64 * mib, 500 * mib, 10, 10},
		{64 * mib, 900 * mib, 10, 10},
		{64 * mib, 0, 30, 800},       // nothing collected yet
		{64 * mib, 1 * mib, 30, 800}, // never more
		{8 * mib, 8 * mib, 30, 100},
	} {
		if got := gogcFor(c.allowance, c.used, c.least); got != c.want {
			t.Errorf("gogcFor(%d MiB, %d MiB, %d) = %d, want %d", c.allowance/mib, c.used/mib, c.least, got, c.want)
		}
	}
}

// A large heap is collected more often as long as that takes at most a twentieth of the processors.
func TestLowerBound(t *testing.T) {
	for _, c := range []struct {
		gogc  int
		share float64
		want  int
	}{
		{30, 0, 10},
		{30, 0.01, 10},
		{30, 0.025, 15}, // with 15 it is 0.05
		{30, 0.026, 20}, // in steps of 5
		{30, 0.05, 30},
		{10, 0.05, 10},
		{10, 0.06, 15},
		{10, 0.5, 30}, // never more: then memory counts as well
		{800, 0.02, 30},
		{0, 0.3, 10}, // before the first collection
	} {
		if got := lowerBound(c.gogc, c.share); got != c.want {
			t.Errorf("lowerBound(%d, %g) = %d, want %d", c.gogc, c.share, got, c.want)
		}
	}
}

func TestShareSince(t *testing.T) {
	before := collectorTime{collecting: 1, all: 10}
	if got := (collectorTime{collecting: 2, all: 30}).shareSince(before); got != 0.05 {
		t.Errorf("1 of 20 seconds is %g", got)
	}
	if got := before.shareSince(before); got != 0 {
		t.Errorf("without a collection it is %g", got)
	}
	before = readCollectorTime()
	runtime.GC()
	if got := readCollectorTime().shareSince(before); got <= 0 || got > 1 {
		t.Errorf("a collection took %g of all time", got)
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
