package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"metergate/proxy/jsonlog"
	"metergate/proxy/jwtauth"
	"metergate/proxy/tracing"
	"metergate/proxy/urlpath"
	"metergate/quota"
)

// The access log has one line for each request, written when the request has ended.
// Attributes that would be empty are left out.
//
// Clients choose much of a line: the path, the method and, with their tokens, the user.
// slog quotes these, so that nobody can forge a line, and they are cut, so that nobody
// can fill the disk with one request. The path is the escaped one, which is ASCII. The
// query is left out, because people put tokens there.

// A record is what only the access log and the metrics need to know of a request. The
// exchange fills it in on the way.
type record struct {
	status     int             // of the response; 0: there was none
	bytes      int64           // written of its body; also counts the dropped body of a HEAD
	err        error           // that the gateway answered with, or why a preflight does not allow its request; nil: none
	decision   string          // of the reservation; empty: none was attempted
	charged    int64           // units
	wouldBlock []string        // the limits that would have refused the request if it were not observed
	usage      *quota.Snapshot // the state that the client was told; nil: none
	target     *url.URL        // of the upstream that answered, or did not; nil: none was asked
	completed  bool            // false after a panic, with which net/http and ReverseProxy abort a response

	// How long each step took; 0: there was no such step. upstream ends with the headers
	// of the final response, or with the failure to get any.
	// reserve includes waited, the time that the request waited for others of its user.
	auth, reserve, waited, upstream, settle time.Duration
}

// stopwatch is for a defer: it starts timing, and the function it returns stores how
// long that was.
func stopwatch(elapsed *time.Duration) func() {
	start := time.Now()
	return func() { *elapsed = time.Since(start) }
}

// LogUser is how the access log names users and organisations.
type LogUser int

const (
	// LogUserPlain names users by their ids.
	LogUserPlain LogUser = iota
	// LogUserHash writes the first 16 hexadecimal digits of the id's SHA-256. It is not
	// salted: whoever has an id must be able to find its lines.
	LogUserHash
	// LogUserOmit leaves users out.
	LogUserOmit
)

// NameOf returns what stands for a user or an organisation in the log; empty: nothing.
func (l LogUser) NameOf(id string) string {
	switch {
	case l == LogUserOmit || id == "":
		return ""
	case l == LogUserHash:
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:8])
	}
	return id
}

const (
	maxLogged       = 1024 // bytes of a path or an error
	maxLoggedMethod = 32   // bytes
	maxLoggedOrigin = 256  // bytes
	maxLoggedPlan   = 64   // bytes; a plan's name may have as many
)

// An accessLog writes the lines.
type accessLog struct {
	log  *slog.Logger
	user LogUser
	// quietSuccesses is the share of 2xx responses that get no line, 0 to 1.
	quietSuccesses float64
}

// write writes the line of a request that has ended.
func (l *accessLog) write(x *exchange, duration time.Duration) {
	level := slog.LevelInfo
	if x.record.isGatewayFailure() {
		level = slog.LevelWarn
	}
	if !l.log.Enabled(context.Background(), level) || l.skips(x.id, &x.record) {
		return
	}
	a := attributePool.Get().(*attributes)
	a.addRequest(x, l.user, duration)
	jsonlog.Log(l.log, level, "request", a.list)
	clear(a.list) // so that the pool does not keep what clients sent
	a.list = a.list[:0]
	attributePool.Put(a)
}

// isGatewayFailure reports whether the gateway answered 5xx itself, or did not answer.
func (r *record) isGatewayFailure() bool { return r.err != nil && r.status >= 500 || r.status == 0 }

// loggedDecision is the decision, or "overload" for a request that found no free place.
func (r *record) loggedDecision() string {
	if errors.Is(r.err, errTotalInFlight) || errors.Is(r.err, errUserInFlight) {
		return "overload"
	}
	return r.decision
}

// skips reports whether a request is one of the successes that get no line. The request
// id decides, so that a second gateway behind this one chooses the same requests, and so
// that anybody can tell afterwards.
func (l *accessLog) skips(id string, r *record) bool {
	if l.quietSuccesses <= 0 || r.status/100 != 2 || !r.completed || len(r.wouldBlock) > 0 || r.err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(id))
	return float64(binary.BigEndian.Uint64(sum[:8]))/(1<<64) < l.quietSuccesses
}

// attributes are those of one line. They are pooled, and filled in by a call that has
// returned before the line is written: on the stack above the write they would need
// more than the 8 KiB that a request has.
type attributes struct{ list []slog.Attr }

var attributePool = sync.Pool{New: func() any { return &attributes{list: make([]slog.Attr, 0, 24)} }}

func (a *attributes) addText(key, value string) {
	if value != "" {
		a.list = append(a.list, slog.String(key, value))
	}
}

func (a *attributes) addNumber(key string, value int64) {
	a.list = append(a.list, slog.Int64(key, value))
}

func (a *attributes) addMilliseconds(key string, d time.Duration) {
	if d > 0 {
		a.list = append(a.list, slog.Float64(key, float64(d.Microseconds())/1000))
	}
}

func (a *attributes) addRequest(x *exchange, user LogUser, duration time.Duration) {
	r := &x.record
	a.addText("request_id", x.id)
	if x.span == nil {
		a.addText("trace_id", tracing.TraceID(x.in.Header))
	} else {
		a.addText("trace_id", x.span.TraceID())
		if x.span.IsSampled() {
			a.addText("span_id", x.span.ID())
		}
	}
	a.addText("client", x.origin.Client)
	a.addText("method", truncate(x.in.Method, maxLoggedMethod))
	a.addText("path", truncate(x.in.URL.EscapedPath(), maxLogged))
	if x.route != nil {
		a.addText("route", x.route.Pattern)
		a.addText("endpoint", x.route.Endpoint)
	}
	a.addNumber("status", int64(r.status))
	a.addText("issuer", x.user.Issuer)
	a.addText("user", user.NameOf(x.user.User))
	a.addText("org", user.NameOf(x.user.Org))
	a.addText("api_key", x.user.APIKey)
	if r.usage != nil {
		a.addText("plan", r.usage.Plan.Name())
	} else if x.plan != nil {
		a.addText("plan", x.plan.Name())
	}
	a.addText("unknown_plan", truncate(x.unknownPlan(), maxLoggedPlan))
	a.addText("decision", r.loggedDecision())
	a.addText("would_block", strings.Join(r.wouldBlock, ","))
	if r.usage != nil {
		a.addNumber("used", r.usage.Total.Used)
		if i, limited := r.usage.Plan.Headline(); limited {
			a.addNumber("limit", r.usage.Allowance(i))
		}
	}
	if x.g.reportsCost && x.route != nil && x.route.Endpoint != "" {
		a.addNumber("cost", r.charged)
	}
	if r.upstream > 0 {
		a.addText("upstream", x.route.UpstreamName)
	}
	if t := r.target; t != nil {
		if t.Scheme == "unix" {
			a.addText("target", "unix:"+t.Path)
		} else {
			a.addText("target", t.Scheme+"://"+t.Host)
		}
	}
	sent := r.bytes
	if x.in.Method == http.MethodHead {
		sent = 0 // net/http has dropped it
	}
	a.addNumber("bytes", sent)
	if !r.completed {
		a.list = append(a.list, slog.Bool("aborted", true))
	}
	a.addMilliseconds("auth_ms", r.auth)
	a.addMilliseconds("reserve_ms", r.reserve)
	a.addMilliseconds("waited_ms", r.waited)
	a.addMilliseconds("upstream_ms", r.upstream)
	a.addMilliseconds("settle_ms", r.settle)
	a.addMilliseconds("duration_ms", duration)
	if r.err != nil {
		a.addText("error", truncate(r.err.Error(), maxLogged))
	}
}

// truncate shortens text to a number of bytes, and marks that it did.
func truncate(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return text[:bytes] + "..."
}

// The span of a request says what the access log says. Neither has a token, a query or a body.

// startSpan starts the span of the request. Calls of the store find it in their context.
func (x *exchange) startSpan() {
	x.span = x.g.tracer.StartRequest(x.in.Header, x.origin.IsTrusted())
	if x.span.IsSampled() {
		x.in = x.in.WithContext(tracing.NewContext(x.in.Context(), x.span))
	}
}

// endSpan describes the request by the semantic conventions of OpenTelemetry for HTTP servers, and ends
// its span.
func (x *exchange) endSpan() {
	defer x.span.End()
	if !x.span.IsSampled() {
		return
	}
	s, r, method := x.span, &x.record, knownMethod(x.in.Method)
	if method == "other" {
		s.Text("http.request.method_original", truncate(x.in.Method, maxLoggedMethod))
		method = "_OTHER"
	}
	s.Text("http.request.method", method)
	name := strings.Replace(method, "_OTHER", "HTTP", 1)
	if x.route != nil {
		_, _, path := urlpath.SplitPattern(x.route.Pattern)
		s.Text("http.route", path)
		name += " " + path
	}
	s.Name(name)
	scheme := "http"
	if x.in.TLS != nil {
		scheme = "https"
	}
	s.Text("url.scheme", scheme)
	s.Text("url.path", truncate(x.in.URL.EscapedPath(), maxLogged))
	s.Text("network.protocol.version", strings.TrimSuffix(strings.TrimPrefix(x.in.Proto, "HTTP/"), ".0"))
	s.Text("client.address", x.origin.Client)
	s.Text("metergate.request_id", x.id)
	x.describeUser()
	if r.usage != nil {
		s.Text("metergate.plan", r.usage.Plan.Name())
	} else if x.plan != nil {
		s.Text("metergate.plan", x.plan.Name())
	}
	if x.route != nil && x.route.Endpoint != "" {
		s.Text("metergate.endpoint", x.route.Endpoint)
		s.Text("metergate.decision", r.loggedDecision())
		s.Text("metergate.would_block", strings.Join(r.wouldBlock, ","))
		if x.g.reportsCost {
			s.Number("metergate.cost", r.charged)
		}
	}
	x.describeOutcome()
}

// describeUser names the user as the access log does.
func (x *exchange) describeUser() {
	key := "user.id"
	if x.g.accessLog.user == LogUserHash {
		key = "user.hash"
	}
	x.span.Text(key, x.g.accessLog.user.NameOf(x.user.User))
	x.span.Text("metergate.org", x.g.accessLog.user.NameOf(x.user.Org))
	x.span.Text("metergate.api_key", x.user.APIKey)
	x.span.Text("metergate.issuer", x.user.Issuer)
}

// describeOutcome sets the status of the span: a server fails with 5xx, and with a response that breaks off.
func (x *exchange) describeOutcome() {
	s, r, text := x.span, &x.record, ""
	if r.err != nil {
		text = truncate(r.err.Error(), maxLogged)
	}
	if r.status > 0 {
		s.Number("http.response.status_code", int64(r.status))
	}
	switch {
	case !r.completed:
		s.Fail("aborted", text)
	case r.status >= 500:
		s.Fail(strconv.Itoa(r.status), text)
	default:
		s.Text("metergate.refusal", text)
	}
}

// endReserve describes a decision, and ends its span.
func (x *exchange) endReserve(s *tracing.Span) {
	if s == nil {
		return
	}
	s.Text("metergate.decision", x.record.decision)
	if x.plan != nil {
		s.Text("metergate.plan", x.plan.Name())
	}
	if x.record.waited > 0 {
		s.Number("metergate.waited_ms", x.record.waited.Milliseconds())
	}
	if x.record.decision == "error" {
		s.Fail("store", "the store did not answer")
	}
	s.End()
}

// describeRefusal says why a request is not authenticated. That is a failure only of those who cannot tell.
func describeRefusal(s *tracing.Span, err error) {
	switch {
	case s == nil:
	case errors.Is(err, jwtauth.ErrNoKeys):
		s.Fail("no_keys", truncate(err.Error(), maxLogged))
	default:
		s.Text("metergate.refusal", truncate(err.Error(), maxLogged))
	}
}

// describeSettlement says what became of a reservation.
func describeSettlement(s *tracing.Span, r *quota.Reservation, after *quota.Snapshot, err error, succeeded bool) {
	switch {
	case err != nil:
		s.Fail("store", truncate(err.Error(), maxLogged))
	case succeeded && after.Stale: // package guard has it
		s.Flag("metergate.journal")
	}
	s.Text("metergate.reservation", r.ID)
}
