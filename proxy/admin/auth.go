package admin

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a request was refused.
const (
	noToken    = "no_token"
	wrongToken = "wrong_token"
	lockedOut  = "locked_out"
	wrongHost  = "wrong_host"
)

// newRefusedCounter makes the counter of refused requests, with all reasons at 0, and
// registers it; registry may be nil.
func newRefusedCounter(registry *prometheus.Registry) *prometheus.CounterVec {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "metergate_admin_refused_total",
		Help: "Requests to the admin listener that were refused, by reason: no_token, wrong_token, locked_out (a wrong token after too many others), wrong_host (the Host header names another host)."},
		[]string{"reason"})
	if registry != nil {
		registry.MustRegister(refused)
	}
	for _, reason := range []string{noToken, wrongToken, lockedOut, wrongHost} {
		refused.WithLabelValues(reason)
	}
	return refused
}

// requireToken lets requests with the admin token through, and refuses all others.
func (h *handler) requireToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		want := ""
		if h.Gateway != nil {
			want = h.Gateway.AdminToken()
		}
		if want == "" {
			writeProblem(w, http.StatusForbidden, "The admin API is off: admin.token is not set.", nil)
			return
		}
		scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || got == "" {
			h.writeUnauthorized(w, noToken)
			return
		}
		if isSameToken(got, want) {
			next(w, r)
			return
		}
		wait := h.wrongTokens.add(r.RemoteAddr)
		if wait <= 0 {
			h.writeUnauthorized(w, wrongToken)
			return
		}
		h.refused.WithLabelValues(lockedOut).Inc()
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		writeProblem(w, http.StatusTooManyRequests, "The token is wrong, and too many wrong tokens were sent before. The right token is accepted at any time.", nil)
	}
}

func (h *handler) writeUnauthorized(w http.ResponseWriter, reason string) {
	h.refused.WithLabelValues(reason).Inc()
	w.Header().Set("WWW-Authenticate", `Bearer realm="metergate admin"`)
	writeProblem(w, http.StatusUnauthorized, "The admin API needs its token: send it as Authorization: Bearer <admin.token>.", nil)
}
