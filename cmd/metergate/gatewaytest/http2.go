package gatewaytest

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An HTTP2Conn is a client's connection on which a test sends any frames it likes. One
// goroutine may write while another reads.
type HTTP2Conn struct {
	*http2.Framer
	Conn       net.Conn
	NextStream uint32 // the stream of the next request

	block  bytes.Buffer
	encode *hpack.Encoder
}

// DialHTTP2 opens a connection and sends the preface and the settings. The connection
// fails after two minutes.
func DialHTTP2(addr string, settings ...http2.Setting) (*HTTP2Conn, error) {
	plain, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return NewHTTP2Conn(plain, settings...)
}

// NewHTTP2Conn is [DialHTTP2] on a connection that is already there, without TLS.
func NewHTTP2Conn(plain net.Conn, settings ...http2.Setting) (*HTTP2Conn, error) {
	conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &HTTP2Conn{Framer: http2.NewFramer(conn, conn), Conn: conn, NextStream: 1}
	c.encode = hpack.NewEncoder(&c.block)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		plain.Close()
		return nil, err
	}
	return c, c.WriteSettings(settings...)
}

// EncodeHeaders returns a header block; namesAndValues alternate.
func (c *HTTP2Conn) EncodeHeaders(namesAndValues ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(namesAndValues); i += 2 {
		c.encode.WriteField(hpack.HeaderField{Name: namesAndValues[i], Value: namesAndValues[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// SendRequest sends the headers of a request and returns its stream. The request has no
// body if endStream is true.
func (c *HTTP2Conn) SendRequest(method, path, token string, endStream bool) (stream uint32, err error) {
	stream = c.NextStream
	c.NextStream += 2
	return stream, c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndStream: endStream, EndHeaders: true,
		BlockFragment: c.EncodeHeaders(":method", method, ":scheme", "https", ":authority", "gateway", ":path", path, "authorization", "Bearer "+token),
	})
}

// ReadUntil reads frames until stop returns true, or the connection fails. It acknowledges
// nothing.
func (c *HTTP2Conn) ReadUntil(stop func(http2.Frame) bool) error {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return err
		}
		if stop(f) {
			return nil
		}
	}
}

// Ping sends a PING and reads until it is answered. It returns false if the connection
// is closed, or about to be.
func (c *HTTP2Conn) Ping() (answered bool) {
	c.WritePing(false, [8]byte{})
	err := c.ReadUntil(func(f http2.Frame) bool {
		p, ok := f.(*http2.PingFrame)
		answered = ok && p.IsAck()
		_, away := f.(*http2.GoAwayFrame)
		return answered || away
	})
	return answered && err == nil
}

// Status reads until the response of a stream begins, and returns its status.
func (c *HTTP2Conn) Status(stream uint32) (status string, err error) {
	err = c.ReadUntil(func(f http2.Frame) bool {
		h, ok := f.(*http2.MetaHeadersFrame)
		if ok && h.StreamID == stream {
			status = h.PseudoValue("status")
		}
		return status != ""
	})
	return status, err
}
