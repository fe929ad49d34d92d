package proxy

import (
	"net/http"
	"strings"
	"time"
)

const (
	// stallTimeout is how long one write to a client, of 32 KiB at most, may take. Then
	// the connection is closed. A response that pauses is not affected.
	stallTimeout = time.Minute
)

// A responseWriter is the ResponseWriter of an exchange. It limits the time of each
// write, counts bytes, and cleans informational responses (1xx).
type responseWriter struct {
	http.ResponseWriter
	x       *exchange
	started bool // the final status was written
}

func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) Write(p []byte) (int, error) {
	w.setWriteDeadline()
	defer w.clearWriteDeadline()
	n, err := w.ResponseWriter.Write(p)
	w.x.record.bytes += int64(n)
	return n, err
}

// FlushError is what http.ResponseController calls.
func (w *responseWriter) FlushError() error {
	w.setWriteDeadline()
	defer w.clearWriteDeadline()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *responseWriter) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		if !w.x.in.ProtoAtLeast(1, 1) {
			return // RFC 9110 section 15.2
		}
		if status == http.StatusContinue && w.x.in.ContentLength != 0 && strings.EqualFold(w.x.in.Header.Get("Expect"), "100-continue") {
			return // net/http sends it as soon as the body is read, and the client must not get two
		}
		w.x.cleanSection(w.Header(), nil)
		if w.x.in.ProtoMajor == 2 {
			// net/http may still read the header when WriteHeader has returned, if the client has reset the stream,
			// and ReverseProxy changes it. net/http clones the header if it has to remove something from it.
			w.Header()["Content-Length"] = nil
			defer delete(w.Header(), "Content-Length")
		}
		w.setWriteDeadline()
		defer w.clearWriteDeadline()
	}
	w.ResponseWriter.WriteHeader(status)
	w.started = w.started || status >= 200
}

func (w *responseWriter) setWriteDeadline() {
	http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.x.g.stall))
}

// clearWriteDeadline removes the deadline after a write: with HTTP/2 it would apply to
// the whole stream, and a stream may pause for as long as it likes.
func (w *responseWriter) clearWriteDeadline() {
	http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Time{})
}

// flushShortResponse sends what is buffered, so that the client does not wait for the
// log. It does nothing while net/http has yet to find out how long the response is. It
// must not be called on a connection that may have been taken over: net/http would
// panic. An unread body does not hold the flush up, see skipBody.
func (w *responseWriter) flushShortResponse() {
	if w.x.in.ProtoMajor == 1 && w.Header()["Content-Length"] != nil {
		w.FlushError() // the client may be gone
	}
}

// flushAborted sends what is buffered of a response that breaks off. If the client saw an
// empty connection instead, it might send the request again (RFC 9110 section 9.2.2),
// and a request that was counted would be counted twice.
func (w *responseWriter) flushAborted() {
	if w.started {
		w.FlushError() // the client may be gone
	}
}

// limitFinalIO limits the time of what net/http does after the handler: it writes what
// is buffered, and reads the rest of the request's body.
func (w *responseWriter) limitFinalIO() {
	w.setWriteDeadline()
	if w.x.unreadBody() > 0 {
		http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(w.x.g.lingerPause))
	}
}
