package redisstore

import (
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"metergate/quota"
)

// maxOverrides bounds the overrides that are kept in each shard.
const maxOverrides = 1024

// overrides holds what the gateway has last seen of accounts beside their counts, as
// script.Assumption writes it: plan overrides, and terms. Its memory is bounded. Only Redis knows which users have one. A script is sent with the
// override last seen, and if that is wrong, it costs a second round trip. So users without an
// override, which are nearly all, cost nothing.
type overrides struct {
	seed   maphash.Seed
	n      atomic.Int64 // in all shards; while it is 0, no shard is locked
	shards [64]overrideShard
}

type overrideShard struct {
	mu    sync.RWMutex
	users map[string]string
}

func (o *overrides) shardOf(user string) *overrideShard {
	return &o.shards[maphash.String(o.seed, user)%uint64(len(o.shards))]
}

// lastSeen returns what to assume of an account, with or without terms; at first nothing.
func (o *overrides) lastSeen(user string, withTerms bool) string {
	text := ""
	if o.n.Load() != 0 {
		sh := o.shardOf(user)
		sh.mu.RLock()
		text = sh.users[user]
		sh.mu.RUnlock()
	}
	if override, _, hasTerms := strings.Cut(text, "\n"); hasTerms != withTerms {
		if withTerms {
			return text + "\n"
		}
		return override
	}
	return text
}

// see keeps what is known of an account. If there are too many, another one is dropped,
// which costs that user a round trip.
func (o *overrides) see(user, text string) {
	sh := o.shardOf(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := len(sh.users)
	if text == "" || text == "\n" {
		delete(sh.users, user)
	} else {
		if sh.users == nil {
			sh.users = map[string]string{}
		}
		sh.users[user] = text
		for other := range sh.users {
			if len(sh.users) <= maxOverrides {
				break
			}
			if other != user {
				delete(sh.users, other)
			}
		}
	}
	o.n.Add(int64(len(sh.users) - before))
}

// parseOverride reads what common.lua writes, "UNTIL NAME"; anything else is no override.
func parseOverride(text string) quota.Override {
	until, name, ok := strings.Cut(text, " ")
	if !ok { // nearly always; ParseInt would allocate an error
		return quota.Override{}
	}
	ms, err := strconv.ParseInt(until, 10, 64)
	if err != nil {
		return quota.Override{}
	}
	o := quota.Override{Plan: name}
	if ms != 0 {
		o.Until = time.UnixMilli(ms).UTC()
	}
	return o
}
