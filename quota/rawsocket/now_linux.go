package rawsocket

import (
	"syscall"
	"unsafe"
)

const isRaw = true

// WriteNow writes what a socket takes without waiting, perhaps nothing. The socket must not block.
func WriteNow(fd uintptr, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	beforeWrite(p)
	for {
		n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch err {
		case 0:
			return int(n), nil
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
		n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch err {
		case 0:
			afterRead(fd, p[:n])
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, err
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
		n, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch err {
		case 0:
			afterRead(fd, nil)
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
