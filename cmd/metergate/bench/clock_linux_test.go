package bench

import (
	"syscall"
	"time"
	"unsafe"
)

// pauseUntil sleeps in the kernel. The runtime's timers may be a millisecond late when
// nothing else happens, because the runtime waits for them and for the network in whole
// milliseconds.
func pauseUntil(at time.Time) {
	for left := time.Until(at); left > 0; left = time.Until(at) {
		ts := syscall.NsecToTimespec(int64(left))
		syscall.Nanosleep(&ts, nil)
	}
}

// processorTime is what all threads of a process have used, user and system, in nanoseconds.
// /proc/PID/stat has it in steps of 10 ms, which is a tenth of what a Redis uses in a short round.
func processorTime(pid int) (time.Duration, error) {
	clock := ^pid<<3 | 2 // clock_getcpuclockid(3): the processor time of a process, as the scheduler counts it
	var ts syscall.Timespec
	if _, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0); failed != 0 {
		return 0, failed
	}
	return time.Duration(ts.Nano()), nil
}
