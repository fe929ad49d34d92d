package bench

import (
	"syscall"
	"time"
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
