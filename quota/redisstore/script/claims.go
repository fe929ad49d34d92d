package script

import (
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed claims.lua
var claimsLua string

// Claims is claims.lua.
var Claims = redis.NewScript(claimsLua)

// ClaimsKeys returns the keys of the index of the accounts that have crossings: KEYS of claims.lua. They are in
// one slot.
func ClaimsKeys(prefix string) (due, waiting string) {
	return prefix + ":notify:{notify}:due", prefix + ":notify:{notify}:waiting"
}

// AppendList appends the arguments of claims.lua that put accounts into the index: when a crossing of each was
// recorded; zero: it may have one soon.
func AppendList(args *resp.Args, offset time.Duration, accounts map[string]time.Time) {
	args.AddInt(offset.Milliseconds())
	args.AddString("list")
	for account, recorded := range accounts {
		args.AddString(account)
		if recorded.IsZero() {
			args.AddInt(0)
		} else {
			args.AddInt(recorded.UnixMilli())
		}
	}
}

// AppendClaim appends the arguments that claim up to so many accounts. ParseClaims reads the reply.
func AppendClaim(args *resp.Args, offset time.Duration, most int) {
	args.AddInt(offset.Milliseconds())
	args.AddString("claim")
	args.AddInt(int64(most))
	args.AddInt(quota.ClaimLife.Milliseconds())
}

// AppendFinish appends the arguments that end a claim of an account with what is left there.
func AppendFinish(args *resp.Args, offset time.Duration, claim quota.CrossingClaim, left Left, again time.Duration) {
	args.AddInt(offset.Milliseconds())
	args.AddString("finish")
	args.AddString(claim.Account)
	args.AddInt(claim.Token)
	if left.Oldest.IsZero() {
		args.AddInt(0)
	} else {
		args.AddInt(left.Oldest.UnixMilli())
	}
	args.AddInt(left.Held)
	args.AddInt(again.Milliseconds())
}

// ParseClaims reads the reply to what AppendClaim appends.
func ParseClaims(reply *resp.Reply) (claims quota.CrossingClaims, err error) {
	n, accounts := reply.Numbers, strings.Split(reply.Text, "\n")[1:]
	if len(n) != 4+len(accounts) {
		return claims, errors.New("claims.lua has returned other values than it should")
	}
	claims.Waiting = n[1]
	if n[2] != 0 {
		claims.Oldest = time.UnixMilli(n[2]).UTC()
	}
	for i, account := range accounts {
		claims.Claims = append(claims.Claims, quota.CrossingClaim{Account: account, Token: n[3+i]})
	}
	return claims, nil
}
