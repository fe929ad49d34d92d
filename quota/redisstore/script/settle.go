package script

import (
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed settle.lua
var settleLua string

// Settle is settle.lua.
var Settle = redis.NewScript(commonLua + settleLua)

// SettleArgs are the arguments of settle.lua, after User and Layout.
type SettleArgs struct {
	// Count says whether the reservations are counted, or given back.
	Count bool
	// Keep is how long counts are kept, see quota.Window.RetainedUntil.
	Keep time.Duration
	// Reservations are those of one account, 1 or more.
	Reservations []*quota.Reservation
	// WithPool says that the account is a member, and that a PoolBlock follows.
	WithPool bool
}

// AppendTo appends the arguments.
func (a *SettleArgs) AppendTo(args *resp.Args) {
	args.AddInt(int64(len(a.Reservations)))
	for _, r := range a.Reservations {
		args.AddString(leaseField(r.ID))
		args.AddString(MarkerField(r.ID))
		if a.Count {
			args.AddInt(r.ChargedUnits() - 1)
		} else {
			args.AddString("-")
		}
		args.AddString(r.Endpoint)
		a.appendWindows(args, r.Windows)
		if a.WithPool {
			a.appendWindows(args, r.PoolWindows)
		}
	}
}

func (a *SettleArgs) appendWindows(args *resp.Args, windows []quota.Window) {
	args.AddInt(int64(len(windows)))
	for _, w := range windows {
		args.AddString(w.ID)
		args.AddInt(w.RetainedUntil(a.Keep).UnixMilli())
	}
}
