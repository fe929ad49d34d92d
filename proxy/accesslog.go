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
	"sync"
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
	l := lines.Get().(*line)
	l.describe(x, duration)
	x.g.log.LogAttrs(context.Background(), level, "request", l.attrs...)
	clear(l.attrs) // a pool need not keep what clients sent
	l.attrs = l.attrs[:0]
	lines.Put(l)
}

// A line is what becomes one of the log. It is made here and not on the stack on which
// it is written: that one would not fit into 8 KiB with it.
type line struct{ attrs []slog.Attr }

var lines = sync.Pool{New: func() any { return &line{attrs: make([]slog.Attr, 0, 24)} }}

func (l *line) text(key, value string) {
	if value != "" {
		l.attrs = append(l.attrs, slog.String(key, value))
	}
}

func (l *line) number(key string, value int64) { l.attrs = append(l.attrs, slog.Int64(key, value)) }

func (l *line) milliseconds(key string, d time.Duration) {
	if d > 0 {
		l.attrs = append(l.attrs, slog.Float64(key, float64(d.Microseconds())/1000))
	}
}

// describe adds all that is to be said of a request.
func (l *line) describe(x *exchange, duration time.Duration) {
	l.text("request_id", x.id)
	l.text("trace_id", traceID(x.in.Header))
	l.text("client", x.origin.client)
	l.text("method", cut(x.in.Method, maxLoggedMethod))
	l.text("path", cut(x.in.URL.EscapedPath(), maxLogged))
	if x.route != nil {
		l.text("route", x.route.Pattern)
		l.text("endpoint", x.route.Endpoint)
	}
	l.number("status", int64(x.status))
	l.text("user", x.g.logUser.of(x.user.User))
	if x.told != nil {
		l.text("plan", x.told.Plan.Name())
	} else if x.plan != nil {
		l.text("plan", x.plan.Name())
	}
	if errors.Is(x.err, errTotalInFlight) || errors.Is(x.err, errUserInFlight) {
		l.text("decision", "overload")
	} else {
		l.text("decision", x.outcome)
	}
	l.text("would_block", strings.Join(x.wouldBlock, ","))
	if x.told != nil {
		l.number("used", x.told.Total.Used)
		if i, limited := x.told.Plan.Headline(); limited {
			l.number("limit", x.told.Allowance(i))
		}
	}
	if x.took.upstream > 0 {
		l.text("upstream", x.route.UpstreamName)
	}
	if t := x.target; t != nil {
		l.text("target", t.Scheme+"://"+t.Host)
	}
	sent := x.bytes
	if x.in.Method == http.MethodHead {
		sent = 0 // net/http has dropped it
	}
	l.number("bytes", sent)
	if !x.ended {
		l.attrs = append(l.attrs, slog.Bool("aborted", true))
	}
	l.milliseconds("auth_ms", x.took.auth)
	l.milliseconds("reserve_ms", x.took.reserve)
	l.milliseconds("upstream_ms", x.took.upstream)
	l.milliseconds("settle_ms", x.took.settle)
	l.milliseconds("duration_ms", duration)
	if x.err != nil {
		l.text("error", cut(x.err.Error(), maxLogged))
	}
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
