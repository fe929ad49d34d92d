package jwtauth

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"metergate/proxy/credential"
)

const (
	// cacheSize is the greatest number of verdicts in a cache. With the longest texts they
	// take 30 MiB, with ids of 36 bytes about 7 MiB.
	cacheSize = 1 << 15
	// cacheWays is the number of slots that a verdict can be in.
	cacheWays = 4
	// maxCachedPlan bounds the plan of a cached verdict, in bytes. Names of plans have at most
	// 64. A longer text names no plan, and its token is verified anew each time.
	maxCachedPlan = 256
)

// A cache remembers the verdicts on good tokens, so that each token is verified once. It
// remembers no bad tokens, so nobody can fill it with invented ones.
//
// Its key is the SHA-256 of the whole token. A cheaper hash would not be safe: an attacker
// who finds two tokens with the same key, a good one of their own and one of somebody else,
// could act as that user. The hash must therefore resist deliberate collisions, which
// hashes made for tables do not. The token itself would be as safe a key, but would take up
// to 16 KiB each and would leave credentials in memory.
//
// A verdict holds only for the Issuer that made it, and for its keys as they were. So a Verifier
// can take the cache of the one before, and each issuer that has not changed keeps its verdicts.
//
// It has no lock and never grows. Each key has four slots. A new verdict takes a slot that
// is empty or whose verdict no longer holds, or else any of them. The zero value is
// empty. It is safe for concurrent use.
type cache struct {
	slots [cacheSize]atomic.Pointer[verdict]
}

// A verdict says who a token is for. It never changes.
type verdict struct {
	sum         [sha256.Size]byte // of the token
	id          credential.Identity
	from, until time.Time // valid at from, no longer valid at until; the leeway is included
	issuer      uint64    // the id of the Issuer that verified the token
	keys        uint64    // the version of its KeySet then
}

// slotsFor returns the slots that a token's verdict can be in.
func (c *cache) slotsFor(sum *[sha256.Size]byte) []atomic.Pointer[verdict] {
	i := binary.LittleEndian.Uint64(sum[:]) % (cacheSize / cacheWays) * cacheWays
	return c.slots[i : i+cacheWays]
}

// get returns the verdict on a token that holds, nil if there is none.
func (c *cache) get(sum *[sha256.Size]byte, now time.Time, issuers issuerList) *verdict {
	slots := c.slotsFor(sum)
	for i := range slots {
		if d := slots[i].Load(); d != nil && d.sum == *sum && issuers.hold(d, now) {
			return d
		}
	}
	return nil
}

// put remembers a verdict.
func (c *cache) put(d *verdict, now time.Time, issuers issuerList) {
	if len(d.id.Plan) > maxCachedPlan {
		return
	}
	slots := c.slotsFor(&d.sum)
	// A random slot, not the one whose verdict ends first: two tokens in use would otherwise
	// evict each other for as long as the other verdicts hold.
	at := rand.N(cacheWays)
	for i := range slots {
		if old := slots[i].Load(); old == nil || old.sum == d.sum || !issuers.hold(old, now) {
			at = i
			break
		}
	}
	slots[at].Store(d)
}
