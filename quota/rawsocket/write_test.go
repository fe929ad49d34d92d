package rawsocket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// connected returns both ends of a connection.
func connected(t testing.TB, network string) (client, server net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "socket")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// The data is larger than what sockets take at once, so that Write has to wait for room.
func TestWritesAll(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			client, server := connected(t, network)
			w := NewWriter(client)
			if (w.raw != nil) != isRaw {
				t.Fatal("the socket is not written to as it should be")
			}
			data := make([]byte, 16<<20)
			rand.Read(data)
			var writing sync.WaitGroup
			writing.Go(func() {
				if n, err := w.Write(data); n != len(data) || err != nil {
					t.Errorf("Write returned %d, %v", n, err)
				}
				if n, err := w.Write(nil); n != 0 || err != nil {
					t.Errorf("Write of nothing returned %d, %v", n, err)
				}
				client.Close()
			})
			got, err := io.ReadAll(server)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes have arrived, error %v; want %d", len(got), err, len(data))
			}
			writing.Wait()
		})
	}
}

// What two goroutines write is not mixed.
func TestWritesOneAfterTheOther(t *testing.T) {
	client, server := connected(t, "tcp")
	w := NewWriter(client)
	const size = 4 << 20
	var writing sync.WaitGroup
	for _, letter := range []string{"a", "b"} {
		writing.Go(func() { w.Write(bytes.Repeat([]byte(letter), size)) })
	}
	go func() { writing.Wait(); client.Close() }()
	got, err := io.ReadAll(server)
	if err != nil || len(got) != 2*size {
		t.Fatalf("%d bytes have arrived, error %v", len(got), err)
	}
	if first := got[:size]; bytes.Count(first, got[:1]) != size {
		t.Error("the data of two calls is mixed")
	}
}

// Each way in which a Write can fail gives the error that the connection's own Write gives.
func TestErrorsAreThoseOfTheConnection(t *testing.T) {
	full := bytes.Repeat([]byte("x"), 64<<20) // no socket takes as much
	tests := map[string]struct {
		prepare func(client, server net.Conn)
		is      error
	}{
		"closed before":        {func(client, _ net.Conn) { client.Close() }, net.ErrClosed},
		"deadline is over":     {func(client, _ net.Conn) { client.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"peer resets":          {func(_, server net.Conn) { server.(*net.TCPConn).SetLinger(0); server.Close() }, nil},
		"closed while waiting": {func(client, server net.Conn) { go func() { readSome(server); client.Close() }() }, net.ErrClosed},
		"deadline while waiting": {func(client, server net.Conn) {
			go func() { readSome(server); client.SetWriteDeadline(time.Unix(1, 0)) }()
		}, os.ErrDeadlineExceeded},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var errs [2]error
			for i, raw := range []bool{false, true} {
				client, server := connected(t, "tcp")
				test.prepare(client, server)
				write := client.Write
				if raw {
					write = NewWriter(client).Write
				}
				n, err := write(full)
				if err == nil || n == len(full) {
					t.Fatalf("raw %t: Write returned %d, %v", raw, n, err)
				}
				errs[i] = err
			}
			var want, got *net.OpError
			if !errors.As(errs[0], &want) || !errors.As(errs[1], &got) {
				t.Fatalf("errors %v, %v; want two of type *net.OpError", errs[0], errs[1])
			}
			if got.Op != want.Op || got.Net != want.Net || got.Timeout() != want.Timeout() || reflect.TypeOf(got.Err) != reflect.TypeOf(want.Err) {
				t.Errorf("error %#v, want one like %#v", got, want)
			}
			switch {
			case test.is != nil && !errors.Is(got, test.is):
				t.Errorf("error %v, want %v", got, test.is)
			case test.is == nil && !errors.Is(got, syscall.ECONNRESET) && !errors.Is(got, syscall.EPIPE):
				t.Errorf("error %v, want that of a lost connection", got)
			}
		})
	}
}

// readSome returns when the writer has written, and is likely to wait for room.
func readSome(c net.Conn) { io.ReadFull(c, make([]byte, 1<<20)) }

// A connection that is no socket is written to by its own Write.
func TestWritesToOtherConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			NewWriter(client).Write([]byte("text"))
			client.Close()
		}()
		if got, err := io.ReadAll(server); string(got) != "text" || err != nil {
			t.Errorf("%q has arrived, error %v", got, err)
		}
	})
}

func TestWriteDoesNotAllocate(t *testing.T) {
	client, server := connected(t, "tcp")
	go io.Copy(io.Discard, server)
	w, p := NewWriter(client), []byte("text")
	if n := testing.AllocsPerRun(100, func() { w.Write(p) }); n > 0 {
		t.Errorf("%v allocations for each Write", n)
	}
}

func TestWriteNowDoesNotWait(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("WriteNow is not for this system")
	}
	client, _ := connected(t, "tcp")
	raw, err := client.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	raw.Write(func(fd uintptr) bool {
		for sent := 0; sent < 64<<20; { // more than a socket takes
			n, err := WriteNow(fd, chunk)
			if err != nil {
				t.Error(err)
			}
			if n == 0 {
				return true
			}
			sent += n
		}
		t.Error("the socket is never full")
		return true
	})
}
