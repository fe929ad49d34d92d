package listeners

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

const floodFrames = 100_000

// A flooding is a gateway that floods come to.
type flooding struct {
	*testing.T
	*attacked
	token string
	used  int64 // requests that must have been counted
}

// request sends a request that must be counted, and returns its status.
func (f *flooding) request(c *gatewaytest.HTTP2Conn) (status string, err error) {
	stream, err := c.SendRequest("POST", "/api/analyze", f.token, true)
	if err != nil {
		return "", err
	}
	f.used++
	return c.Status(stream)
}

// A flood is many frames, or a large one, on one connection.
type flood struct {
	name   string
	closes bool // the gateway closes the connection; else it answers the request that follows
	send   func(f *flooding, c *gatewaytest.HTTP2Conn) error
}

// sendMany is the send of a flood of frames that differ in a number at most.
func sendMany(n int, write func(c *gatewaytest.HTTP2Conn, i int) error) func(*flooding, *gatewaytest.HTTP2Conn) error {
	return func(_ *flooding, c *gatewaytest.HTTP2Conn) error {
		return repeat(n, func(i int) error { return write(c, i) })
	}
}

var floods = []flood{
	// Nobody reads the answers: they fill what the system buffers, then pile up.
	{"PING", true, sendMany(100*floodFrames, func(c *gatewaytest.HTTP2Conn, _ int) error { return c.WritePing(false, [8]byte{}) })},
	// The answers to settings do not pile up: one is for all that came before it.
	{"SETTINGS", false, func(_ *flooding, c *gatewaytest.HTTP2Conn) error {
		return writeAndRead(c, func(int) error { return c.WriteSettings() })
	}},
	// CVE-2023-45288: a header that does not end, in small and in large pieces.
	{"CONTINUATION", true, endlessHeader(func(c *gatewaytest.HTTP2Conn, i int) []byte { return c.EncodeHeaders(fmt.Sprint("x-", i), "y") })},
	{"large CONTINUATION", true, endlessHeader(func(*gatewaytest.HTTP2Conn, int) []byte { return largePiece })},
	{"compressed header", false, sendCompressedHeader},
	{"empty DATA", false, sendEmptyData},
	{"PRIORITY", false, sendMany(floodFrames, func(c *gatewaytest.HTTP2Conn, i int) error {
		return c.WritePriority(uint32(2*i+1001), http2.PriorityParam{StreamDep: 1})
	})},
	{"WINDOW_UPDATE", false, sendMany(floodFrames, func(c *gatewaytest.HTTP2Conn, _ int) error { return c.WriteWindowUpdate(0, 1) })},
	{"unknown frames", false, sendMany(floodFrames, func(c *gatewaytest.HTTP2Conn, _ int) error { return c.WriteRawFrame(0xbe, 0, 0, nil) })},
	{"ORIGIN of a client", false, sendMany(floodFrames, func(c *gatewaytest.HTTP2Conn, _ int) error { return c.WriteRawFrame(0x0c, 0, 0, nil) })},
	{"a frame too large", true, sendMany(1, func(c *gatewaytest.HTTP2Conn, _ int) error {
		return c.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16<<10+1))
	})},
}

var largePiece = bytes.Repeat([]byte("x"), 16_000)

// endlessHeader is the send of a flood that continues a header for ever.
func endlessHeader(piece func(c *gatewaytest.HTTP2Conn, i int) []byte) func(*flooding, *gatewaytest.HTTP2Conn) error {
	return func(_ *flooding, c *gatewaytest.HTTP2Conn) error {
		if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.EncodeHeaders(":method", "POST")}); err != nil {
			return err
		}
		return repeat(floodFrames, func(i int) error { return c.WriteContinuation(1, false, piece(c, i)) })
	}
}

// sendCompressedHeader sends a block that is small only while it is compressed: one
// header, a thousand times.
func sendCompressedHeader(f *flooding, c *gatewaytest.HTTP2Conn) error {
	headers := []string{":method", "POST", ":scheme", "https", ":authority", "gateway", ":path", "/api/analyze", "authorization", "Bearer " + f.token}
	for range 1000 {
		headers = append(headers, "x", string(largePiece[:4000]))
	}
	block := c.EncodeHeaders(headers...)
	if len(block) > 16<<10 {
		return errors.New("the block is not small")
	}
	stream := c.NextStream
	c.NextStream += 2
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: true, EndHeaders: true, BlockFragment: block}); err != nil {
		return err
	}
	if status, err := c.Status(stream); status != "431" {
		f.T.Errorf("the request got %q, error %v", status, err)
	}
	return nil
}

// sendEmptyData sends the body of one request in very many frames without a byte.
func sendEmptyData(f *flooding, c *gatewaytest.HTTP2Conn) error {
	if _, err := c.SendRequest("POST", "/api/analyze", f.token, false); err != nil {
		return err
	}
	if err := repeat(floodFrames, func(int) error { return c.WriteData(1, false, nil) }); err != nil {
		return err
	}
	f.used++
	if err := c.WriteData(1, true, nil); err != nil {
		return err
	}
	if status, err := c.Status(1); status != "200" {
		f.T.Errorf("the request got %q, error %v", status, err)
	}
	return nil
}

// Floods of frames that cost a client little. The gateway either takes them and goes on,
// or closes the connection. In both cases it needs little memory and counts what it
// should.
func TestHTTP2FloodsTakeLittle(t *testing.T) {
	a := startAttacked(t, "embedded:data", false)
	f := &flooding{attacked: a, token: testkit.Token("flood", "enterprise")}
	for _, flood := range floods {
		t.Run(flood.name, func(t *testing.T) {
			f.T = t
			f.try(flood)
		})
	}
	a.comesToRest(t)
	client := gatewaytest.TrustingClient(t, a.Pair, true)
	_, body := gatewaytest.Ask(t, client, "GET", a.URL+"/usage", f.token, nil)
	if want := fmt.Sprintf(`"used":%d,`, f.used); f.used < 5 || a.sent.Load() != f.used || !strings.Contains(body, want) || !strings.Contains(body, `"in_flight":0,`) {
		t.Errorf("the upstream sent %d, the usage is %s; want %d used", a.sent.Load(), body, f.used)
	}
}

// try sends a flood on a connection of its own.
func (f *flooding) try(flood flood) {
	before := gatewaytest.PeakMemory(f.T, f.Process)
	c, err := gatewaytest.DialHTTP2(f.Addr)
	if err != nil {
		f.T.Fatal(err)
	}
	defer c.Conn.Close()
	err = flood.send(f, c)
	if flood.closes {
		// Read to the end: what was sent before the connection was closed comes first.
		if err == nil {
			err = c.ReadUntil(func(http2.Frame) bool { return false })
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.T.Error("the connection stays open")
		}
	} else if status, requestErr := f.request(c); err != nil || status != "200" {
		f.T.Errorf("error %v; after it a request got %q, error %v", err, status, requestErr)
	}
	if grown := gatewaytest.PeakMemory(f.T, f.Process) - before; grown > 48<<20 {
		f.T.Errorf("it took %d MiB of memory", grown>>20)
	}
}

// writeAndRead writes many frames, and reads the answers at the same time.
func writeAndRead(c *gatewaytest.HTTP2Conn, write func(int) error) error {
	last := [8]byte{1}
	read := make(chan error, 1)
	go func() {
		read <- c.ReadUntil(func(f http2.Frame) bool {
			p, ok := f.(*http2.PingFrame)
			return ok && p.IsAck() && p.Data == last
		})
	}()
	if err := errors.Join(repeat(floodFrames, write), c.WritePing(false, last)); err != nil {
		return err
	}
	return <-read
}

// repeat calls f n times, or until it returns an error.
func repeat(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}
