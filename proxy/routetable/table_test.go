package routetable_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/proxy/routetable"
	"metergate/proxy/urlpath"
)

// lookUp returns the pattern of a request's route, "404", or "405" and the methods.
func lookUp(t *routetable.Table[string], req *http.Request) string {
	host, path := urlpath.HostOf(req), req.URL.EscapedPath()
	if pattern := t.Find(host, req.Method, path); pattern != nil {
		return *pattern
	}
	if methods := t.Methods(host, path); len(methods) > 0 {
		return "405 " + strings.Join(methods, ", ")
	}
	return "404"
}

// found is the handler of every pattern. It tells them from a ServeMux's own answers.
type found struct{}

func (found) ServeHTTP(http.ResponseWriter, *http.Request) {}

// TestTableAgreesWithServeMux compares random patterns and requests: where a ServeMux does
// not redirect, it finds the same route and the same methods.
func TestTableAgreesWithServeMux(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	target := func(last ...string) string {
		s := pick("", "", "", "h1", "h2")
		for range rnd.IntN(4) {
			s += "/" + pick("a", "b", "c", "%20", "%7B", "{x}")
		}
		for i := range 4 { // names of wildcards differ within a pattern
			s = strings.Replace(s, "{x}", fmt.Sprintf("{x%d}", i), 1)
		}
		return s + pick(last...)
	}
	compared := 0
	for range 2000 {
		mux := http.NewServeMux()
		var patterns []string
		for range 8 {
			p := pick("", "GET ", "POST ", "HEAD ") + target("/", "/a", "/{y}", "/{y...}", "/{$}")
			func() {
				defer func() { recover() }() // it conflicts with another one
				mux.Handle(p, found{})
				patterns = append(patterns, p)
			}()
		}
		table := routetable.New[string]()
		for _, p := range patterns {
			if err := table.Add(p, &p); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 {
			method, path := pick("GET", "HEAD", "POST", "PUT"), strings.ReplaceAll(strings.ReplaceAll(target("/", "/a", "/b"), "{", ""), "}", "")
			host, rest, _ := strings.Cut(path, "/")
			req := httptest.NewRequest(method, "/"+rest, nil)
			req.Host = host
			h, want := mux.Handler(req)
			if h != (found{}) {
				answer := httptest.NewRecorder()
				h.ServeHTTP(answer, req)
				if !strings.HasSuffix(path, "/") {
					continue // a redirect, or methods that need one
				}
				want = strings.TrimSpace(fmt.Sprint(answer.Code, " ", answer.Header().Get("Allow")))
			}
			compared++
			if got := lookUp(table, req); got != want {
				t.Fatalf("%q: %s %s: %s, ServeMux says %s", patterns, method, path, got, want)
			}
		}
	}
	if compared < 10000 {
		t.Errorf("only %d requests compared", compared)
	}
}
