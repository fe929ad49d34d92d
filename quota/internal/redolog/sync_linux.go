package redolog

import (
	"os"
	"syscall"
	_ "unsafe" // for go:linkname
)

// syncData brings what was written to disk. The size does not change, so that fdatasync is enough.
func syncData(file *os.File) error {
	for {
		switch err := fdatasync(file.Fd()); err {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return err
		}
	}
}

// fdatasync is syscall.Fdatasync, except that Go's scheduler knows that it blocks. Otherwise the scheduler's monitor
// thread finds that out each time, and wakes every 20 µs for that: with many writes, a tenth of the processor time.
//
//go:nosplit
func fdatasync(fd uintptr) syscall.Errno {
	entersyscallblock()
	_, _, err := syscall.RawSyscall(syscall.SYS_FDATASYNC, fd, 0, 0)
	exitsyscall()
	return err
}

// Package runtime keeps these two as they are, see go.dev/issue/67401. All that is called between them must be nosplit.

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
