package urlpath

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// HTTP/2 can carry a space in a target. In HTTP/1 the target would end there.
func TestCanonicalizeRequestRefusesSpaceOverHTTP2(t *testing.T) {
	var seen []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Proto+" "+r.RequestURI)
		if err := CanonicalizeRequest(r); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("%s: error %v, want it refused", r.RequestURI, err)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for _, target := range []string{"/a b", "/a?b HTTP/1.0"} {
		req, _ := http.NewRequest("GET", server.URL, nil)
		if path, query, ok := strings.Cut(target, "?"); ok {
			req.URL.Path, req.URL.RawQuery = path, query
		} else {
			req.URL.Opaque = path
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if want := "HTTP/2.0 " + target; seen[len(seen)-1] != want {
			t.Errorf("the server saw %q, want %q", seen[len(seen)-1], want)
		}
	}
}
