package quota

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"time"
)

// A Crossing says that what an account has used of a limit has reached a threshold: a percentage of
// what the limit allows, see PlanOptions.NotifyAt. A store records it in the step that counts, and keeps it
// until EndCrossings or for CrossingLife.
//
// What counts is what is used, not what is held. There is one for each limit, window and threshold. If one
// step reaches several thresholds, there is one for the highest alone. A threshold can be reached again once
// a reset, or counts that are set, have taken the count below it, or once a grant, another plan or another
// configuration has changed what the limit allows. A plan that is set or cleared reaches what the account's own
// limits have reached under it, and had not under the plan before. A limit that is lowered, a smaller plan in the
// token, an override that ends by its time, and for a member an override of their pool reach nothing by
// themselves: the next threshold does.
type Crossing struct {
	// ID is the same for the same crossing, whoever records it, see CrossingID.
	ID      string
	Account string
	At      time.Time // when it was recorded, by the store's clock, to the millisecond
	Plan    string    // its name
	Limit   string    // see Limit.Name
	Unit    string    // what the limit counts: "requests", or the plan's UnitName
	// Used is what was used of the Allowance just after the step. It may be more than that.
	Used, Allowance int64
	Threshold       int       // in percent
	ResetsAt        time.Time // the end of the window; zero: it has none
}

// Percent is what is used, in percent of the allowance, rounded down.
func (c Crossing) Percent() int64 { return c.Used * 100 / max(1, c.Allowance) }

const (
	// MaxThreshold is the highest threshold in percent. Soft limits get above 100, and so do hard ones that are
	// observed, by a smaller plan, by counts that are set, and by requests that were admitted in an outage.
	MaxThreshold = 1000
	// CrossingLife is how long a store keeps a Crossing that nobody ends.
	CrossingLife = 8 * 24 * time.Hour
	// ClaimLife is how long crossings belong to the gateway that has claimed them.
	ClaimLife = 20 * time.Second
)

// CrossedThreshold returns the highest of some thresholds, in percent, that a count has reached and
// had not reached before: before < threshold % of allowance <= after. 0: none, as with an allowance of 0.
func CrossedThreshold(before, after, allowance int64, thresholds []int) (crossed int) {
	for _, t := range thresholds {
		if before*100 < int64(t)*allowance && after*100 >= int64(t)*allowance {
			crossed = max(crossed, t)
		}
	}
	return crossed
}

// CrossingID returns the ID of a crossing. rearmed counts, for the window, the resets and the imports that took its
// counts down, and the changes of the plan by an administrator. It and the allowance are part of the ID, so that
// whatever is crossed after such a change has an ID of its own. Without thresholds, nothing is added to rearmed:
// if thresholds are configured again, an ID can come back. A store that has lost a crossing makes the same ID
// when it counts again.
func CrossingID(account, limit, windowID string, threshold int, allowance, rearmed int64) string {
	sum := sha1.Sum([]byte(strings.Join([]string{account, limit, windowID, formatInt(int64(threshold)), formatInt(allowance), formatInt(rearmed)}, "\n")))
	return "msg_" + hex.EncodeToString(sum[:])
}

// Crossings is the part of a Store that hands crossings over to whoever delivers them. Nothing of it is
// used while no plan has thresholds.
//
// Gateways share the work by claims. A crossing is claimed within ClaimLife and some seconds after it was
// recorded, by any gateway, and again when a claim has ended; so a gateway that dies delays crossings
// and loses none. What is claimed twice has the same ID.
type Crossings interface {
	// ClaimCrossings returns up to so many accounts that have crossings, or may have some soon, and that
	// nobody has claimed. They belong to the caller for ClaimLife. With 0, only the numbers are asked for.
	ClaimCrossings(ctx context.Context, most int) (CrossingClaims, error)
	// CrossingsOf returns the crossings of an account, the oldest first; none is no error.
	CrossingsOf(ctx context.Context, account string) ([]Crossing, error)
	// EndCrossings drops crossings of an account: they are delivered or given up. IDs that are not
	// there change nothing.
	EndCrossings(ctx context.Context, account string, ids []string) error
	// EndClaim ends a claim. If the account has crossings still, or a request that may reach a threshold, it can be
	// claimed again after a time, 0 or more. If the claim was not the caller's any more, nothing changes.
	EndClaim(ctx context.Context, claim CrossingClaim, again time.Duration) error
}

// CrossingClaims is what ClaimCrossings returns.
type CrossingClaims struct {
	Claims []CrossingClaim
	// Waiting is how many accounts have crossings, claimed or not, and Oldest when the first of these was
	// recorded; it is zero if no account has any. Both are about right at the time of the call.
	Waiting int64
	Oldest  time.Time
}

// A CrossingClaim says that an account's crossings are the caller's to deliver.
type CrossingClaim struct {
	Account string
	// Token tells the claim from others of the account. It is the store's.
	Token int64
}
