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
func tryWriteAndSync(file *os.File, p []byte, at int64) (isWritten bool, err error) {
	if len(p) == 0 {
		return false, nil
	}
	part := unix.Iovec{Base: &p[0]}
	part.SetLen(len(p))
	n, failed := writeAndSync(file.Fd(), &part, uintptr(at), uintptr(at>>32))
	if int(n) != len(p) || failed == syscall.EINTR {
		return false, nil
	}
	if failed != 0 {
		return true, os.NewSyscallError("fdatasync", failed)
	}
	return true, nil
}

// tryStat reports whether a path leads to a file, and the size of the file. It may say no for any reason.
func tryStat(path string, file os.FileInfo) (size int64, is bool) {
	name, err := syscall.BytePtrFromString(path)
	known, ok := file.Sys().(*syscall.Stat_t)
	if err != nil || !ok {
		return 0, false
	}
	var found unix.Statx_t
	if stat(name, &found) != 0 || found.Mask&inodeAndSize != inodeAndSize {
		return 0, false
	}
	is = found.Ino == known.Ino && unix.Mkdev(found.Dev_major, found.Dev_minor) == uint64(known.Dev)
	return int64(found.Size), is
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
func writeAndSync(fd uintptr, part *unix.Iovec, low, high uintptr) (n uintptr, err syscall.Errno) {
	entersyscallblock()
	n, _, err = syscall.RawSyscall6(unix.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(part)), 1, low, high, 0)
	if err == 0 && n == uintptr(part.Len) {
		_, _, err = syscall.RawSyscall(syscall.SYS_FDATASYNC, fd, 0, 0)
	}
	exitsyscall()
	return n, err
}

//go:nosplit
func stat(path *byte, found *unix.Statx_t) syscall.Errno {
	entersyscallblock()
	_, _, err := syscall.RawSyscall6(unix.SYS_STATX, atWorkingDirectory, uintptr(unsafe.Pointer(path)), 0, inodeAndSize, uintptr(unsafe.Pointer(found)), 0)
	exitsyscall()
	return err
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
