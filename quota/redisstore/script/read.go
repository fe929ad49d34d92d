package script

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

//go:embed read.lua
var readLua string

// Read is read.lua. It has no arguments after User and Layout, and its reply is a Reply with
// the code OK or Outdated.
var Read = redis.NewScript(commonLua + readLua)
