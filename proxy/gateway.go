package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"time"

	"github.com/rs/cors"

	"metergate/proxy/jwtauth"
	"metergate/proxy/urlpath"
	"metergate/quota"
)

// Options are what a Gateway is made of. All are needed but those that say what
// their zero value means.
type Options struct {
	Store    Store
	Verifier *jwtauth.Verifier
	// Plans by name; DefaultPlan, one of them, is for tokens with no plan or with
	// an unknown one.
	Plans       map[string]*quota.Plan
	DefaultPlan string
	Routes      []Route
	// TrustedProxies are the networks of the operator's own proxies, whose word on
	// where a request comes from is believed; nil: nobody's is.
	TrustedProxies []netip.Prefix
	// MaxInFlight bounds the requests that are served at once, MaxUserInFlight those of
	// one user; 0: 10,000 in all, and no bound for a user. Those of Public routes may be a
	// quarter of them, rounded up. Streams of usage have bounds of their own.
	MaxInFlight, MaxUserInFlight int
	// InFlight counts them; nil: a count of its own.
	InFlight *InFlight
	// UpgradeURL is sent with a 429; empty: it is left out.
	UpgradeURL string
	// CORS answers browsers on other origins; nil: it is off.
	CORS *CORS
	// Streams are the open streams of usage; nil: a set of their own.
	Streams *Streams
	Metrics *Metrics
	Log     *slog.Logger
	// LogUser says how the access log names users; zero: by their id.
	LogUser LogUser
	// QuietSuccesses is the share of the requests answered 2xx that get no line in the
	// access log, 0 to 1; 0: each gets one. What would have been blocked always does.
	QuietSuccesses float64
}

// CORS says which other origins may call the gateway from a browser.
type CORS struct {
	// AllowedOrigins are like "https://app.example.com", or "*" for any.
	AllowedOrigins []string
	// AllowCredentials allows cookies; not with "*".
	AllowCredentials bool
}

// A Gateway is the public handler. It does not change: to reload is to make
// another one on the same Store.
type Gateway struct {
	store       Store
	verifier    *jwtauth.Verifier
	plans       map[string]*quota.Plan
	defaultPlan *quota.Plan
	router      *router
	proxies     trustedProxies
	upgradeURL  string
	cors        *cors.Cors // nil: off
	streams     *Streams
	untrusted   untrustedFields
	metrics     *Metrics
	log         *slog.Logger
	errorLog    *log.Logger

	inFlight                     *InFlight
	maxInFlight, maxUserInFlight int
	// stallTimeout and lingerTimeout; tests have smaller ones.
	stall, linger time.Duration

	logUser        LogUser
	quietSuccesses float64
}

// New makes a Gateway. Errors: an unknown default plan, routes that conflict or
// that are metered without a token, CORS for any origin with credentials.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		store:       measured{o.Store, o.Metrics},
		verifier:    o.Verifier,
		plans:       o.Plans,
		defaultPlan: o.Plans[o.DefaultPlan],
		proxies:     o.TrustedProxies,
		upgradeURL:  o.UpgradeURL,
		streams:     o.Streams,
		untrusted:   newUntrustedFields(o.Routes),
		metrics:     o.Metrics,
		log:         o.Log,
		errorLog:    slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		stall:       stallTimeout,
		linger:      lingerTimeout,
	}
	if g.streams == nil {
		g.streams = NewStreams()
	}
	if g.inFlight = o.InFlight; g.inFlight == nil {
		g.inFlight = NewInFlight()
	}
	g.logUser, g.quietSuccesses = o.LogUser, o.QuietSuccesses
	g.maxInFlight, g.maxUserInFlight = cmp.Or(o.MaxInFlight, 10_000), o.MaxUserInFlight
	if g.defaultPlan == nil {
		return nil, fmt.Errorf("default plan %q is not defined", o.DefaultPlan)
	}
	routes := ownRoutes()
	for _, r := range o.Routes {
		routes = append(routes, &route{Route: r})
	}
	var err error
	if g.router, err = newRouter(routes); err != nil {
		return nil, err
	}
	if c := o.CORS; c != nil {
		if c.AllowCredentials && slices.Contains(c.AllowedOrigins, "*") {
			return nil, errors.New("cors: any origin (*) with credentials would let every site act for its visitors")
		}
		g.cors = cors.New(cors.Options{
			AllowedOrigins:   c.AllowedOrigins,
			AllowCredentials: c.AllowCredentials,
			AllowedMethods:   []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
			AllowedHeaders:   []string{"*"},
			ExposedHeaders:   exposedFields,
			MaxAge:           600,
		})
	}
	return g, nil
}

// An exchange is one request and its response.
type exchange struct {
	g  *Gateway
	w  *writer
	in *http.Request
	id string // X-Request-Id
	// origin is where the request comes from.
	origin origin
	// entered, enteredPublic, enteredUser: the request is counted in g.inFlight.
	entered, enteredPublic, enteredUser bool

	route *route           // nil until found
	user  jwtauth.Identity // zero where no token is needed
	terms quota.PlanChoice // the user's; zero where no token is needed
	// plan is the one that applies to the user, as far as is known: the claimed one
	// until the store was asked; nil where no token is needed.
	plan *quota.Plan
	// reservation is what forward has to settle; nil: nothing, or nothing more. It points
	// to held.
	reservation *quota.Reservation
	held        quota.Reservation

	upgrade bool // client and route agree to switch protocols
	cutoff  *cutoff
	own     http.Header  // the gateway's own fields of the response
	body    *requestBody // nil when there is none

	// The rest is for metrics and log.
	status  int    // of the response; 0: there was none
	bytes   int64  // of its body, as far as they were written; of HEAD's, too
	err     error  // that was answered; nil: none
	outcome string // of the reserve; empty: none was made
	// wouldBlock names what would have refused the request if it were not observed.
	wouldBlock []string
	told       *quota.Snapshot // what the client was told of his usage; nil: nothing
	target     *url.URL        // that answered; nil: none
	asked      time.Time       // when the upstream was asked
	took       phases
	ended      bool // and not by a panic, which is how net/http and ReverseProxy break off
}

func (g *Gateway) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{g: g, in: r, origin: g.proxies.originOf(r)}
	x.id = x.origin.requestID(r)
	x.w = &writer{w, x}
	x.w.end() // the server's WriteTimeout is for its own answers
	return x
}

// ServeHTTP serves one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := g.newExchange(w, r)
	start := time.Now()
	g.metrics.inFlight.Inc()
	defer func() {
		if v := recover(); v != nil {
			// net/http would write it where few look. ErrAbortHandler is no fault, and has
			// the connection cut without a word.
			if v != http.ErrAbortHandler {
				g.log.Error("the gateway panicked, which is a defect of it; please report it",
					"request_id", x.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
			defer panic(http.ErrAbortHandler)
		}
		g.metrics.inFlight.Dec()
		x.leave()
		duration := time.Since(start)
		x.observe(duration)
		if x.ended && !x.upgrade {
			x.w.hurry()
		}
		x.logLine(duration)
		x.w.finish()
	}()
	x.w.Header().Set(fieldRequestID, x.id)
	if x.framingInDoubt() {
		x.w.Header().Set("Connection", "close")
	}

	if g.cors != nil {
		preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
		if preflight {
			x.leaveBody()
		}
		// Sets the fields of the response; a preflight is answered with them alone.
		g.cors.HandlerFunc(x.w, r)
		if preflight {
			x.status, x.ended = http.StatusNoContent, true
			return
		}
	}
	if err := x.serve(); err != nil {
		x.fail(err)
	}
	x.ended = true
}

// serve is the policy: what happens to a request, in this order. An error has not
// been answered yet.
func (x *exchange) serve() (err error) {
	if err := checkFraming(x.in); err != nil {
		return err
	}
	if err := checkHost(x.in); err != nil {
		return err
	}
	if err := urlpath.CanonicalizeRequest(x.in); err != nil {
		return err
	}
	if x.route, err = x.g.router.find(x.in); err != nil {
		return err
	}
	if !x.route.apart {
		if err := x.enter(); err != nil {
			return err
		}
	}
	if !x.route.Public {
		if err := x.authenticate(); err != nil {
			return err
		}
		if !x.route.apart {
			if err := x.enterUser(); err != nil {
				return err
			}
		}
	}
	if x.route.own != nil {
		x.leaveBody()
		x.route.own(x)
		return nil
	}
	if err := x.checkForwardable(); err != nil {
		return err
	}
	switch {
	case x.route.Endpoint != "":
		if err := x.reserve(); err != nil {
			return err
		}
	case x.route.PlanField != "":
		x.lookUpPlan()
	}
	x.forward()
	return nil
}

// lookUpPlan is for a request that is not metered and whose upstream is told the plan:
// an administrator may have chosen another one than the token's. When the store cannot
// say, it is the token's.
func (x *exchange) lookUpPlan() {
	if s, err := x.g.store.Read(x.in.Context(), x.user.User, x.terms); err == nil {
		x.plan = s.Plan
	}
}

// authenticate finds out who the user is. Errors: those of the verifier.
func (x *exchange) authenticate() (err error) {
	defer took(&x.took.auth)()
	if x.user, err = x.g.verifier.Verify(x.in); err == nil {
		x.terms = x.g.termsOf(x.user)
		x.plan = x.terms.Claimed
	}
	return err
}

// termsOf are the plan of the token's claim, or the default, and all that an
// administrator can choose instead.
func (g *Gateway) termsOf(user jwtauth.Identity) quota.PlanChoice { return g.Terms(user.Plan) }

// Terms are those of a user whose token claims a plan. Without one, or with one that the
// configuration does not have, it is the default.
func (g *Gateway) Terms(claim string) quota.PlanChoice {
	t := quota.PlanChoice{Claimed: g.plans[claim], ByName: g.plans}
	if t.Claimed == nil {
		t.Claimed = g.defaultPlan
	}
	return t
}
