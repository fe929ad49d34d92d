package jwtauth

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// cacheSize is the most verdicts that a cache holds. With the longest texts they
	// take 22 MiB, with ids of 36 bytes about 7.
	cacheSize = 1 << 15
	// cacheWays is how many places a verdict can be in.
	cacheWays = 4
	// maxCachedPlan bounds what is kept, in bytes. Names of plans have 64 at most; a
	// longer text names none, and is read from its token each time.
	maxCachedPlan = 256
)

// A cache remembers who good tokens are for, so that each is verified once. Of bad
// ones it remembers nothing: whoever makes tokens up cannot fill it.
//
// Its key is the SHA-256 of the whole token. Nothing cheaper would do: who finds two
// tokens with one key, a good one of their own and somebody else's, is that somebody.
// So the hash must withstand people who try, which those made for tables do not. The
// token itself as the key would be as safe, but take up to 8 KiB each, and leave what
// can be used to log in in the memory.
//
// It has no lock and never grows: each key has four places, of which a new verdict
// takes one that is free or no longer good, or else any. The zero value is empty.
type cache struct {
	places [cacheSize]atomic.Pointer[verdict]
}

// A verdict says who a token is for. It does not change.
type verdict struct {
	sum         [sha256.Size]byte // of the token
	id          Identity
	from, until time.Time // it is good at from, and no longer at until; the leeway is in it
	keys        uint64    // the version of the KeySet that it was verified with
}

// good reports whether the verdict holds at a time, for a version of the keys.
func (d *verdict) good(now time.Time, keys uint64) bool {
	return d.keys == keys && !now.Before(d.from) && now.Before(d.until)
}

// of returns the places of a token.
func (c *cache) of(sum *[sha256.Size]byte) []atomic.Pointer[verdict] {
	i := binary.LittleEndian.Uint64(sum[:]) % (cacheSize / cacheWays) * cacheWays
	return c.places[i : i+cacheWays]
}

// get returns the verdict on a token, nil when none is known that holds.
func (c *cache) get(sum *[sha256.Size]byte, now time.Time, keys uint64) *verdict {
	places := c.of(sum)
	for i := range places {
		if d := places[i].Load(); d != nil && d.sum == *sum && d.good(now, keys) {
			return d
		}
	}
	return nil
}

// put remembers a verdict.
func (c *cache) put(d *verdict, now time.Time) {
	if len(d.id.Plan) > maxCachedPlan {
		return
	}
	places := c.of(&d.sum)
	// Any of them, and not the one that ends first: two that are in use would push
	// each other out for as long as the others are good.
	at := rand.N(cacheWays)
	for i := range places {
		if old := places[i].Load(); old == nil || old.sum == d.sum || !old.good(now, d.keys) {
			at = i
			break
		}
	}
	places[at].Store(d)
}
