package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// askTimeout bounds the attempt to connect to a socket whose file is there already.
const askTimeout = 2 * time.Second

// listenUnix listens on a Unix socket with permissions, in place of one that nobody listens on any more.
// remove removes its file, unless that is another one by then.
func listenUnix(path string, mode fs.FileMode) (l net.Listener, remove func(), err error) {
	// Two gateways that start at once must not both find a stale file: the second would remove the
	// first one's socket.
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, nil, err
	}
	// The file gets its permissions when it is made: as many as the mode and the umask allow.
	setMode := func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { setSocketMode(fd, mode) })
	}
	l, err = (&net.ListenConfig{Control: setMode}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = os.Chmod(path, mode)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, removal(path), nil
}

// removal returns a function that removes the file that is at the path now.
func removal(path string) func() {
	made, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return func() {
		if now, err := os.Lstat(path); err == nil && os.SameFile(made, now) {
			os.Remove(path)
		}
	}
}

// removeStale removes the file of a socket that nobody listens on. With EADDRINUSE somebody does.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is not a socket; move it away")
	}
	conn, err := net.DialTimeout("unix", path, askTimeout)
	switch {
	case err == nil:
		conn.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.EAGAIN): // its queue is full
		return syscall.EADDRINUSE
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("there is a socket already: %w", err)
	}
	return os.Remove(path)
}
