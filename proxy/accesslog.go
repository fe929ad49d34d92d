package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// The access log has one line for each request, written when it has ended. Fields that
// would be empty are left out.
//
// Much of it clients choose: the path, the method, through their tokens the user. slog
// quotes it, so that nobody can write a line of their own, and it is cut, so that nobody
// can fill the disk with one request. The path is the escaped one, which is ASCII. The
// query is left out: people put tokens there.

// LogUser is how the access log names users.
type LogUser int

const (
	// LogUserPlain names a user by his id.
	LogUserPlain LogUser = iota
	// LogUserHash has the first 16 hexadecimal digits of the id's SHA-256. Not salted:
	// who has an id must be able to find its lines.
	LogUserHash
	// LogUserOmit leaves users out.
	LogUserOmit
)

// of returns what stands for a user.
func (l LogUser) of(id string) string {
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
	maxLoggedMethod = 32
)

// phases are how long the parts of a request took; 0: it had no such part.
type phases struct {
	auth, reserve, settle time.Duration
	// upstream is the time to the final response's headers, or to their failure.
	upstream time.Duration
}

// took is for defer: it writes down how long something took that begins now.
func took(d *time.Duration) func() {
	start := time.Now()
	return func() { *d = time.Since(start) }
}

// logLine writes the line of a request that has ended.
func (x *exchange) logLine(duration time.Duration) {
	level := slog.LevelInfo
	if x.failedHere() {
		level = slog.LevelWarn
	}
	if !x.g.log.Enabled(context.Background(), level) || x.isQuiet() {
		return
	}
	attrs := make([]slog.Attr, 0, 24)
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	number := func(key string, value int64) { attrs = append(attrs, slog.Int64(key, value)) }
	milliseconds := func(key string, d time.Duration) {
		if d > 0 {
			attrs = append(attrs, slog.Float64(key, float64(d.Microseconds())/1000))
		}
	}
	text("request_id", x.id)
	text("trace_id", traceID(x.in.Header))
	text("client", x.origin.client)
	text("method", cut(x.in.Method, maxLoggedMethod))
	text("path", cut(x.in.URL.EscapedPath(), maxLogged))
	if x.route != nil {
		text("route", x.route.Pattern)
		text("endpoint", x.route.Endpoint)
	}
	number("status", int64(x.status))
	text("user", x.g.logUser.of(x.user.User))
	if p := x.told.Plan; p != nil {
		text("plan", p.Name())
	} else if x.plan != nil {
		text("plan", x.plan.Name())
	}
	if errors.Is(x.err, errTotalInFlight) || errors.Is(x.err, errUserInFlight) {
		text("decision", "overload")
	} else {
		text("decision", x.outcome)
	}
	text("would_block", strings.Join(x.wouldBlock, ","))
	if p := x.told.Plan; p != nil {
		number("used", x.told.Period.Used)
		if i, limited := p.Headline(); limited {
			number("limit", x.told.Allowance(i))
		}
	}
	if x.took.upstream > 0 {
		text("upstream", x.route.UpstreamName)
	}
	if t := x.target; t != nil {
		text("target", t.Scheme+"://"+t.Host)
	}
	sent := x.bytes
	if x.in.Method == http.MethodHead {
		sent = 0 // net/http has dropped it
	}
	number("bytes", sent)
	if !x.ended {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	milliseconds("auth_ms", x.took.auth)
	milliseconds("reserve_ms", x.took.reserve)
	milliseconds("upstream_ms", x.took.upstream)
	milliseconds("settle_ms", x.took.settle)
	milliseconds("duration_ms", duration)
	if x.err != nil {
		text("error", cut(x.err.Error(), maxLogged))
	}
	x.g.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// failedHere: the gateway could not do its work, and answered 5xx or nothing.
func (x *exchange) failedHere() bool { return x.err != nil && x.status >= 500 || x.status == 0 }

// isQuiet: the request is one of the successes that get no line. Which ones, its id
// says: so it is the same for a gateway behind this one, and can be told afterwards.
func (x *exchange) isQuiet() bool {
	if x.g.quietSuccesses <= 0 || x.status/100 != 2 || !x.ended || len(x.wouldBlock) > 0 {
		return false
	}
	sum := sha256.Sum256([]byte(x.id))
	return float64(binary.BigEndian.Uint64(sum[:8]))/(1<<64) < x.g.quietSuccesses
}

// cut shortens text to a number of bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}
