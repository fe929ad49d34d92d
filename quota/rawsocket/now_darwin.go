package rawsocket

import "syscall"

const isRaw = false // system calls go through a library

// WriteNow writes what a socket takes without waiting, perhaps nothing. The socket must not block.
func WriteNow(fd uintptr, p []byte) (int, error) {
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

// ReadNow reads what has come: 0 bytes at the end. Error EAGAIN: nothing has come. The socket must not block, and p must
// not be empty.
func ReadNow(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return max(0, n), err
		}
	}
}

// CanPeek: the system tells what has come without taking it.
const CanPeek = true

// Peek returns 1 if there is something to read from a socket, and 0 at the end. It leaves it there. Error
// EAGAIN: nothing has come.
func Peek(fd uintptr) (n int, err error) {
	var b [1]byte
	for {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
