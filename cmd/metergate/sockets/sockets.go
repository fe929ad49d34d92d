// Package sockets opens what a gateway listens on: an address of TCP, a Unix socket, or a socket that
// systemd has opened (socket activation, sd_listen_fds(3)).
//
//	sockets.go    a Set opens sockets, and knows which ones the process has been given
//	unix.go       Unix sockets: permissions, and files that a dead process has left
//	systemd.go    sockets of systemd, and what systemd is told (sd_notify(3))
//	handover.go   a process that takes over from this one, with its sockets
//	proxied.go    connections that begin with a header of the PROXY protocol
package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"metergate/config"
)

// A Set opens the sockets of one process. Create it with FromEnvironment; nil is a Set that was given
// no sockets.
type Set struct {
	passed []*passedSocket // by systemd
	fault  error           // why there are none; nil: none were passed

	before *Predecessor           // nil: there is none
	given  map[string]givenSocket // by setting
	open   map[string]*Socket     // by setting
}

func newSet() *Set {
	return &Set{given: map[string]givenSocket{}, open: map[string]*Socket{}}
}

// A Socket is what a listener listens on.
type Socket struct {
	net.Listener
	address string      // by the configuration
	remove  func()      // its file; nil: it has none, or it belongs to somebody else
	kept    atomic.Bool // the file stays
	close   func() error
}

func newSocket(l net.Listener, remove func()) *Socket {
	s := &Socket{Listener: l, remove: remove}
	s.close = sync.OnceValue(func() error {
		err := s.Listener.Close()
		if s.remove != nil && !s.kept.Load() {
			s.remove()
		}
		return err
	})
	return s
}

// Close stops listening, and removes the file of a Unix socket. Only the first call does anything.
func (s *Socket) Close() error { return s.close() }

// Open opens the socket for a setting, by the address that the configuration has for it.
func (s *Set) Open(setting, address string) (*Socket, error) {
	if s == nil {
		s = newSet()
	}
	a, err := config.ParseListen(address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	var remove func()
	l, err := s.fromGiven(setting, address)
	switch {
	case err == nil:
		if a.Network == config.ListenUnix {
			remove = removal(a.Address)
		}
	case !errors.Is(err, errNotGiven):
		err = fmt.Errorf("%s: the socket of the process before: %w", setting, err)
	case a.Network == config.ListenSystemd:
		if l, err = s.fromSystemd(a.Address); err != nil {
			err = fmt.Errorf("%s: %s: %w", setting, address, err)
		}
	case a.Network == config.ListenUnix:
		if l, remove, err = listenUnix(a.Address, a.Mode); err != nil {
			err = listenError(setting, address, err)
		}
	default:
		if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", a.Address); err != nil {
			err = ListenError(setting, address, err)
		}
	}
	if err != nil {
		return nil, err
	}
	socket := newSocket(l, remove)
	socket.address = address
	s.open[setting] = socket
	return socket, nil
}

// ListenError says what to do about an address of TCP that cannot be listened on. setting is the name
// of its setting or flag.
func ListenError(setting, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s: %w; stop the other program, or set %s to another address", setting, address, syscall.EADDRINUSE, setting)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s: %w; set %s to an address of this machine", setting, address, syscall.EADDRNOTAVAIL, setting)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %s: %w; allow the program to use the port (CAP_NET_BIND_SERVICE), or set %s to a port from 1024", setting, address, syscall.EACCES, setting)
	}
	return fmt.Errorf("%s: %w", setting, err)
}

// listenError is ListenError for a Unix socket.
func listenError(setting, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s: another program listens there; stop it, or set %s to another path", setting, address, setting)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: %s: its folder does not exist; create it (systemd: RuntimeDirectory=), or set %s to another path", setting, address, setting)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s: %s: %w; let the program write to the folder, or set %s to another path", setting, address, err, setting)
	}
	return fmt.Errorf("%s: %s: %w", setting, address, err)
}

// Text is how an address is written in a configuration and in the log.
func Text(a net.Addr) string {
	if unix, ok := a.(*net.UnixAddr); ok {
		return "unix:" + unix.Name
	}
	return a.String()
}
