package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// errMalformedResponse is wrapped by what is wrong with a response.
var errMalformedResponse = errors.New("the response is malformed")

// checkResponse repairs the names of a response's headers, and refuses a response that
// http.Transport accepts but that cannot be passed on. http1 says that it came on an
// HTTP/1 connection.
func checkResponse(res *http.Response, http1 bool) error {
	switch {
	case res.StatusCode < 100:
		return fmt.Errorf("%w: status %03d", errMalformedResponse, res.StatusCode)
	case http1 && res.ProtoMajor != 1:
		return fmt.Errorf("%w: version %s", errMalformedResponse, res.Proto) // RFC 9110 section 2.5
	}
	return RepairNames(res.Header)
}

// RepairNames removes the spaces between names and colons from a section that net/http has
// read of a response, as RFC 9112 section 5.1 asks of a proxy. net/http keeps them as a
// part of the name, and then does not send the header.
//
// A header that says where the body ends is removed, and makes an error: net/http has not
// seen it, and takes the body to end somewhere else.
func RepairNames(h http.Header) (err error) {
	for name, values := range h {
		if !strings.HasSuffix(name, " ") {
			continue
		}
		delete(h, name)
		name = http.CanonicalHeaderKey(strings.TrimRight(name, " "))
		if name == "Content-Length" || name == "Transfer-Encoding" {
			err = fmt.Errorf("%w: a space follows the name %s", errMalformedResponse, name)
			continue
		}
		h[name] = append(h[name], values...)
	}
	return err
}

// isConnectionError reports whether an attempt failed because its HTTP/1 connection broke,
// and not because of what arrived on it.
func isConnectionError(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}
