package host

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// By default, Go collects garbage when the heap has doubled. A gateway uses some 8 MiB,
// so it would collect many times a second. TuneGC lets garbageAllowance accumulate
// instead. Unlike GOGC, the allowance does not grow with the heap: a gateway with many
// requests in flight takes a third more memory than it needs, and not nine times as much.
const garbageAllowance = 64 << 20

// Bounds for GOGC. The upper bound is for the time before the first collection, when
// nothing is known to be in use. The lower bound is a compromise: with ten thousand
// requests in flight, 25 and 35 took 10 and 6 % less memory than 50, and 33 and 18 % more
// processor time.
const minGOGC, maxGOGC = 30, 800

// TuneGC lets garbageAllowance of garbage accumulate before a collection, or a quarter of
// a container's memory limit if that is less. It leaves that alone if GOGC is set in the
// environment. GOMEMLIMIT, or nine tenths of a container's memory, bounds the heap.
func (l Limits) TuneGC() {
	l.setMemoryLimit()
	if os.Getenv("GOGC") != "" {
		return
	}
	allowance := uint64(garbageAllowance)
	if l.Container > 0 {
		allowance = min(allowance, l.Container/4)
	}
	(&gcTuner{allowance: allowance}).adjust()
}

// A gcTuner sets GOGC after each collection. It notices a collection because it is
// garbage itself: its finalizer is adjust, which sets the finalizer again.
type gcTuner struct {
	allowance uint64 // bytes
	gogc      int    // as last set
}

// adjust sets GOGC so that the next collection comes after the allowance.
func (t *gcTuner) adjust() {
	if gogc := gogcFor(t.allowance, bytesInUse()); gogc != t.gogc {
		t.gogc = gogc
		debug.SetGCPercent(gogc)
	}
	runtime.SetFinalizer(t, (*gcTuner).adjust)
}

// gogcFor returns the GOGC that allows so many bytes of garbage when so many are in use.
// It is rounded down to steps of 25, because setting GOGC stops the world for a moment.
func gogcFor(allowance, used uint64) int {
	gogc := min(maxGOGC, 100*allowance/max(used, 1))
	return int(max(minGOGC, gogc-gogc%25))
}

// bytesInUse returns what GOGC is a percentage of: the heap, stacks and global variables
// that the last collection found in use.
func bytesInUse() (sum uint64) {
	parts := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(parts)
	for _, part := range parts {
		sum += part.Value.Uint64()
	}
	return sum
}
