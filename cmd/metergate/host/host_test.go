package host

import (
	"math"
	"runtime/debug"
	"testing"
)

// The lowest of all limits counts, and GOMEMLIMIT stays as it was set.
func TestReadTakesTheLeastMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)

	debug.SetMemoryLimit(math.MaxInt64)
	if l := Read(); l.MemoryFrom == "GOMEMLIMIT" || l.Memory > math.MaxInt64 {
		t.Errorf("without GOMEMLIMIT: %+v", l)
	}
	const low = 10 << 20
	debug.SetMemoryLimit(low)
	l := Read()
	if l.Memory != low || l.MemoryFrom != "GOMEMLIMIT" {
		t.Errorf("with GOMEMLIMIT: %+v", l)
	}
	l.Container = 100 << 20
	if l.setMemoryLimit(); debug.SetMemoryLimit(-1) != low {
		t.Error("a container raises GOMEMLIMIT")
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if l.setMemoryLimit(); debug.SetMemoryLimit(-1) != int64(l.Container/100*containerShare) {
		t.Errorf("GOMEMLIMIT is %d, want nine tenths of the container's memory", debug.SetMemoryLimit(-1))
	}
}
