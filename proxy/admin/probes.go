package admin

import (
	"context"
	"net/http"
	"time"
)

// checkTimeout bounds each check of /readyz.
const checkTimeout = time.Second

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"` // by name: "ok", or the fault
}

func (h *handler) livez(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, readiness{Status: "alive"})
}

func (h *handler) readyz(w http.ResponseWriter, r *http.Request) {
	switch {
	case h.Probes == nil:
		writeJSON(w, http.StatusOK, readiness{Status: "ready"})
	case h.Probes.Draining():
		writeJSON(w, http.StatusServiceUnavailable, readiness{Status: "draining"})
	case h.Probes.Waiting() != nil:
		writeJSON(w, http.StatusServiceUnavailable, readiness{Status: "waiting", Checks: runChecks(r.Context(), h.Probes.Checks())})
	default:
		writeJSON(w, http.StatusOK, readiness{Status: "ready", Checks: runChecks(r.Context(), h.Probes.Checks())})
	}
}

// runChecks runs all checks at once and returns "ok" or the fault for each name. It returns in
// checkTimeout, also if a check does not.
func runChecks(ctx context.Context, checks map[string]func(context.Context) error) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	type result struct{ name, text string }
	done, results := make(chan result, len(checks)), map[string]string{}
	for name, check := range checks {
		results[name] = "it does not answer within " + checkTimeout.String()
		go func() {
			text := "ok"
			if err := check(ctx); err != nil {
				text = err.Error()
			}
			done <- result{name, text}
		}()
	}
	for range checks {
		select {
		case r := <-done:
			results[r.name] = r.text
		case <-ctx.Done():
			return results
		}
	}
	return results
}
