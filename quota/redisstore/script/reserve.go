package script

import (
	_ "embed"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed reserve.lua
var reserveLua string

// Reserve is reserve.lua.
var Reserve = redis.NewScript(commonLua + reserveLua)

// ReserveArgs are the arguments of reserve.lua, after User and Layout.
type ReserveArgs struct {
	ID       string        // of the reservation
	Endpoint string        // not empty
	Lease    time.Duration // 1 ms or more
	// Windows are those in which the unit is held: those that the Layout assumes to run.
	Windows []quota.Window
	// Attempts bound how often the user may try; the zero value does not.
	Attempts quota.AttemptLimit
	// Observed says that neither limits nor attempts refuse the request.
	Observed bool
	// Claimed is the name of the plan that the user's token claims.
	Claimed string
	// Limits are those of the Layout, in its order.
	Limits []quota.Limit
}

// AppendTo appends the arguments.
func (a *ReserveArgs) AppendTo(args *resp.Args) {
	most, interval := a.Attempts.Requests, a.Attempts.TokenInterval().Microseconds()
	args.AddString(leaseField(a.ID))
	args.AddString(MarkerField(a.ID))
	args.AddString("attempts/" + strconv.FormatInt(most, 10) + "/" + strconv.FormatInt(interval, 10))
	args.AddInt(a.Lease.Milliseconds())
	held := a.Endpoint
	for _, w := range a.Windows {
		held += " " + w.ID
	}
	args.AddString(held)
	args.AddInt(most)
	args.AddInt(interval)
	if a.Observed {
		args.AddInt(1)
	} else {
		args.AddInt(0)
	}
	args.AddString(a.Claimed)
	for _, l := range a.Limits {
		if l.AppliesTo(a.Endpoint) {
			args.AddInt(l.Requests)
		} else {
			args.AddInt(-1)
		}
	}
}

// Admitted reports whether a reply of reserve.lua says that the unit is held.
func (r *Reply) Admitted() bool { return r.Code == OK || r.Code == Exhausted || r.Code == Held }

// NewlyHeld reports whether the call itself has held the unit. Then the numbers of the reply,
// which are those before the call, do not contain it yet.
func (r *Reply) NewlyHeld() bool { return r.Code == OK || r.Code == Exhausted }
