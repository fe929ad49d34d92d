package sockets

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// firstPassed is the first file descriptor that systemd passes (SD_LISTEN_FDS_START).
const firstPassed = 3

// A passedSocket is a socket that systemd has opened.
type passedSocket struct {
	name string // FileDescriptorName of its unit
	file *os.File
	used bool
}

// FromEnvironment takes the sockets that the process has been given, and removes the variables that
// name them: they are not for the processes that this one starts.
func FromEnvironment() *Set {
	s := newSet()
	s.readHandover()
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(name)
	}
	if count == "" {
		return s
	}
	if pid != strconv.Itoa(os.Getpid()) {
		s.fault = fmt.Errorf("the sockets of systemd are for process %.20q, and this one is %d; start the gateway itself in ExecStart=, not a shell that starts it", pid, os.Getpid())
		return s
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1000 {
		s.fault = fmt.Errorf("LISTEN_FDS is %.20q, which is not a number of sockets", count)
		return s
	}
	byIndex := strings.Split(names, ":")
	for i := range n {
		p := &passedSocket{file: os.NewFile(uintptr(firstPassed+i), "socket of systemd")}
		if i < len(byIndex) {
			p.name = byIndex[i]
		}
		closeOnExec(p.file.Fd())
		s.passed = append(s.passed, p)
	}
	return s
}

// fromSystemd returns the listener of the only socket that systemd has passed, or of the only one with
// a name.
func (s *Set) fromSystemd(name string) (net.Listener, error) {
	var found []*passedSocket
	for _, p := range s.passed {
		if name == "" || p.name == name {
			found = append(found, p)
		}
	}
	switch {
	case s.fault != nil:
		return nil, s.fault
	case len(s.passed) == 0:
		return nil, fmt.Errorf("systemd has passed no socket; start the gateway by its socket unit, such as deploy/metergate.socket")
	case len(found) == 0:
		return nil, fmt.Errorf("systemd has passed no socket of this name, but %s; set FileDescriptorName=%s in the socket unit", s.names(), name)
	case len(found) > 1 && name == "":
		return nil, fmt.Errorf("systemd has passed several sockets (%s); say which one, such as systemd:%s", s.names(), found[0].name)
	case len(found) > 1:
		return nil, fmt.Errorf("systemd has passed %d sockets of this name; write one ListenStream= in its socket unit", len(found))
	case found[0].used:
		return nil, fmt.Errorf("the other listener uses this socket")
	}
	p := found[0]
	l, err := listenerOf(p.file)
	if err != nil {
		return nil, fmt.Errorf("%w; its socket unit needs ListenStream= and Accept=no", err)
	}
	p.used = true
	p.file.Close() // l has its own descriptor
	return l, nil
}

func (s *Set) names() string {
	var names []string
	for _, p := range s.passed {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// Unused names the sockets of systemd that were not opened: whoever connects to one of them waits for
// ever.
func (s *Set) Unused() (names []string) {
	if s == nil {
		return nil
	}
	for _, p := range s.passed {
		if !p.used {
			names = append(names, p.name)
		}
	}
	return names
}

// Notify tells systemd about the state of the process, such as "READY=1". It does nothing if systemd
// has not asked for it (Type=notify).
func Notify(state ...string) error {
	address := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	if address.Name == "" {
		return nil
	}
	conn, err := net.DialUnix(address.Net, nil, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(strings.Join(state, "\n")))
	return err
}
