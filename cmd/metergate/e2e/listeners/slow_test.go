package listeners

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
)

// The gateway closes the connection of a client that sends the headers of its request one
// byte at a time, without end.
func TestSlowHeaderIsCutOff(t *testing.T) {
	t.Parallel() // it takes the ten seconds that such a client has
	gateway := gatewaytest.StartGateway(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	conn, err := net.Dial("tcp", strings.TrimPrefix(gateway.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	closed := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		closed <- err
	}()
	io.WriteString(conn, "GET /usage HTTP/1.1\r\nX-Slow: ")
	for {
		select {
		case err := <-closed:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open after a minute")
			}
			return
		case <-time.After(50 * time.Millisecond):
			io.WriteString(conn, "a")
		}
	}
}

// A connection that was opened before there is a request may wait for longer than a header may take.
func TestNewConnectionMayWait(t *testing.T) {
	t.Parallel() // it takes longer than the ten seconds that a header has
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, gatewaytest.ReloadYAML(upstream.URL, 100))
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(12 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, error %v; want a connection that stays open", n, err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 404 ") {
		t.Errorf("%.100q, error %v", text, err)
	}
}

// idle_timeout is how long a connection may wait for its next request.
func TestIdleTimeoutOfClients(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, "idle_timeout: 1s"+gatewaytest.ReloadYAML(upstream.URL, 100))
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute)) // the default is longer
	io.WriteString(conn, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 404 ") {
		t.Errorf("%.100q, error %v", text, err)
	}
}
