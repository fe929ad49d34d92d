package script

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed reserve.lua
var reserveLua string

//go:embed plain.lua
var plainLua string

//go:embed plainreserve.lua
var plainReserveLua string

//go:embed plainreserveargs.lua
var plainReserveArgsLua string

// reserveSource is reserve.lua with what stands before it.
var reserveSource = stateLua + plainLua + plainReserveArgsLua + plainReserveLua + functionsLua + reserveLua

// Reserve is reserve.lua.
var Reserve = redis.NewScript(reserveSource)

// ReserveArgs are the arguments of reserve.lua, after User and Layout.
type ReserveArgs struct {
	ID       string        // of the reservation
	Endpoint string        // not empty
	Lease    time.Duration // 1 ms or more
	// Windows are those in which the request is held: those that the Layout assumes to run.
	Windows []quota.Window
	// Attempts bound how often the user may try; the zero value does not.
	Attempts quota.AttemptLimit
	// Observed says that nothing refuses the request.
	Observed bool
	// Claimed is the name of the plan that the user's token claims.
	Claimed string
	// Units is what the request may cost, 1 or more.
	Units int64
	// Concurrent bounds the requests that run at once; the zero value does not.
	Concurrent quota.ConcurrencyLimit
	// Limits are those of the Layout, in its order.
	Limits []quota.Limit
	// Allowed is what each of them allows in its window, without grants.
	Allowed []int64
	// RequestsOf has, for each limit on units, the index of the counter of the Layout with its
	// requests. It may be nil without such limits.
	RequestsOf []int
	// Indexes are those of the Reading.
	Indexes string
}

// AppendTo appends the arguments.
func (a *ReserveArgs) AppendTo(args *resp.Args) {
	args.AddString(leaseField(a.ID))
	args.AddString(MarkerField(a.ID))
	a.appendAfterID(args)
}

// appendAfterID appends those that do not depend on the ID.
func (a *ReserveArgs) appendAfterID(args *resp.Args) {
	most, interval := a.Attempts.Requests, a.Attempts.TokenInterval().Microseconds()
	switch {
	case most > 0:
		args.AddString("attempts/" + strconv.FormatInt(most, 10) + "/" + strconv.FormatInt(interval, 10))
	case a.Units > 1:
		args.AddString("rests")
	default:
		args.AddString("")
	}
	args.AddInt(a.Lease.Milliseconds())
	args.AddString(heldIn(a.Endpoint, a.Windows))
	args.AddInt(most)
	args.AddInt(interval)
	args.AddString(a.Claimed)
	args.AddString(a.options())
	args.AddString(a.Indexes)
	mayRefuse := func(l quota.Limit) bool { return !l.Soft && l.AppliesTo(a.Endpoint) }
	for i, l := range a.Limits {
		if mayRefuse(l) {
			args.AddInt(a.Allowed[i])
		} else {
			args.AddInt(-1)
		}
	}
	for i, l := range a.Limits {
		if l.Quantity == quota.Units && mayRefuse(l) {
			args.AddInt(int64(i + 1))
			args.AddInt(int64(a.RequestsOf[i] + 1))
		}
	}
}

// options is the argument with what few requests need.
func (a *ReserveArgs) options() string {
	isOnUnits := func(l quota.Limit) bool { return l.Quantity == quota.Units }
	if !a.Observed && a.Units <= 1 && a.Concurrent.Requests == 0 && !slices.ContainsFunc(a.Limits, isOnUnits) {
		return ""
	}
	observed := 0
	if a.Observed {
		observed = 1
	}
	return fmt.Sprint(observed, " ", max(0, a.Units-1), " ", a.Concurrent.Requests, " ", quota.PlaceLease.Milliseconds())
}

// heldIn is what a lease says about a request to endpoint that is held in some windows.
func heldIn(endpoint string, windows []quota.Window) string {
	for _, w := range windows {
		endpoint += " " + w.ID
	}
	return endpoint
}

// ParseLease returns when a lease ends, and the ids of the windows in which it holds its request. An
// empty lease holds nothing.
func ParseLease(lease string) (ends time.Time, windows []string) {
	words := strings.Fields(lease)
	if len(words) < 2 {
		return ends, nil
	}
	at, _, _ := strings.Cut(words[0], "+")
	ms, _ := strconv.ParseInt(at, 10, 64)
	return time.UnixMilli(ms), words[2:]
}

// Admitted reports whether a reply of reserve.lua says that the request is held.
func (r *Reply) Admitted() bool { return r.NewlyHeld() || r.Code == Held }

// NewlyHeld reports whether the call itself has held the request. Then the numbers of the
// reply, which are those before the call, do not contain it yet.
func (r *Reply) NewlyHeld() bool { return r.Code == OK || r.Code == Exhausted || r.Code == Overfull }
