//go:build unix

package sockets

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// lockFolder waits until no other process has locked a folder. A folder that cannot be read is not
// locked.
func lockFolder(dir string) (unlock func(), err error) {
	folder, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		folder.Close()
		return nil, err
	}
	return func() { folder.Close() }, nil
}

// setSocketMode sets the permissions of the file that the socket will get, where the system can.
func setSocketMode(fd uintptr, mode fs.FileMode) { syscall.Fchmod(int(fd), uint32(mode)) }

// listenerOf returns the listener of a socket that listens.
func listenerOf(f *os.File) (net.Listener, error) {
	listens, err := syscall.GetsockoptInt(int(f.Fd()), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil || listens == 0 {
		return nil, errors.New("it is not a socket that listens for streams")
	}
	l, err := net.FileListener(f)
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	return l, err
}

// duplicate returns another descriptor of a listener's socket. The listener's method File would do so as well,
// but os/exec calls Fd on that file, which puts the socket into blocking mode in all processes that have it.
// A listener could then not be closed until the next client connects.
func duplicate(l net.Listener, name string) (*os.File, error) {
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		syscall.ForkLock.RLock() // no program that is started meanwhile has the descriptor
		defer syscall.ForkLock.RUnlock()
		var other int
		if other, dupErr = syscall.Dup(int(fd)); dupErr != nil {
			return
		}
		syscall.CloseOnExec(other)
		file = os.NewFile(uintptr(other), name) // of which Fd leaves the mode as it is
	})
	return file, errors.Join(err, os.NewSyscallError("dup", dupErr))
}

func closeOnExec(fd uintptr) { syscall.CloseOnExec(int(fd)) }
func setNonblock(fd uintptr) { syscall.SetNonblock(int(fd), true) }

// NotifyHandover has ch receive the signal that asks for a successor.
func NotifyHandover(ch chan<- os.Signal) { signal.Notify(ch, syscall.SIGUSR2) }
