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
	readOnly   = "read_only"
)

// newRefusedCounter makes the counter of refused requests, with all reasons at 0, and
// registers it; registry may be nil.
func newRefusedCounter(registry *prometheus.Registry) *prometheus.CounterVec {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "metergate_admin_refused_total",
		Help: "Requests to the admin listener that were refused, by reason: no_token, wrong_token, locked_out (a wrong token after too many others), wrong_host (the Host header names another host), read_only (the viewer token for a change)."},
		[]string{"reason"})
	if registry != nil {
		registry.MustRegister(refused)
	}
	for _, reason := range []string{noToken, wrongToken, lockedOut, wrongHost, readOnly} {
		refused.WithLabelValues(reason)
	}
	return refused
}

// A role is what somebody may do with the admin listener.
type role int

// The zero role is no decision: nobody may.
const (
	_             role = iota
	anyone             // may do it without a token
	viewer             // may read, with admin.viewer_token
	administrator      // may do everything, with admin.token
)

// String returns the name that clients read.
func (r role) String() string {
	if r == administrator {
		return "admin"
	}
	return "viewer"
}

// Tokens are those that the admin API accepts.
type Tokens struct {
	Admin  string // empty: the API answers 403
	Viewer string // for what reads; empty: none is accepted
}

// roleOf returns the role that a token has; 0: none. It compares with both tokens, whichever it is.
func (t Tokens) roleOf(token string) role {
	isAdmin, isViewer := isSameToken(token, t.Admin), isSameToken(token, t.Viewer)
	switch {
	case token == "":
		return 0
	case isAdmin:
		return administrator
	case isViewer:
		return viewer
	}
	return 0
}

// bearerToken returns the token of a request; empty: it has none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// tokens are those in force.
func (h *handler) tokens() Tokens {
	if h.Gateway == nil {
		return Tokens{}
	}
	return h.Gateway.Tokens()
}

// requireRole lets requests through whose token has the least role or a higher one, and refuses all
// others.
func (h *handler) requireRole(least role, next http.HandlerFunc) http.HandlerFunc {
	if least == anyone {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) {
		tokens, token := h.tokens(), bearerToken(r)
		if tokens.Admin == "" {
			writeProblem(w, http.StatusForbidden, "The admin API is off: admin.token is not set.", nil)
			return
		}
		if token == "" {
			h.writeUnauthorized(w, noToken)
			return
		}
		got := tokens.roleOf(token)
		switch {
		case got == 0:
			h.writeWrongToken(w, r)
		case least == 0 || got < least:
			h.refused.WithLabelValues(readOnly).Inc()
			writeProblemFor(w, http.StatusForbidden, readOnly, "The token is admin.viewer_token, which can only read. This needs admin.token.", nil)
		default:
			next(w, r)
		}
	}
}

// requireRoleToChange lets viewers read, and leaves changes to administrators.
func (h *handler) requireRoleToChange(next http.HandlerFunc) http.HandlerFunc {
	read, change := h.requireRole(viewer, next), h.requireRole(administrator, next)
	return func(w http.ResponseWriter, r *http.Request) {
		if isRead(r.Method) {
			read(w, r)
			return
		}
		change(w, r)
	}
}

// isRead reports whether a method of a user's resource changes nothing.
func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// writeWrongToken refuses a token that is not one of the gateway's, and slows down whoever guesses.
func (h *handler) writeWrongToken(w http.ResponseWriter, r *http.Request) {
	wait := h.wrongTokens.add(r.RemoteAddr)
	if wait <= 0 {
		h.writeUnauthorized(w, wrongToken)
		return
	}
	h.refused.WithLabelValues(lockedOut).Inc()
	w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	writeProblem(w, http.StatusTooManyRequests, "The token is wrong, and too many wrong tokens were sent before. The right token is accepted at any time.", nil)
}

func (h *handler) writeUnauthorized(w http.ResponseWriter, reason string) {
	h.refused.WithLabelValues(reason).Inc()
	w.Header().Set("WWW-Authenticate", `Bearer realm="metergate admin"`)
	writeProblem(w, http.StatusUnauthorized, "The admin API needs its token: send it as Authorization: Bearer <admin.token>.", nil)
}
