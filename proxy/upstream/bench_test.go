package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metergate/proxy/upstream"
)

// What a request costs through a Pool and through a bare http.Transport, over loopback.
func BenchmarkRoundTrip(b *testing.B) {
	s := serve(b, nil, func(s *httptest.Server) {
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}
	b.Cleanup(transport.CloseIdleConnections)
	bench(b, "transport", transport, s.URL)
	bench(b, "pool", newPool(b, upstream.Options{MaxConnectionAge: time.Minute}, s.URL, s.URL+"/2"), s.URL)
}

// What a Pool itself costs, without a network.
func BenchmarkOverhead(b *testing.B) {
	answer := answerer{&http.Response{StatusCode: 200, Body: http.NoBody}}
	transport := new(http.Transport)
	transport.RegisterProtocol("http", answer)
	bench(b, "transport", transport, "http://a")
	for i, name := range []string{upstream.LeastInFlight: "least in flight", upstream.RoundRobin: "round robin", upstream.ByUser: "by user"} {
		p := newPool(b, upstream.Options{Balance: upstream.Balance(i), MaxConnectionAge: time.Minute}, "http://a", "http://b", "http://c")
		p.AnswerAll(answer)
		bench(b, name, p, "http://a")
	}
}

type answerer struct{ *http.Response }

func (a answerer) RoundTrip(*http.Request) (*http.Response, error) {
	res := *a.Response
	return &res, nil
}

func bench(b *testing.B, name string, rt http.RoundTripper, url string) {
	for _, body := range []string{"", "text"} {
		b.Run(strings.TrimSpace(name+" "+body), func(b *testing.B) {
			host := target(url).URL.Host
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req := newRequest("POST", "/api/analyze", body)
					req.URL.Host = host
					var res *http.Response
					var err error
					if p, ok := rt.(*upstream.Pool); ok {
						res, err = p.RoundTripFor(req, "u-17", nil)
					} else {
						res, err = rt.RoundTrip(req)
					}
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		})
	}
}
