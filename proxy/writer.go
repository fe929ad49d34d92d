package proxy

import (
	"net/http"
	"time"
)

const (
	// stallTimeout ends the connection of a client that does not read: one write, of
	// 32 KiB at the most, may take so long. A response that is silent is not written.
	stallTimeout = time.Minute
	// lingerTimeout is how long a client may take to send the rest of a body after
	// its answer. net/http reads it, up to 256 KiB, so that the answer is not lost.
	lingerTimeout = 10 * time.Second
)

// A writer is the ResponseWriter of an exchange. It gives each write its time, and
// cleans the informational responses (1xx).
type writer struct {
	http.ResponseWriter
	x *exchange
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Write(p []byte) (int, error) {
	w.begin()
	defer w.end()
	n, err := w.ResponseWriter.Write(p)
	w.x.bytes += int64(n)
	return n, err
}

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	w.begin()
	defer w.end()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *writer) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		if !w.x.in.ProtoAtLeast(1, 1) {
			return // RFC 9110 section 15.2
		}
		h := w.Header()
		w.x.disown(h)
		for _, name := range connectionFields {
			h.Del(name)
		}
		w.begin()
		defer w.end()
	}
	w.ResponseWriter.WriteHeader(status)
}

// connectionFields are of one connection (RFC 9110 section 7.6.1). ReverseProxy
// removes them from final responses, but not from informational ones.
var connectionFields = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func (w *writer) begin() {
	http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.x.g.stall))
}

// end takes the time off again: to HTTP/2 it would be that of the whole stream, and a
// stream may be silent for as long as it likes.
func (w *writer) end() {
	http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Time{})
}

// hurry sends what is buffered, so that the client need not wait for the log. Not when
// net/http has still to find out how long the response is; and not on a connection that
// may have been taken over, where it would panic. Whoever has left a body unread has told
// net/http not to read it before it answers, see leaveBody.
func (w *writer) hurry() {
	if w.x.in.ProtoMajor == 1 && w.Header()["Content-Length"] != nil {
		w.FlushError() // the client may be gone
	}
}

// finish gives time to what net/http does after the exchange: it writes what is
// buffered, and reads the rest of the request's body.
func (w *writer) finish() {
	w.begin()
	if w.x.in.ProtoMajor == 1 && w.x.in.ContentLength != 0 && (w.x.body == nil || !w.x.body.ended.Load()) {
		http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(w.x.g.linger))
	}
}
