package script

import (
	_ "embed"

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
	// Renew says that the arguments are for renew.lua.
	Renew bool
	// IDs are those of the reservations, 1 or more.
	IDs []string
}

// AppendTo appends the arguments.
func (a *PlaceArgs) AppendTo(args *resp.Args) {
	if a.Renew {
		args.AddInt(quota.PlaceLease.Milliseconds())
	}
	for _, id := range a.IDs {
		args.AddString(placeField(id))
	}
}
