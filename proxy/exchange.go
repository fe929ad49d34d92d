package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"metergate/proxy/credential"
	"metergate/proxy/tracing"
	"metergate/proxy/trust"
	"metergate/proxy/urlpath"
	"metergate/quota"
)

// An exchange is one request and its response. It holds what several steps need; what
// only one of them needs is in a type of that step's own.
type exchange struct {
	g      *Gateway
	w      *responseWriter
	in     *http.Request
	id     string // X-Request-Id
	origin trust.Origin

	route *route              // nil until it is found
	user  credential.Identity // zero where no token is needed
	// account is the user's in the store, see quota.MemberAccount; empty where no token is needed.
	account string
	plans   quota.PlanChoice // the plans that may apply to the user; zero where no token is needed
	// plan applies to the user, as far as is known: until the store has been asked it is
	// the claimed one. nil where no token is needed.
	plan *quota.Plan

	place place
	// reservation is valid, and has to be settled, while reserved is true. While restHeld is, a part
	// of it has. unanswered: the store may still get a call about it.
	reservation quota.Reservation
	reserved    bool
	restHeld    bool
	unanswered  bool
	running     bool          // the reservation has a place of the plan's ConcurrencyLimit
	forwarding  *forwarding   // nil until the request is forwarded
	span        *tracing.Span // nil: nothing is traced
	record      record
}

func (g *Gateway) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{g: g, in: r, origin: g.proxies.OriginOf(r)}
	if x.id = x.origin.RequestID(r); x.id == "" {
		x.id = quota.NewID()
	}
	if g.tracer != nil {
		x.startSpan()
	}
	x.w = &responseWriter{ResponseWriter: w, x: x}
	x.w.clearWriteDeadline() // the server's WriteTimeout is only for its own answers
	return x
}

// ServeHTTP serves one request. It wraps the policy, which is serve, with what every
// request gets: a request id, the metrics and the access log, and CORS.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := g.newExchange(w, r)
	start := time.Now()
	g.metrics.inFlight.Inc()
	defer func() {
		if v := recover(); v != nil {
			// net/http would log it where few people look. ErrAbortHandler is not a defect:
			// it makes net/http cut the connection silently.
			if v != http.ErrAbortHandler {
				g.panicked.Log("request_id", x.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
			x.w.flushAborted()
			defer panic(http.ErrAbortHandler)
		}
		lingers := x.record.completed && !x.mayHaveUpgraded() && x.mustLinger()
		if !lingers {
			g.metrics.inFlight.Dec()
			x.place.leave()
		}
		duration := time.Since(start)
		x.recordMetrics(duration)
		x.leavePlace() // does not block; the client may have its next request ready
		if x.record.completed && !x.mayHaveUpgraded() {
			x.w.flushShortResponse()
		}
		x.endReadAhead()
		g.accessLog.write(x, duration)
		if x.span != nil {
			x.endSpan()
		}
		if lingers {
			x.linger()
			g.metrics.inFlight.Dec()
			x.place.leave()
		}
		x.w.limitFinalIO()
	}()
	x.w.Header().Set(trust.HeaderRequestID, x.id)
	if hasAmbiguousFraming(r) {
		x.w.Header().Set("Connection", "close")
	}

	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if g.cors != nil {
		if preflight {
			x.skipBody()
			x.record.err = g.originFault(r)
		}
		// Sets the headers of the response; a preflight is answered with them alone.
		g.cors.HandlerFunc(x.w, r)
		if preflight {
			x.record.status, x.record.completed = http.StatusNoContent, true
			return
		}
	}
	if err := x.serve(); err != nil {
		x.fail(err)
		if preflight {
			x.record.err = fmt.Errorf("%w; %w", err, g.originFault(r))
		}
	}
	x.record.completed = true
}

// serve is the policy: what happens to a request, in this order. An error it returns
// has not been answered yet.
func (x *exchange) serve() (err error) {
	if err := checkFraming(x.in); err != nil {
		return err
	}
	if err := x.g.router.checkMethod(x.in.Method); err != nil {
		return err
	}
	if err := urlpath.CheckHost(x.in); err != nil {
		return err
	}
	if err := urlpath.CanonicalizeRequest(x.in); err != nil {
		return err
	}
	if x.route, err = x.g.router.find(x.in); err != nil {
		x.logNearMatch(err)
		return err
	}
	x.protectQueryToken()
	if err := x.takePlace(); err != nil {
		return err
	}
	if !x.route.Public {
		if err := x.authenticate(); err != nil {
			return err
		}
		if err := x.takeUserPlace(); err != nil {
			return err
		}
	}
	if x.route.answer != nil {
		x.skipBody()
		x.route.answer(x)
		return nil
	}
	upgrade, err := x.checkForwardable()
	if err != nil {
		return err
	}
	switch {
	case x.route.Endpoint != "":
		if err := x.reserve(); err != nil {
			return err
		}
		x.forwardReserved(upgrade)
		return nil
	case x.route.PlanHeader != "":
		x.lookUpPlan()
	}
	x.forward(upgrade)
	return nil
}

// forwardReserved forwards a request with a reservation, which is settled once the upstream's status is
// known, before the client sees it. The defers are for a forward that panics before it has settled the
// reservation, or the rest of it. In serve, whose returns are many, they would be slower.
func (x *exchange) forwardReserved(upgrade bool) {
	defer x.release(releasedOther)
	defer x.commitRest()
	x.forward(upgrade)
}

// logNearMatch tells the operator of the first near match of each route. The access log has
// all of them.
func (x *exchange) logNearMatch(err error) {
	var near *nearError
	if errors.As(err, &near) && !near.evaded.nearLogged.Swap(true) {
		x.g.log.Warn("a request was refused because the upstream may take its path for that of another route, which demands more; if the upstream tells such paths apart, set exact_paths: true on the route that matches",
			"method", truncate(x.in.Method, maxLoggedMethod), "path", truncate(x.in.URL.EscapedPath(), maxLogged),
			"matches", near.route.Pattern, "nearly", near.evaded.Pattern)
	}
}

// authenticate finds out who the user is. Errors: those of identify.
func (x *exchange) authenticate() error {
	defer stopwatch(&x.record.auth)()
	span := x.span.Start("authenticate")
	defer span.End()
	user, err := x.g.identify(x.in, x.route)
	if user.Issuer != "" {
		x.g.metrics.recordToken(user.Issuer, err)
	}
	if err != nil {
		x.user.Issuer = user.Issuer
		describeRefusal(span, err)
		return err
	}
	x.setUser(user)
	return nil
}

// protectQueryToken keeps a token in the query out of caches and of the Referer of what the answer
// links to.
func (x *exchange) protectQueryToken() {
	if x.route.takesQueryToken() && x.g.sources.HasParameter(x.in.URL.RawQuery) {
		x.w.Header().Set("Cache-Control", "no-store")
		x.w.Header().Set("Referrer-Policy", "no-referrer")
	}
}

// Why a credential is refused that is not the verifier's to judge.
var (
	errNoTokens   = credential.Invalid("only API keys are accepted here, and this is none")
	errBadKey     = credential.Invalid("the API key is not known")
	errKeyExpired = credential.Invalid("the API key has expired")
)

// identify finds out who sent a request on a route. With an error, only the Issuer may be known.
// Errors are or wrap a *credential.Error or a *credential.CrossSiteError, or are those of the
// verifier.
func (g *Gateway) identify(r *http.Request, rt *route) (credential.Identity, error) {
	found, err := g.sources.Find(r, rt.takesQueryToken())
	if err == nil && found.Place == credential.InCookie && mayHarm(r, rt) {
		err = g.sources.CheckOrigin(r.Header)
	}
	switch {
	case err != nil:
		return credential.Identity{}, err
	case found.IsKey:
		return g.identifyKey(found.Text)
	case g.verifier == nil:
		return credential.Identity{}, errNoTokens
	}
	return g.verifier.Verify(r.Context(), found.Text)
}

// identifyKey finds out who an API key is for.
func (g *Gateway) identifyKey(key string) (credential.Identity, error) {
	k := g.apiKeys.Find(key)
	switch {
	case k == nil:
		return credential.Identity{}, errBadKey
	case !k.Expires.IsZero() && !time.Now().Before(k.Expires):
		return credential.Identity{}, fmt.Errorf("%w: %s, on %s", errKeyExpired, k.ID, k.ExpiryText())
	}
	return credential.Identity{User: k.User, Org: k.Org, Plan: k.Plan, Expires: k.Expires, APIKey: k.ID}, nil
}

// mayHarm reports whether a request could do harm if another site made a browser send it: it may
// change something, or it opens a stream.
func mayHarm(r *http.Request, rt *route) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return rt.stream || rt.Upgrade && len(r.Header["Upgrade"]) > 0
	}
	return true
}

// setUser takes note of who sends the request.
func (x *exchange) setUser(user credential.Identity) {
	x.user, x.account, x.plans = user, quota.MemberAccount(user.Org, user.User), x.g.PlansFor(user.Plan)
	if user.Org != "" {
		x.plans.Scope = quota.MemberScope
	}
	// A key says nothing about the anchor, so that the one of the user's tokens stays.
	if x.g.keepsTerms && (user.APIKey == "" || x.plans.Claimed.Anchor() != quota.ClaimAnchor) {
		x.plans.Anchor = x.claimedAnchor()
		x.plans.NoAnchor = x.plans.Anchor == noAnchor
	}
	x.plan = x.plans.Claimed
}

// noAnchor is that of a token without one.
var noAnchor = new(quota.Anchor)

// claimedAnchor returns the anchor that the user's token claims.
func (x *exchange) claimedAnchor() *quota.Anchor {
	if x.user.Anchor == "" {
		return noAnchor
	}
	a, err := quota.ParseAnchor(x.user.Anchor, x.g.location)
	if err != nil {
		x.g.badAnchor.Log("request_id", x.id, "error", err)
		return noAnchor
	}
	return &a
}

// watchUsage has the store send to own whenever the user's numbers may have changed, and to shared
// whenever those may have that the members of their organisation share, until stop is called.
func (x *exchange) watchUsage(own, shared chan<- struct{}) (stop func()) {
	stopOwn := x.g.store.Watch(x.account, own)
	if x.user.Org == "" {
		return stopOwn
	}
	stopShared := x.g.store.Watch(quota.PoolAccount(x.user.Org), shared)
	return func() { stopOwn(); stopShared() }
}

// unknownPlan returns the plan that the token names if the configuration does not have it;
// empty: it does, or the token names none.
func (x *exchange) unknownPlan() string {
	if x.user.UnknownPlan != "" {
		return x.user.UnknownPlan
	}
	if x.user.Plan == "" || x.g.plans[x.user.Plan] != nil {
		return ""
	}
	return x.user.Plan
}

// lookUpPlan asks the store for the user's plan. It is for a request that is not
// metered and whose upstream is told the plan: an administrator may have chosen another
// one than the token claims. If the store does not answer, the token's plan stays.
func (x *exchange) lookUpPlan() {
	if s, err := x.g.store.Read(x.in.Context(), x.account, x.plans); err == nil {
		x.plan = s.Plan
	}
}

// mayHaveUpgraded reports whether client and upstream may have switched protocols, so
// that the connection may no longer be net/http's.
func (x *exchange) mayHaveUpgraded() bool { return x.forwarding != nil && x.forwarding.upgrade }

// settleContext outlives the client: whether it is still there does not matter.
func (x *exchange) settleContext() context.Context { return context.WithoutCancel(x.in.Context()) }
