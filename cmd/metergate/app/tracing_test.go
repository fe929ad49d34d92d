package app

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy/tracing/tracingtest"
)

// Validating online asks the collector of spans as well.
func TestCheckOnlineAsksCollector(t *testing.T) {
	receiver, upstream := tracingtest.Start(t), newTarget(t)
	cfg := parse(t, t.TempDir(), settings{upstream: upstream.URL, limit: 5, more: fmt.Sprintf("tracing: { url: %q, headers: Authorization=Bearer%%20abc }", receiver.URL)}.yaml())
	check := func() (err error) {
		found := false
		CheckOnline(t.Context(), cfg, func(r Reached) {
			if strings.HasPrefix(r.Part, "tracing.url ("+receiver.URL) {
				found, err = true, r.Err
			}
		})
		if !found {
			t.Error("the collector is not among the parts")
		}
		return err
	}
	if err := check(); err != nil {
		t.Error(err)
	}
	if h := receiver.Requests()[0].Header; h.Get("Authorization") != "Bearer abc" {
		t.Errorf("%v", h)
	}
	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if err := check(); err == nil || !strings.Contains(err.Error(), "403") {
		t.Error(err)
	}
}
