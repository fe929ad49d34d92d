package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"metergate/proxy/jwtauth"
	"metergate/proxy/upstream"
	"metergate/proxy/urlpath"
	"metergate/quota"
)

// Problem types of the IANA registry, defined in
// draft-ietf-httpapi-ratelimit-headers-11 section 4.
const (
	typeQuotaExceeded   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	typeAbnormalUsage   = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
	typeReducedCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// statusClientGone is what nginx calls 499: nobody is there to read the answer.
const statusClientGone = 499

var errClientGone = errors.New("the client is gone")

// errQuota: a limit is reached.
type errQuota struct {
	endpoint string
	user     string
	snapshot *quota.Snapshot
}

func (*errQuota) Error() string { return "a limit is reached" }

// errAttempts: the user has no attempt left, until wait is over.
type errAttempts struct {
	endpoint string
	user     string
	wait     time.Duration
	snapshot *quota.Snapshot
}

func (*errAttempts) Error() string { return "no attempt is left" }

// errStore: the store did not answer a call that the request cannot do without.
type errStore struct{ err error }

func (e *errStore) Error() string { return "the store did not answer: " + e.err.Error() }
func (e *errStore) Unwrap() error { return e.err }

// errUpstream: no response could be had from the upstream.
type errUpstream struct{ err error }

func (e *errUpstream) Error() string { return "the upstream failed: " + e.err.Error() }
func (e *errUpstream) Unwrap() error { return e.err }

// A problem is the body of an error that the gateway makes itself (RFC 9457).
type problem struct {
	Type     string       `json:"type"`
	Title    string       `json:"title"`
	Status   int          `json:"status"`
	Detail   string       `json:"detail,omitempty"`
	Violated []string     `json:"violated-policies,omitempty"`
	Endpoint string       `json:"endpoint,omitempty"`
	Usage    *quota.Usage `json:"usage,omitempty"`
	Upgrade  string       `json:"upgrade_url,omitempty"`
}

// fail answers with an error. It is the one place where errors become responses;
// what the client reads says nothing of the gateway's inside, the log does.
func (x *exchange) fail(err error) {
	x.err = err
	h := x.w.Header()
	p := problem{Type: "about:blank"}
	var (
		notAllowed errMethod
		token      *jwtauth.Error
		exceeded   *errQuota
		throttled  *errAttempts
		noStore    *errStore
		noUpstream *errUpstream
	)
	switch {
	case errors.Is(err, urlpath.ErrNotCanonical), errors.Is(err, errHost), errors.Is(err, errFraming):
		p.Status, p.Detail = http.StatusBadRequest, err.Error()
	case errors.Is(err, errUpgrade):
		p.Status, p.Detail = http.StatusBadRequest, "This route does not switch protocols; send the request without Upgrade."
	case errors.As(err, &token):
		p.Status, p.Detail = http.StatusUnauthorized, token.Error()
		h.Set("WWW-Authenticate", token.Challenge())
	case errors.Is(err, jwtauth.ErrNoKeys):
		p.Type, p.Status, p.Detail = typeReducedCapacity, http.StatusServiceUnavailable, "Tokens cannot be verified at the moment. Try again shortly."
		h.Set("Retry-After", "1")
	case errors.Is(err, errNoRoute):
		p.Status, p.Detail = http.StatusNotFound, "No route leads here."
	case errors.As(err, &notAllowed):
		p.Status, p.Detail = http.StatusMethodNotAllowed, "This path is served for "+notAllowed.allow+"."
		h.Set("Allow", notAllowed.allow)
	case errors.Is(err, errBodyTooLarge):
		p.Status = http.StatusRequestEntityTooLarge
		p.Detail = "The body may have " + strconv.FormatInt(x.route.MaxBody, 10) + " bytes at the most."
	case errors.As(err, &exceeded):
		x.refuse(&p, exceeded)
	case errors.As(err, &throttled):
		x.throttle(&p, throttled)
	case errors.Is(err, errBody):
		p.Status, p.Detail = http.StatusBadRequest, "This resource takes no body."
	case errors.Is(err, errBodyBroken):
		p.Status, p.Detail = http.StatusBadRequest, "The body is malformed, or broke off. Nothing was counted."
	case errors.Is(err, errUserStreams):
		p.Status, p.Detail = http.StatusTooManyRequests, "You have too many streams open. Close one, or ask GET /usage."
		h.Set("Retry-After", retryStreams)
	case errors.Is(err, errStreams):
		p.Type, p.Status, p.Detail = typeReducedCapacity, http.StatusServiceUnavailable, "The gateway has too many streams open. Ask GET /usage meanwhile."
		h.Set("Retry-After", retryStreams)
	case errors.Is(err, errUserInFlight):
		p.Status = http.StatusTooManyRequests
		p.Detail = "You have " + strconv.Itoa(x.g.maxUserInFlight) + " requests running, as many as may run at once. Send this one again when one of them has ended; nothing was counted."
		h.Set("Retry-After", retryInFlight)
	case errors.Is(err, errTotalInFlight):
		p.Type, p.Status, p.Detail = typeReducedCapacity, http.StatusServiceUnavailable, "The gateway has as many requests running as it can. Try again shortly."
		h.Set("Retry-After", retryInFlight)
	case errors.Is(err, quota.ErrOverloaded):
		p.Type, p.Status, p.Detail = typeReducedCapacity, http.StatusServiceUnavailable, "The gateway is overloaded. Try again shortly."
		h.Set("Retry-After", "1")
	case errors.As(err, &noStore):
		p.Type, p.Status, p.Detail = typeReducedCapacity, http.StatusServiceUnavailable, "Usage cannot be checked at the moment. Try again shortly."
		h.Set("Retry-After", "1")
	case errors.Is(err, upstream.ErrNoTarget):
		p.Type, p.Status, p.Detail = typeReducedCapacity, http.StatusServiceUnavailable, "The service behind the gateway is not available. Nothing was counted."
		h.Set("Retry-After", "1")
	case errors.Is(err, errUpstreamTimeout):
		p.Status, p.Detail = http.StatusGatewayTimeout, "The service behind the gateway did not answer in time. Nothing was counted."
	case errors.Is(err, errClientGone):
		p.Status = statusClientGone
	case errors.As(err, &noUpstream):
		p.Status, p.Detail = http.StatusBadGateway, "The service behind the gateway did not answer. Nothing was counted."
	default:
		p.Status = http.StatusInternalServerError
	}
	x.writeProblem(p)
}

// refuse fills in a 429.
func (x *exchange) refuse(p *problem, e *errQuota) {
	refusal, plan := e.snapshot.Refusal(e.endpoint), e.snapshot.Plan
	usage := e.snapshot.Usage(e.user)
	p.Type, p.Status, p.Title = typeQuotaExceeded, http.StatusTooManyRequests, "Quota exceeded"
	p.Endpoint, p.Usage, p.Upgrade = e.endpoint, &usage, x.g.upgradeURL
	for _, i := range refusal.Violated {
		p.Violated = append(p.Violated, plan.Limits()[i].Name())
	}
	p.Detail = "The limit " + plan.Limits()[refusal.Binding].Name() + " of the plan " + plan.Name() + " is reached."
	x.tellUsage(x.w.Header(), e.snapshot, refusal.Binding)
	x.w.Header().Set("Retry-After", strconv.FormatInt(refusal.RetryAfter, 10))
}

// throttle fills in a 429 for too many attempts. The limits have nothing to do with it,
// nor has an upgrade.
func (x *exchange) throttle(p *problem, e *errAttempts) {
	plan, usage := e.snapshot.Plan, e.snapshot.Usage(e.user)
	wait := strconv.FormatInt(int64((e.wait+time.Second-1)/time.Second), 10)
	p.Type, p.Status, p.Title = typeAbnormalUsage, http.StatusTooManyRequests, "Too many attempts"
	p.Endpoint, p.Usage = e.endpoint, &usage
	p.Detail = "The plan " + plan.Name() + " lets you try " + plan.AttemptLimit().String() +
		", counted or not. Nothing was counted. Try again in " + wait + " s."
	setUsageFields(x.w.Header(), e.endpoint, e.snapshot, -1)
	x.w.Header().Set("Retry-After", wait)
}

func (x *exchange) writeProblem(p problem) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	x.writeJSON(p.Status, "application/problem+json", p)
}

func (x *exchange) writeJSON(status int, contentType string, v any) {
	body := marshal(v)
	x.leaveBody()
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	secure(h)
	x.status = status
	x.w.WriteHeader(status)
	x.w.Write(append(body, '\n'))
}

// secure says of an answer that the gateway makes itself, and never of an upstream's,
// that it is one user's data and no page: nobody keeps it, takes it for something else
// or shows it in a frame, and nothing in it runs. What front ends load is package
// browser's.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
}
