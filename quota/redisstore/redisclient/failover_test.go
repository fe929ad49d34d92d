package redisclient

import (
	"errors"
	"net"
	"testing"
)

// TestMasterConnKnowsThatItIsClosed: with TLS the socket cannot be looked at, but a connection
// that was closed because the master moved must be known to be closed.
func TestMasterConnKnowsThatItIsClosed(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &masterConn{Conn: a, failover: &failover{}}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool { t.Error("looks at a socket that does not exist"); return true })
	}
	if err != nil {
		t.Errorf("an open connection: %v", err)
	}
	c.Close()
	if _, err := c.SyscallConn(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection: error %v, want %v", err, net.ErrClosed)
	}
}

// TestChooseReport checks that a Sentinel that is behind, or was set up anew, does not send the
// client back to an old master.
func TestChooseReport(t *testing.T) {
	errDown := errors.New("connection refused")
	for _, c := range []struct {
		name    string
		known   masterReport
		reports []masterReport
		want    string
	}{
		{"nothing known", masterReport{}, []masterReport{{addr: "a:1"}}, "a:1"},
		{"newer", masterReport{addr: "a:1", epoch: 3}, []masterReport{{addr: "b:1", epoch: 4}}, "b:1"},
		{"the same", masterReport{addr: "a:1", epoch: 3}, []masterReport{{addr: "a:1", epoch: 3}}, "a:1"},
		{"one is behind", masterReport{addr: "b:1", epoch: 4}, []masterReport{{addr: "a:1", epoch: 3}, {addr: "b:1", epoch: 4}}, "b:1"},
		{"all begin anew", masterReport{addr: "b:1", epoch: 4}, []masterReport{{addr: "a:1", epoch: 1}, {addr: "c:1", epoch: 2}}, "c:1"},
		{"one fails", masterReport{}, []masterReport{{err: errDown}, {addr: "a:1"}}, "a:1"},
		{"all fail", masterReport{addr: "a:1", epoch: 3}, []masterReport{{err: errDown}, {err: errDown}}, "a:1"},
		{"none has ever reported", masterReport{}, []masterReport{{err: errDown}}, ""},
	} {
		got, err := chooseReport(c.known, func(yield func(masterReport) bool) {
			for _, r := range c.reports {
				if !yield(r) {
					return
				}
			}
		})
		if got.addr != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, error %v, want %q", c.name, got.addr, err, c.want)
		}
	}
}
