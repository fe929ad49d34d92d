package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Answers that the gateway makes itself.

func (x *exchange) writeJSON(status int, contentType string, v any) {
	body := marshal(v)
	x.skipBody()
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	setSecurityHeaders(h)
	x.record.status = status
	x.w.WriteHeader(status)
	x.w.Write(append(body, '\n'))
}

// marshal returns v as JSON. It panics if that fails, which it does not for the types
// of this package.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("proxy: " + err.Error())
	}
	return b
}

// setSecurityHeaders marks an answer of the gateway as one user's data: it must not be
// cached, sniffed, framed or run. It is never called for an upstream's response. The
// files for front ends have headers of their own, see package browser.
func setSecurityHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
}

// skipBody is called before an answer that does not need the request's body. net/http
// reads up to 256 KiB of a body before it sends the answer, and the client may hold it
// back. It does not do so on a connection that is to be closed.
func (x *exchange) skipBody() {
	if x.in.ProtoMajor == 1 && x.in.ContentLength != 0 {
		x.w.Header().Set("Connection", "close")
	}
}
