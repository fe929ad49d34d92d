package host

import (
	"math"
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
// nothing is known to be in use. The lower bound depends on what collections cost, see
// lowerBound.
const minGOGC, busyGOGC, maxGOGC = 10, 30, 800

// cheapShare is the share of all processors that collections may take without a higher
// lower bound.
const cheapShare = 0.05

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
	before    collectorTime
}

// adjust sets GOGC so that the next collection comes after the allowance.
func (t *gcTuner) adjust() {
	now := readCollectorTime()
	least := lowerBound(t.gogc, now.shareSince(t.before))
	t.before = now
	if gogc := gogcFor(t.allowance, bytesInUse(), least); gogc != t.gogc {
		t.gogc = gogc
		debug.SetGCPercent(gogc)
	}
	runtime.SetFinalizer(t, (*gcTuner).adjust)
}

// gogcFor returns the GOGC that allows so many bytes of garbage when so many are in use,
// but not less than least. It is rounded down to steps of 25, or of 5 if it is small,
// because setting GOGC stops the world for a moment.
func gogcFor(allowance, used uint64, least int) int {
	gogc := int(min(maxGOGC, 100*allowance/max(used, 1)))
	step := 25
	if gogc < 2*step {
		step = 5
	}
	return max(least, gogc-gogc%step)
}

// lowerBound returns the least GOGC for a large heap, after collections have taken a share
// of all processors with a GOGC of gogc. With many requests that wait, there is little new
// garbage, collections are rare, and a small GOGC saves memory for little processor time.
// With as many requests that are short, it would take more: there busyGOGC is a compromise.
func lowerBound(gogc int, share float64) int {
	// Half as much garbage takes twice as many collections.
	least := int(math.Ceil(float64(gogc) * share / cheapShare))
	return max(minGOGC, min(busyGOGC, least+4-(least+4)%5))
}

// A collectorTime is how much processor time there was since the process began, as the runtime
// estimates it at the end of each collection.
type collectorTime struct {
	collecting, all float64 // seconds; all processors, idle or not
}

func readCollectorTime() collectorTime {
	parts := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}}
	metrics.Read(parts)
	return collectorTime{parts[0].Value.Float64(), parts[1].Value.Float64()}
}

// shareSince returns the share of all processor time since before that was for collections.
// It is 0 if there was no collection.
func (t collectorTime) shareSince(before collectorTime) float64 {
	if t.all <= before.all {
		return 0
	}
	return (t.collecting - before.collecting) / (t.all - before.all)
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
