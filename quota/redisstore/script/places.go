package script

import (
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed leave.lua
var leaveLua string

//go:embed renew.lua
var renewLua string

// Leave is leave.lua, and Renew renew.lua. Their replies are a Reply with the code OK or
// Outdated, and no numbers.
var (
	Leave = redis.NewScript(commonLua + leaveLua)
	Renew = redis.NewScript(commonLua + renewLua)
)

// PlaceArgs are the arguments of leave.lua and renew.lua, after User and a Layout without
// counters.
type PlaceArgs struct {
	// RetakeUntil is for renew.lua: until when, by Redis's clock, it takes a place again that is
	// gone. Zero: the arguments are for leave.lua.
	RetakeUntil time.Time
	// IDs are those of the reservations, 1 or more.
	IDs []string
}

// AppendTo appends the arguments.
func (a *PlaceArgs) AppendTo(args *resp.Args) {
	if !a.RetakeUntil.IsZero() {
		args.AddInt(quota.PlaceLease.Milliseconds())
		args.AddInt(a.RetakeUntil.UnixMilli())
	}
	for _, id := range a.IDs {
		args.AddString(placeField(id))
	}
}
