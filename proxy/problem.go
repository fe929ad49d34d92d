package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"metergate/proxy/credential"
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

// statusClientGone is the 499 of nginx: nobody is there to read the answer.
const statusClientGone = 499

var errClientGone = errors.New("the client is gone")

// A limitError says that a limit is reached.
type limitError struct {
	endpoint string
	account  string
	units    int64 // that the request may cost
	snapshot *quota.Snapshot
}

func (*limitError) Error() string { return "a limit is reached" }

// A concurrencyError says that the user has as many requests running as their plan allows.
type concurrencyError struct {
	endpoint string
	account  string
	snapshot *quota.Snapshot
}

func (*concurrencyError) Error() string { return "the user has too many requests running" }

// An attemptsError says that the user has no attempt left until wait is over.
type attemptsError struct {
	endpoint string
	account  string
	wait     time.Duration
	snapshot *quota.Snapshot
}

func (*attemptsError) Error() string { return "no attempt is left" }

// A storeError says that the store did not answer a call that the request depends on.
type storeError struct{ err error }

func (e *storeError) Error() string { return "the store did not answer: " + e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// An upstreamError says that the upstream sent no response.
type upstreamError struct{ err error }

func (e *upstreamError) Error() string { return "the upstream failed: " + e.err.Error() }
func (e *upstreamError) Unwrap() error { return e.err }

// A problem is the body of an error that the gateway makes itself (RFC 9457).
type problem struct {
	Type     string       `json:"type"`
	Title    string       `json:"title"`
	Status   int          `json:"status"`
	Detail   string       `json:"detail,omitempty"`
	Violated []string     `json:"violated-policies,omitempty"`
	Endpoint string       `json:"endpoint,omitempty"`
	Plan     string       `json:"plan,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Usage    *quota.Usage `json:"usage,omitempty"`
	Upgrade  string       `json:"upgrade_url,omitempty"`
	Error    *sdkError    `json:"error,omitempty"`
}

// An sdkError is an error as the SDKs of OpenAI and Anthropic show it to people. Without it, that
// of OpenAI says "403 status code (no body)".
type sdkError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code"`
}

// sdkError returns what the SDKs show of p. The types are those of the two providers. The code is
// the problem's reason or, as "too_many_attempts", its title.
func (p *problem) sdkError() *sdkError {
	e := &sdkError{Message: p.Detail, Type: "api_error", Code: p.Reason}
	if e.Code == "" {
		e.Code = strings.ReplaceAll(strings.ToLower(p.Title), " ", "_")
	}
	switch {
	case p.Type == typeQuotaExceeded:
		e.Type, e.Code = "insufficient_quota", "insufficient_quota"
	case p.Status == http.StatusUnauthorized:
		e.Type = "authentication_error"
	case p.Status == http.StatusForbidden:
		e.Type = "permission_error"
	case p.Status == http.StatusTooManyRequests:
		e.Type = "rate_limit_error"
	case p.Status == http.StatusServiceUnavailable:
		e.Type = "overloaded_error"
	case p.Status < http.StatusInternalServerError:
		e.Type = "invalid_request_error"
	}
	return e
}

// reasonNotInPlan is the reason of a 403: the plan allows no such request, now or later.
const reasonNotInPlan = "not_in_plan"

// reasonCrossSite is the reason of a 403: another site may have sent the request.
const reasonCrossSite = "cross_site"

// reasonNoHistory is the reason of a 404: the configuration has no history.
const reasonNoHistory = "no_history"

// reasonConcurrency is the reason of a 429: too many requests of the user are running.
const reasonConcurrency = "concurrency"

// fail answers with an error.
func (x *exchange) fail(err error) {
	x.record.err = err
	p := x.problemOf(err)
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if x.route != nil && x.route.Endpoint != "" && p.Detail != "" {
		p.Error = p.sdkError()
	}
	x.reportCost(x.w.Header())
	x.writeJSON(p.Status, "application/problem+json", p)
}

// problemOf is the one place where errors become responses. It sets the headers that
// belong to a problem. What the client reads says nothing about the inside of the
// gateway; the log does.
func (x *exchange) problemOf(err error) problem {
	h := x.w.Header()
	var (
		badToken   *credential.Error
		crossSite  *credential.CrossSiteError
		badMethod  methodError
		noUnit     *limitError
		noAttempt  *attemptsError
		noPlace    *concurrencyError
		noStore    *storeError
		noUpstream *upstreamError
	)
	switch {
	case isMalformed(err):
		return plainProblem(http.StatusBadRequest, sentence(err.Error()))
	case errors.Is(err, errUpgradeRefused):
		return plainProblem(http.StatusBadRequest, "This path does not support protocol upgrades. Send the request without the Upgrade header.")
	case errors.Is(err, errUnexpectedBody):
		return plainProblem(http.StatusBadRequest, "Send this request without a body.")
	case errors.Is(err, errBodyIncomplete):
		return plainProblem(http.StatusBadRequest, "The request body is malformed or incomplete. The request was not counted.")
	case errors.Is(err, errNoHistory):
		p := plainProblem(http.StatusNotFound, "This gateway keeps no history. Its operator can set history.keep in the configuration.")
		p.Reason = reasonNoHistory
		return p
	case errors.As(err, &badToken):
		x.g.metrics.unauthorized.Inc()
		h.Set("WWW-Authenticate", badToken.Challenge())
		return plainProblem(http.StatusUnauthorized, sentence(badToken.Error()))
	case errors.As(err, &crossSite):
		p := plainProblem(http.StatusForbidden, "A request with this cookie must come from one of auth.cookie.origins.")
		p.Reason = reasonCrossSite
		return p
	case isNotFound(err):
		return plainProblem(http.StatusNotFound, "No route of the gateway matches this path.")
	case errors.As(err, &badMethod):
		h.Set("Allow", badMethod.allow)
		return plainProblem(http.StatusMethodNotAllowed, "This path accepts only "+joinAnd(badMethod.allow)+".")
	case errors.Is(err, errBodyTooLarge):
		x.record.err = fmt.Errorf("%w: max_body is %s", err, byteSize(x.route.MaxBody))
		if x.in.ContentLength > 0 {
			x.record.err = fmt.Errorf("%w, and the Content-Length %d", x.record.err, x.in.ContentLength)
		}
		return plainProblem(http.StatusRequestEntityTooLarge, "The request body must not be larger than "+byteSize(x.route.MaxBody)+".")
	case errors.As(err, &noUnit):
		return x.limitProblem(noUnit)
	case errors.As(err, &noPlace):
		return x.concurrencyProblem(noPlace)
	case errors.As(err, &noAttempt):
		return x.attemptsProblem(noAttempt)
	case errors.Is(err, errUserStreams):
		h.Set("Retry-After", retryStreams)
		return plainProblem(http.StatusTooManyRequests, "You have too many usage streams open. Close one, or use GET /usage instead.")
	case errors.Is(err, errUserInFlight):
		h.Set("Retry-After", retryInFlight)
		return plainProblem(http.StatusTooManyRequests, "You already have "+amount(int64(x.g.maxUserInFlight), "requests")+
			" running, and no more are allowed at once. Try again when one of them has finished. This request was not counted.")
	case errors.Is(err, errStreams):
		return capacityProblem(h, retryStreams, "The gateway has too many usage streams open. Use GET /usage instead.")
	case errors.Is(err, errTotalInFlight), errors.Is(err, upstream.ErrNoConnection):
		return capacityProblem(h, retryInFlight, "The gateway is handling as many requests as it can. Try again shortly.")
	case errors.Is(err, jwtauth.ErrNoKeys):
		return capacityProblem(h, retryShortly, "Tokens cannot be verified at the moment. Try again shortly.")
	case errors.Is(err, quota.ErrOverloaded):
		return capacityProblem(h, retryShortly, "The gateway is overloaded. Try again shortly.")
	case errors.As(err, &noStore):
		return capacityProblem(h, retryShortly, "Usage cannot be checked at the moment. Try again shortly.")
	case errors.Is(err, upstream.ErrNoTarget):
		return capacityProblem(h, retryShortly, "The service is not available at the moment. The request was not counted.")
	case errors.Is(err, errLoop): // RFC 5842 section 7.2
		return plainProblem(http.StatusLoopDetected, "The request has come back to the gateway that forwarded it. The request was not counted.")
	case errors.Is(err, errUpstreamTimeout):
		return plainProblem(http.StatusGatewayTimeout, "The service did not answer in time. The request was not counted.")
	case errors.Is(err, errClientGone):
		return plainProblem(statusClientGone, "")
	case errors.As(err, &noUpstream):
		return plainProblem(http.StatusBadGateway, "The service did not answer. The request was not counted.")
	}
	return plainProblem(http.StatusInternalServerError, "")
}

// sentence makes a sentence of the text of an error.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

// joinAnd turns "GET, HEAD, POST" into "GET, HEAD and POST".
func joinAnd(list string) string {
	if i := strings.LastIndex(list, ", "); i >= 0 {
		return list[:i] + " and " + list[i+2:]
	}
	return list
}

// byteSize writes a size as the configuration may have it: 32 MiB, 500 KB, 65 bytes.
func byteSize(n int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if n > 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// isMalformed: the error's text is meant for clients.
func isMalformed(err error) bool {
	return errors.As(err, new(daysError)) || errors.Is(err, urlpath.ErrNotCanonical) || errors.Is(err, urlpath.ErrBadHost) || errors.Is(err, errFraming)
}

func isNotFound(err error) bool {
	var near *nearError
	return errors.Is(err, errNoRoute) || errors.As(err, &near) || errors.Is(err, errUserChanged)
}

// retryShortly is the Retry-After of what is likely to be over soon, in seconds.
const retryShortly = "1"

// plainProblem is a problem that its status and detail describe.
func plainProblem(status int, detail string) problem {
	return problem{Type: "about:blank", Status: status, Detail: detail}
}

// capacityProblem is a 503: the gateway, or what it depends on, cannot serve the
// request now.
func capacityProblem(h http.Header, retryAfter, detail string) problem {
	h.Set("Retry-After", retryAfter)
	return problem{Type: typeReducedCapacity, Status: http.StatusServiceUnavailable, Detail: detail}
}

// limitProblem is the 429 of a request that a limit refuses, or the 403 if its plan allows no such
// request at all.
func (x *exchange) limitProblem(e *limitError) problem {
	s := e.snapshot
	refusal, usage := s.Refusal(e.endpoint, e.units), x.refusedUsage(s)
	if refusal.NotInPlan {
		what := "any requests"
		if !slices.ContainsFunc(refusal.Violated, func(i int) bool { return s.Plan.Limits()[i].Endpoint == "" && s.Allowance(i) == 0 }) {
			what = "any " + e.endpoint + " requests"
		}
		x.reportUsage(x.w.Header(), s, -1)
		var violated []string
		for _, i := range refusal.Violated {
			if s.Allowance(i) == 0 {
				violated = append(violated, s.Plan.Limits()[i].Name())
			}
		}
		return problem{Type: "about:blank", Violated: violated, Status: http.StatusForbidden, Reason: reasonNotInPlan, Plan: s.Plan.Name(),
			Detail: "The " + s.Plan.Name() + " plan does not include " + what + ".", Endpoint: e.endpoint, Usage: usage, Upgrade: x.g.upgradeURLOf(s.Plan)}
	}
	p := problem{Type: typeQuotaExceeded, Title: "Quota exceeded", Status: http.StatusTooManyRequests,
		Detail: limitDetail(s, refusal.Binding, e.units), Endpoint: e.endpoint, Usage: usage, Upgrade: x.g.upgradeURLOf(s.Plan)}
	for _, i := range refusal.Violated {
		p.Violated = append(p.Violated, s.Plan.Limits()[i].Name())
	}
	x.reportUsage(x.w.Header(), s, refusal.Binding)
	setRetryAfter(x.w.Header(), refusal.RetryAfter)
	return p
}

// limitDetail tells an end user that limit i keeps out their request, which may cost so many
// units. What running requests hold is not used: some of it may come back.
func limitDetail(s *quota.Snapshot, i int, units int64) string {
	l, count, allowance := s.Plan.Limits()[i], s.Limits[i], s.Allowance(i)
	unit, cost, price := "requests", int64(1), ""
	if l.Quantity == quota.Units {
		unit, cost = s.Plan.UnitName(), units
	}
	if cost > 1 {
		price = "This request may cost " + amount(cost, unit)
	}
	noun := unit
	if l.Endpoint != "" {
		noun = l.Endpoint + " " + unit
	}
	per, renewal := " per "+l.Period.String(), ""
	switch {
	case l.Period == quota.Ever && allowance == 1:
		per, renewal = "", " It does not renew."
	case l.Period == quota.Ever:
		per, renewal = "", " They do not renew."
	}
	all, onPlan := amount(allowance, noun), " on the "+s.Plan.Name()+" plan"
	switch left := allowance - count.Used; {
	case cost <= left:
		if price != "" {
			price += ". "
		}
		owner := "You have "
		if l.Shared {
			owner, onPlan = "Your organisation has ", ""
		}
		return price + owner + all + per + onPlan + ": " + amountIs(count.Used) + " used, and running requests hold " +
			strconv.FormatInt(count.Held, 10) + ". Try again when one of them has finished."
	case left > 0:
		if l.Shared {
			onPlan = " that your organisation shares"
		}
		if l.Endpoint == "" {
			all = strconv.FormatInt(allowance, 10)
		}
		return price + ", and only " + amountIs(left) + " left of the " + all + per + onPlan + "." + renewal
	case l.Shared && l.Period == quota.Ever:
		return "Your organisation has used its " + all + "." + renewal
	case l.Shared:
		return "Your organisation has used its " + all + " of this " + l.Period.String() + "."
	case l.Period == quota.Ever:
		return "You have used your " + all + "." + renewal
	}
	return "You have reached the limit of " + all + per + onPlan + "."
}

// amount is a number of things: "1 request", "2 requests", "1 Punkte".
func amount(n int64, plural string) string {
	if n == 1 && !strings.HasSuffix(plural, "ss") {
		plural = strings.TrimSuffix(plural, "s")
	}
	return strconv.FormatInt(n, 10) + " " + plural
}

// amountIs is the beginning of what is said about a number: "1 is", "2 are".
func amountIs(n int64) string {
	if n == 1 {
		return "1 is"
	}
	return strconv.FormatInt(n, 10) + " are"
}

// concurrencyProblem is the 429 of a user with too many requests running. It has nothing to do with
// what was used, so an upgrade prompt would mislead.
func (x *exchange) concurrencyProblem(e *concurrencyError) problem {
	plan, usage := e.snapshot.Plan, x.refusedUsage(e.snapshot)
	x.reportUsage(x.w.Header(), e.snapshot, -1)
	setRetryAfter(x.w.Header(), 1)
	return problem{Type: "about:blank", Status: http.StatusTooManyRequests, Reason: reasonConcurrency,
		Detail: "You already have " + amount(plan.ConcurrencyLimit().Requests, "requests") + " running, and the " + plan.Name() +
			" plan allows no more at once. Try again when one of them has finished. This request was not counted.",
		Endpoint: e.endpoint, Usage: usage}
}

// attemptsProblem is the 429 of a user who has made too many attempts. It has nothing to
// do with the plan's limits, so an upgrade would not help.
func (x *exchange) attemptsProblem(e *attemptsError) problem {
	plan, usage := e.snapshot.Plan, x.refusedUsage(e.snapshot)
	wait := int64((e.wait + time.Second - 1) / time.Second)
	setUsageHeaders(x.w.Header(), e.endpoint, e.snapshot, -1)
	setRetryAfter(x.w.Header(), wait)
	return problem{Type: typeAbnormalUsage, Title: "Too many attempts", Status: http.StatusTooManyRequests,
		Detail: "The " + plan.Name() + " plan lets you try " + plan.AttemptLimit().String() +
			", including requests that fail or are refused. This request was not counted. Try again in " + strconv.FormatInt(wait, 10) + " s.",
		Endpoint: e.endpoint, Usage: usage}
}
