package billing

import (
	"io"
	"net/http"
	"strings"
)

func copyBody(to io.Writer, r *http.Request) { io.Copy(to, r.Body) }

// withBody returns a request with another body.
func withBody(r *http.Request, body string) *http.Request {
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(strings.NewReader(body))
	return r
}
