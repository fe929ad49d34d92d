//go:build linux || darwin

package direct

import "syscall"

// canPeek: the system tells what has arrived on a connection without taking it.
const canPeek = true

// peek returns 1 if there is something to read, 0 at the end, or EAGAIN.
func peek(fd uintptr) (n int, err error) {
	var b [1]byte
	for {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
