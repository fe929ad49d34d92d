package blocking

import (
	"os"
	"syscall"
	"unsafe" // for go:linkname as well
)

// Write is file.Write.
func Write(file *os.File, p []byte) (n int, err error) {
	if raw, err := file.SyscallConn(); err == nil && len(p) > 0 {
		raw.Control(func(fd uintptr) {
			if written, failed := call(syscall.SYS_WRITE, fd, unsafe.Pointer(&p[0]), uintptr(len(p))); failed == 0 {
				n = int(written)
			}
		})
		if n == len(p) {
			return n, nil
		}
	}
	rest, err := file.Write(p[n:]) // waits for a pipe that does not block, and has the error
	return n + rest, err
}

// Sync brings what was written to the disk. The size of the file must not have changed: it uses fdatasync.
func Sync(file *os.File) error {
	for {
		switch _, err := call(syscall.SYS_FDATASYNC, file.Fd(), nil, 0); err {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return err
		}
	}
}

// call makes a system call that Go's scheduler is told to block.
//
//go:nosplit
func call(trap, fd uintptr, p unsafe.Pointer, n uintptr) (uintptr, syscall.Errno) {
	entersyscallblock()
	r, _, err := syscall.RawSyscall(trap, fd, uintptr(p), n)
	exitsyscall()
	return r, err
}

// Package runtime keeps these two as they are, see go.dev/issue/67401. All that is called between them must be nosplit.

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
