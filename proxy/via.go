package proxy

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
)

// errLoop says that the gateway has forwarded the request already: an upstream leads back
// to it.
var errLoop = errors.New("the request has come back to the gateway")

// A via is how a Gateway names itself in the Via header of the requests that it forwards,
// RFC 9110 section 7.6.3. The name is random, so that gateways in a row do not take each
// other for themselves, and tells nothing about the machine. Responses get no Via: the
// section leaves that to a gateway, and their headers are the upstream's.
type via struct {
	name string
	// The lines for the protocol in which a request came.
	http10, http11, http2 []string
}

func newVia() via {
	name := "metergate-" + strings.ToLower(rand.Text())
	return via{name, []string{"1.0 " + name}, []string{"1.1 " + name}, []string{"2 " + name}}
}

// isIn reports whether a request with these headers has passed the gateway. The name is
// too long to be a part of another one by chance, so the line need not be parsed.
func (v *via) isIn(h http.Header) bool {
	for _, line := range h["Via"] {
		if strings.Contains(strings.ToLower(line), v.name) {
			return true
		}
	}
	return false
}

// addTo adds the gateway to the Via of out, the headers that the upstream gets for in.
func (v *via) addTo(out http.Header, in *http.Request) {
	own := v.http11
	switch {
	case in.ProtoMajor == 2:
		own = v.http2
	case !in.ProtoAtLeast(1, 1):
		own = v.http10
	}
	if before := out["Via"]; len(before) > 0 {
		own = append(before[:len(before):len(before)], own...)
	}
	out["Via"] = own
}
