package script

import (
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed keep.lua
var keepLua string

// Keep is keep.lua. Its reply is a Reply with the code OK or Outdated, and no numbers.
var Keep = redis.NewScript(commonLua + restsLua + keepLua)

// KeepArgs are the arguments of keep.lua, after User and a Layout without counters.
type KeepArgs struct {
	// RetakeUntil is until when, by Redis's clock, a rest is taken again that is gone.
	RetakeUntil time.Time
	// Rests are the reservations of one account whose rest is kept, 1 or more.
	Rests []*quota.Reservation
	// WithPool says that the account is a member, and that a PoolBlock follows.
	WithPool bool
}

// AppendTo appends the arguments.
func (a *KeepArgs) AppendTo(args *resp.Args) {
	args.AddInt(a.RetakeUntil.UnixMilli())
	for _, r := range a.Rests {
		args.AddString(restField(r.ID))
		args.AddInt(RestLife(r.Lease).Milliseconds())
		args.AddInt(r.RestUnits())
		args.AddString(heldIn(r.Endpoint, r.Windows))
		switch {
		case a.WithPool && len(r.PoolWindows) > 0:
			args.AddString(heldIn(r.Endpoint, r.PoolWindows))
		case a.WithPool:
			args.AddString("")
		}
	}
}
