//go:build race

package rawsocket

import (
	"runtime"
	"syscall"
	"unsafe"
)

// What goroutines say to each other through a socket happens in order. The functions of package syscall tell the race
// detector so, system calls without them do not.

// beforeWrite is called before p is written.
func beforeWrite(p []byte) {
	runtime.RaceReadRange(unsafe.Pointer(&p[0]), len(p))
	syscall.Write(-1, nil) // writes nothing
}

// afterRead is called when p has been read from a socket.
func afterRead(fd uintptr, p []byte) {
	if len(p) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(&p[0]), len(p))
	}
	syscall.Read(int(fd), nil) // reads nothing
}
