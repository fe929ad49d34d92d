// Package host says how much memory and how many file descriptors this process may use, and tunes
// the garbage collector to that memory.
package host

import (
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Limits are what the process may use. A field is 0 if there is no limit, or none is known.
type Limits struct {
	// Container is the memory limit of the container or systemd unit, in bytes: the lowest
	// of the process's cgroup and those above it, of version 1 or 2.
	Container uint64
	// Memory is the least of Container, the memory of the machine, and what GOMEMLIMIT says,
	// in bytes. MemoryFrom says which of them it is.
	Memory     uint64
	MemoryFrom string
	// Descriptors is how many files and connections may be open: the soft limit, which Go has
	// raised to the hard one when the program started.
	Descriptors int
}

// containerShare is the part of a container's memory, in percent, that Go may use. The rest is
// for what Go does not see, such as the sockets' buffers.
const containerShare = 90

// Read reads the limits. It must be called before TuneGC.
func Read() Limits {
	container, _ := memlimit.FromCgroup()
	machine, _ := memlimit.FromSystem()
	l := Limits{Container: container, Descriptors: descriptors()}
	for _, limit := range []struct {
		bytes uint64
		from  string
	}{
		{container, "the container"},
		{uint64(debug.SetMemoryLimit(-1)), "GOMEMLIMIT"},
		{machine, "the machine"},
	} {
		if limit.bytes > 0 && limit.bytes < math.MaxInt64 && (l.Memory == 0 || limit.bytes < l.Memory) {
			l.Memory, l.MemoryFrom = limit.bytes, limit.from
		}
	}
	if l.Container >= math.MaxInt64 || machine > 0 && l.Container >= machine {
		l.Container = 0
	}
	return l
}

// setMemoryLimit makes the garbage collector work harder before the container's memory is used
// up, unless GOMEMLIMIT already does.
func (l Limits) setMemoryLimit() {
	share := int64(l.Container / 100 * containerShare)
	if share > 0 && share < debug.SetMemoryLimit(-1) {
		debug.SetMemoryLimit(share)
	}
}
