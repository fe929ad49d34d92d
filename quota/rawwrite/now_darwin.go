package rawwrite

import "syscall"

const isRaw = false // system calls go through a library

// Now writes what a socket takes without waiting, perhaps nothing. The socket must not block.
func Now(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), p)
		switch err {
		case nil:
			return n, nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
