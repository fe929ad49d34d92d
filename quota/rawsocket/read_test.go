package rawsocket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The reader is faster than the writer at times, so that Read has to wait.
func TestReadsAll(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			client, server := connected(t, network)
			r := NewReader(client)
			if (r.raw != nil) != isRaw {
				t.Fatal("the socket is not read from as it should be")
			}
			data := make([]byte, 16<<20)
			rand.Read(data)
			go func() {
				server.Write(data)
				server.Close()
			}()
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes have arrived, error %v; want %d", len(got), err, len(data))
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read at the end returned %d, %v", n, err)
			}
			if n, err := r.Read(nil); n != 0 || err != nil {
				t.Errorf("Read of nothing returned %d, %v", n, err)
			}
		})
	}
}

// Each way in which a Read can fail gives the error that the connection's own Read gives.
func TestReadErrorsAreThoseOfTheConnection(t *testing.T) {
	past := time.Unix(1, 0)
	tests := map[string]struct {
		prepare func(client, server net.Conn)
		is      error
	}{
		"closed before":          {func(client, _ net.Conn) { client.Close() }, net.ErrClosed},
		"deadline is over":       {func(client, _ net.Conn) { client.SetReadDeadline(past) }, os.ErrDeadlineExceeded},
		"peer resets":            {func(_, server net.Conn) { server.(*net.TCPConn).SetLinger(0); server.Close() }, syscall.ECONNRESET},
		"closed meanwhile":       {func(client, _ net.Conn) { go client.Close() }, net.ErrClosed},
		"deadline set meanwhile": {func(client, _ net.Conn) { go client.SetReadDeadline(past) }, os.ErrDeadlineExceeded},
		"deadline passes":        {func(client, _ net.Conn) { client.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var errs [2]*net.OpError
			for i, raw := range []bool{false, true} {
				client, server := connected(t, "tcp")
				test.prepare(client, server)
				read := client.Read
				if raw {
					read = NewReader(client).Read
				}
				n, err := read(make([]byte, 1))
				if n > 0 || !errors.As(err, &errs[i]) {
					t.Fatalf("raw %t: Read returned %d, %v; want a *net.OpError", raw, n, err)
				}
			}
			want, got := errs[0], errs[1]
			if got.Op != want.Op || got.Net != want.Net || got.Timeout() != want.Timeout() || reflect.TypeOf(got.Err) != reflect.TypeOf(want.Err) || !errors.Is(got, test.is) {
				t.Errorf("error %#v, want one like %#v", got, want)
			}
		})
	}
}

// A connection on which a Read timed out can be used again.
func TestReadsAfterDeadline(t *testing.T) {
	client, server := connected(t, "tcp")
	r, b := NewReader(client), make([]byte, 8)
	client.SetReadDeadline(time.Unix(1, 0))
	if _, err := r.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v, want %v", err, os.ErrDeadlineExceeded)
	}
	client.SetReadDeadline(time.Time{})
	server.Write([]byte("text"))
	if n, err := r.Read(b); string(b[:n]) != "text" || err != nil {
		t.Errorf("Read returned %q, %v", b[:n], err)
	}
}

// A connection that is no socket is read from by its own Read.
func TestReadsFromOtherConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			client.Write([]byte("text"))
			client.Close()
		}()
		if got, err := io.ReadAll(NewReader(server)); string(got) != "text" || err != nil {
			t.Errorf("%q has arrived, error %v", got, err)
		}
	})
}

func TestReadDoesNotAllocate(t *testing.T) {
	client, server := connected(t, "tcp")
	r, p := NewReader(client), []byte("text")
	if n := testing.AllocsPerRun(100, func() { server.Write(p); r.Read(p) }); n > 0 {
		t.Errorf("%v allocations for each Read", n)
	}
}

func TestPeekLeavesWhatHasCome(t *testing.T) {
	if !CanPeek {
		t.Skip("Peek is not for this system")
	}
	client, server := connected(t, "tcp")
	raw, err := client.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	peek := func(wait bool) (n int, err error) {
		raw.Read(func(fd uintptr) bool {
			n, err = Peek(fd)
			return err != syscall.EAGAIN || !wait
		})
		return n, err
	}
	if n, err := peek(false); n != 0 || err != syscall.EAGAIN {
		t.Errorf("before anything has come: %d, %v", n, err)
	}
	server.Write([]byte("text"))
	for range 2 {
		if n, err := peek(true); n != 1 || err != nil {
			t.Errorf("with something to read: %d, %v", n, err)
		}
	}
	b := make([]byte, 8)
	if n, _ := client.Read(b); string(b[:n]) != "text" {
		t.Errorf("%q is read", b[:n])
	}
	server.Close()
	if n, err := peek(true); n != 0 || err != nil {
		t.Errorf("at the end: %d, %v", n, err)
	}
}
