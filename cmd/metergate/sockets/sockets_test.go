package sockets

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"metergate/config"
)

func openUnix(t *testing.T, path string) *Socket {
	t.Helper()
	s, err := (*Set)(nil).Open("listen", "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A Unix socket has its permissions whatever the umask, and is gone after Close.
func TestUnixSocketHasItsMode(t *testing.T) {
	for query, want := range map[string]os.FileMode{"": 0o660, "?mode=0600": 0o600, "?mode=0777": 0o777} {
		path := filepath.Join(t.TempDir(), "s")
		s := openUnix(t, path+query)
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: mode %v, %v; want %v", query, info.Mode(), err, want)
		}
		if s.Close(); s.Close() != nil {
			t.Error("a second Close is an error")
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// A socket whose process has died is replaced. One that is in use, and a file, are not.
func TestUnixSocketReplacesOnlyStaleOnes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	s := openUnix(t, path)
	if _, err := (*Set)(nil).Open("admin.listen", "unix:"+path); err == nil || !strings.Contains(err.Error(), "admin.listen: unix:"+path+": another program listens there; stop it, or set admin.listen") {
		t.Errorf("in use: %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the socket in use does not work any more: %v", err)
	} else {
		conn.Close()
	}
	// Somebody else's file stays when the socket is closed.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := openUnix(t, path)
	s.Close()
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("Close has removed the socket of another: %v", err)
	} else {
		conn.Close()
	}
	other.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (*Set)(nil).Open("listen", "unix:"+path); err == nil || !strings.Contains(err.Error(), "a file that is not a socket; move it away") {
		t.Errorf("a file: %v", err)
	}
	if _, err := (*Set)(nil).Open("listen", "unix:"+filepath.Join(t.TempDir(), "no", "s")); err == nil || !strings.Contains(err.Error(), "its folder does not exist; create it") {
		t.Errorf("no folder: %v", err)
	}
}

// Of many that start at once on a stale socket, one listens.
func TestUnixSocketIsTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		var starting sync.WaitGroup
		opened := make(chan *Socket, 8)
		for range cap(opened) {
			starting.Go(func() {
				if s, err := (*Set)(nil).Open("listen", "unix:"+path); err == nil {
					opened <- s
				}
			})
		}
		starting.Wait()
		if len(opened) != 1 {
			t.Fatalf("%d listen", len(opened))
		}
		(<-opened).Close()
	}
}

func TestParseListenBoundsThePath(t *testing.T) {
	dir := t.TempDir()
	if len(dir) > 90 {
		dir = "/tmp"
	}
	name := dir + "/" + strings.Repeat("s", 103-len(dir)-1)
	if _, err := config.ParseListen("unix:" + name); err != nil {
		t.Errorf("103 bytes: %v", err)
	}
	if _, err := config.ParseListen("unix:" + name + "12345"); err == nil || !strings.Contains(err.Error(), "and has 108") {
		t.Errorf("108 bytes: %v", err)
	}
}

// What systemd passes wrongly, or not at all, is an error that says what to change.
func TestSystemdSocketErrorsSayWhatToChange(t *testing.T) {
	set := func(names ...string) *Set {
		s := newSet()
		for _, name := range names {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			s.passed = append(s.passed, &passedSocket{name: name, file: f})
		}
		return s
	}
	for _, c := range []struct {
		set           *Set
		address, want string
	}{
		{nil, "systemd", "systemd has passed no socket; start the gateway by its socket unit, such as deploy/metergate.socket"},
		{set("a"), "systemd:http", "no socket of this name, but a; set FileDescriptorName=http in the socket unit"},
		{set("b", "a"), "systemd", "several sockets (a, b); say which one, such as systemd:b"},
		{set("a", "a"), "systemd:a", "2 sockets of this name; write one ListenStream= in its socket unit"},
		{set("a"), "systemd", "not a socket that listens for streams; its socket unit needs ListenStream= and Accept=no"},
	} {
		_, err := c.set.Open("listen", c.address)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "listen: "+c.address+": ") {
			t.Errorf("%s: %v; want %s", c.address, err, c.want)
		}
	}
	for env, want := range map[[2]string]string{
		{"1", "1"}:                         fmt.Sprintf(`for process "1", and this one is %d; start the gateway itself in ExecStart=`, os.Getpid()),
		{fmt.Sprint(os.Getpid()), "a lot"}: `LISTEN_FDS is "a lot", which is not a number of sockets`,
	} {
		t.Setenv("LISTEN_PID", env[0])
		t.Setenv("LISTEN_FDS", env[1])
		if _, err := FromEnvironment().Open("listen", "systemd"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v; want %s", env, err, want)
		}
		if os.Getenv("LISTEN_FDS") != "" {
			t.Error("the variable is left for other processes")
		}
	}
}
