package proxy

import (
	"io"
	"math"
	"net"
	"net/http"
	"time"
)

// Many clients write the whole body before they read the answer, Python's http.client for
// one. If the gateway answers earlier and closes the connection, the rest of the body meets
// a closed socket, and the reset that follows can take the answer away before the client
// has read it. So the gateway ends its own side only, and reads and throws away the rest,
// within bounds: RFC 9112 section 9.6. Up to postHandlerRead bytes net/http does that
// itself.
//
// An exchange that lingers keeps its place among the requests in flight. Clients without a
// good token linger only in the places that strangers may have, see publicShare.

const (
	// lingerTimeout is how long a client may take to send the rest of a body after it was
	// answered, and lingerPause how long it may send nothing.
	lingerTimeout = 30 * time.Second
	lingerPause   = 10 * time.Second
	// lingerBytes is how much of the rest is read; the route's MaxBody if that is more.
	lingerBytes = 64 << 20
	// postHandlerRead is how much net/http reads after the handler.
	postHandlerRead = 256 << 10
)

// unreadBody returns how many bytes of the request's body have not been read, math.MaxInt64
// if nobody knows. Of HTTP/2 it is 0: a stream ends without harm to its response.
func (x *exchange) unreadBody() int64 {
	if x.in.ProtoMajor != 1 || x.in.ContentLength == 0 {
		return 0
	}
	if b, ok := x.in.Body.(*bodyAhead); ok && b.isWhole() {
		return 0
	}
	read := int64(0)
	if f := x.forwarding; f != nil && f.body != nil {
		if f.body.complete.Load() {
			return 0
		}
		read = f.body.read
	}
	if x.in.ContentLength < 0 {
		return math.MaxInt64
	}
	return x.in.ContentLength - read
}

// mustLinger reports whether the gateway has to read the rest of the body before it closes
// the connection, and has a place for that.
func (x *exchange) mustLinger() bool {
	return x.unreadBody() > postHandlerRead && !x.trailersFollow() && x.takeLingerPlace()
}

// trailersFollow reports whether only net/http can end the response.
func (x *exchange) trailersFollow() bool {
	for name := range x.w.Header() {
		if name == "Trailer" || len(name) > len(http.TrailerPrefix) && name[:len(http.TrailerPrefix)] == http.TrailerPrefix {
			return true
		}
	}
	return false
}

// takeLingerPlace makes sure that the exchange has a place. Unless it is a user's, it must
// be one of those for strangers.
func (x *exchange) takeLingerPlace() bool {
	p := &x.place
	if p.user != "" || p.public {
		return p.total
	}
	p.owner = x.g.inFlight
	if p.public = p.owner.tryAddPublic(publicShare(x.g.maxInFlight)); !p.public {
		return false
	}
	if !p.total {
		p.total = p.owner.tryAdd(x.g.maxInFlight)
	}
	return p.total
}

// linger sends what is left of the response, says that nothing follows, and reads the rest
// of the request's body. It closes the connection.
func (x *exchange) linger() {
	header := x.w.Header()
	left := min(x.unreadBody(), max(lingerBytes, x.maxBody()))
	if x.w.FlushError() != nil {
		return // nobody is there
	}
	conn, buffered, err := http.NewResponseController(x.w.ResponseWriter).Hijack()
	if err != nil {
		return // net/http closes the connection
	}
	defer conn.Close()
	if x.in.ProtoAtLeast(1, 1) && header["Content-Length"] == nil && mayHaveBody(x.in.Method, x.record.status) {
		conn.SetWriteDeadline(time.Now().Add(x.g.stall))
		if _, err := io.WriteString(conn, "0\r\n\r\n"); err != nil { // the last chunk
			return
		}
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	x.discard(conn, buffered, left)
}

// discard reads up to left bytes of a client that has been answered.
func (x *exchange) discard(conn net.Conn, r io.Reader, left int64) {
	buffer := buffers.Get()
	defer buffers.Put(buffer)
	end := time.Now().Add(x.g.lingerTimeout)
	for left > 0 {
		now := time.Now()
		if deadline := now.Add(x.g.lingerPause); deadline.Before(end) {
			conn.SetReadDeadline(deadline)
		} else {
			conn.SetReadDeadline(end)
		}
		n, err := r.Read(buffer[:min(int64(len(buffer)), left)])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// maxBody is the MaxBody of the route, 0 without one.
func (x *exchange) maxBody() int64 {
	if x.route == nil {
		return 0
	}
	return x.route.MaxBody
}

// mayHaveBody reports whether a response may have a body, RFC 9112 section 6.3.
func mayHaveBody(method string, status int) bool {
	return method != http.MethodHead && status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
