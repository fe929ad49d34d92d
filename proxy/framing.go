package proxy

// Where a request ends, and when its connection must not carry another one.

// framingInDoubt: the request may have ended elsewhere in the eyes of a proxy in front.
// net/http hides what was wrong with it, so that a connection is not used again after
// all that may hide something:
//
//   - a chunked body, which may have come with a Content-Length as well: RFC 9112
//     section 6.1 lets the coding win and has the connection closed;
//   - HTTP/1.0, whose Transfer-Encoding net/http drops (same section).
func (x *exchange) framingInDoubt() bool {
	return x.in.ProtoMajor == 1 && (x.in.ProtoMinor == 0 || len(x.in.TransferEncoding) > 0)
}

// leaveBody is called before an answer that does not need the request's body. net/http
// reads up to 256 KiB of it before it sends the answer, and a client may hold it
// back. On a connection that is to be closed it does not.
func (x *exchange) leaveBody() {
	if x.in.ProtoMajor == 1 && x.in.ContentLength != 0 {
		x.w.Header().Set("Connection", "close")
	}
}
