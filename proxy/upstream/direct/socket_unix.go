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

// writeNow writes what the socket takes without waiting, perhaps nothing.
func writeNow(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), p)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}
