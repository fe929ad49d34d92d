package blocking

import (
	"os"
	"syscall"
	"unsafe" // for go:linkname as well

	"golang.org/x/sys/unix"
)

// tryWrite returns how much it has written, perhaps nothing.
func tryWrite(file *os.File, p []byte) (n int) {
	raw, err := file.SyscallConn()
	if err != nil || len(p) == 0 {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if written, failed := write(fd, unsafe.Pointer(&p[0]), uintptr(len(p))); failed == 0 {
			n = int(written)
		}
	})
	return n
}

// tryWriteAndSync reports whether all was written, and then returns the error of fdatasync. A second one would not tell that
// the first one has failed.
func tryWriteAndSync(file *os.File, p []byte, at int64, looks []Look) (isWritten bool, err error) {
	if len(p) == 0 {
		return false, nil
	}
	part, stats := unix.Iovec{Base: &p[0]}, statsFor(looks)
	part.SetLen(len(p))
	n, failed := writeAndSync(file.Fd(), &part, uintptr(at), uintptr(at>>32), stats)
	if int(n) != len(p) || failed == syscall.EINTR {
		return false, nil
	}
	if failed != 0 {
		return true, os.NewSyscallError("fdatasync", failed)
	}
	noteLooks(looks, stats)
	return true, nil
}

// A stat is the system call for a Look.
type stat struct {
	path   *byte // nil: it fails
	found  unix.Statx_t
	failed bool
}

func statsFor(looks []Look) []stat {
	stats := make([]stat, len(looks))
	for i := range looks {
		stats[i].path, _ = syscall.BytePtrFromString(looks[i].Path)
	}
	return stats
}

// noteLooks notes for each Look what was seen. That a path leads nowhere is not sure then.
func noteLooks(looks []Look, stats []stat) {
	for i := range looks {
		l, found := &looks[i], &stats[i].found
		known, ok := l.File.Sys().(*syscall.Stat_t)
		l.Leads = ok && !stats[i].failed && found.Mask&inodeAndSize == inodeAndSize &&
			found.Ino == known.Ino && unix.Mkdev(found.Dev_major, found.Dev_minor) == uint64(known.Dev)
		l.Size = int64(found.Size)
	}
}

func tryLooks(looks []Look) {
	stats := statsFor(looks)
	callStats(stats)
	noteLooks(looks, stats)
}

// Each of these makes system calls that Go's scheduler is told to block.

//go:nosplit
func write(fd uintptr, p unsafe.Pointer, n uintptr) (uintptr, syscall.Errno) {
	entersyscallblock()
	r, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(p), n)
	exitsyscall()
	return r, err
}

// The offset is in two parts, of which a system of 64 bits ignores the second.
//
//go:nosplit
func writeAndSync(fd uintptr, part *unix.Iovec, low, high uintptr, stats []stat) (n uintptr, err syscall.Errno) {
	entersyscallblock()
	n, _, err = syscall.RawSyscall6(unix.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(part)), 1, low, high, 0)
	if err == 0 && n == uintptr(part.Len) {
		_, _, err = syscall.RawSyscall(syscall.SYS_FDATASYNC, fd, 0, 0)
		for i := range stats {
			stats[i].call()
		}
	}
	exitsyscall()
	return n, err
}

//go:nosplit
func callStats(stats []stat) {
	entersyscallblock()
	for i := range stats {
		stats[i].call()
	}
	exitsyscall()
}

//go:nosplit
func (s *stat) call() {
	_, _, err := syscall.RawSyscall6(unix.SYS_STATX, atWorkingDirectory, uintptr(unsafe.Pointer(s.path)), 0, inodeAndSize, uintptr(unsafe.Pointer(&s.found)), 0)
	s.failed = err != 0
}

const (
	atWorkingDirectory = ^uintptr(-unix.AT_FDCWD - 1) // it is negative
	inodeAndSize       = unix.STATX_INO | unix.STATX_SIZE
)

// Package runtime keeps these two as they are, see go.dev/issue/67401. All that is called between them must be nosplit.

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
