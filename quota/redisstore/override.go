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

// Which users have an override is not known before Redis has said so, which takes a
// round trip. A gateway therefore keeps those that it has seen, in bounded memory;
// users without one, nearly all, cost nothing.

// maxOverrides bounds the overrides that are kept, a shard.
const maxOverrides = 1024

// overrides has the overrides last seen, as common.lua writes them.
type overrides struct {
	seed   maphash.Seed
	n      atomic.Int64 // in all shards, so that none is asked when there are none
	shards [64]overrideShard
}

type overrideShard struct {
	mu    sync.RWMutex
	users map[string]string
}

func (o *overrides) shard(user string) *overrideShard {
	return &o.shards[maphash.String(o.seed, user)%uint64(len(o.shards))]
}

// of is a user's override as last seen; empty: none.
func (o *overrides) of(user string) string {
	if o.n.Load() == 0 {
		return ""
	}
	sh := o.shard(user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.users[user]
}

// note keeps a user's override; empty: none. When there are too many another one is
// forgotten, which costs that user a round trip.
func (o *overrides) note(user, override string) {
	sh := o.shard(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := len(sh.users)
	if override == "" {
		delete(sh.users, user)
	} else {
		if sh.users == nil {
			sh.users = map[string]string{}
		}
		sh.users[user] = override
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

// parseOverride reads what common.lua writes, "UNTIL NAME".
func parseOverride(text string) quota.Override {
	until, name, ok := strings.Cut(text, " ")
	ms, err := strconv.ParseInt(until, 10, 64)
	if !ok || err != nil {
		return quota.Override{}
	}
	o := quota.Override{Plan: name}
	if ms != 0 {
		o.Until = time.UnixMilli(ms).UTC()
	}
	return o
}
