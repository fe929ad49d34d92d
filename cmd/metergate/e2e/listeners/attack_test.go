package listeners

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// An attacked gateway has an upstream that counts its 2xx responses.
type attacked struct {
	*gatewaytest.TLSGateway
	sent, running atomic.Int64
	hang          bool // until the request is cancelled
}

func startAttacked(t *testing.T, store string, hang bool) *attacked {
	a := &attacked{hang: hang}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.running.Add(1)
		defer a.running.Add(-1)
		io.Copy(io.Discard, r.Body)
		switch {
		case r.URL.RawQuery == "bystander":
		case a.hang:
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		default:
			a.sent.Add(1)
		}
		io.WriteString(w, "ok")
	}))
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(upstream.Close)
	// The tests bound the memory that an attack takes. Up to 64 MiB of garbage, which the
	// gateway lets accumulate by default, would hide it: how much there is depends on how
	// busy the machine is.
	t.Setenv("GOGC", "100")
	a.TLSGateway = gatewaytest.StartTLS(t, gatewaytest.ValidKeyPair(t), upstream.URL, "embedded:data", store)
	return a
}

// bystander makes calls as another user, each of which must succeed, until stop is
// called. stop returns how many calls there were.
func (a *attacked) bystander() (stop func() int) {
	client, done, calls := gatewaytest.TrustingClient(a.T, a.Pair, true), make(chan struct{}), 0
	var wait sync.WaitGroup
	wait.Go(func() {
		for ; ; calls++ {
			select {
			case <-done:
				return
			default:
			}
			req, _ := http.NewRequest("POST", a.URL+"/api/analyze?bystander", nil)
			req.Header.Set("Authorization", "Bearer "+testkit.Token("bystander", "enterprise"))
			res, err := client.Do(req)
			if err != nil || res.StatusCode != 200 {
				a.T.Errorf("a bystander got %v, error %v", res, err)
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
	return func() int { close(done); wait.Wait(); return calls }
}

// comesToRest waits until neither the upstream nor the gateway has a request.
func (a *attacked) comesToRest(t *testing.T) {
	t.Helper()
	testkit.EventuallyWithin(t, time.Minute, "the upstream has nothing to do", func() bool { return a.running.Load() == 0 })
	testkit.EventuallyWithin(t, time.Minute, "the gateway has nothing to do", func() bool { return gatewaytest.RequestsInFlight(t, a.Process) == 0 })
}
