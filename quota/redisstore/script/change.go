package script

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed change.lua
var changeLua string

// Change is change.lua, and ChangeAlerting the same where plans have thresholds: AppendAlerts follows its arguments.
var (
	Change         = redis.NewScript(commonLua + changeSource + noCrossings + changeLua)
	ChangeAlerting = redis.NewScript(commonLua + changeSource + crossingsLua + changeLua)
	changeSource   = activityLua + daysLua
)

// The codes of change.lua when nothing has changed.
const (
	conflict Code = iota + 10
	tooManyIDs
	noLimit
	tooMany
)

// ChangeArgs are the arguments of change.lua, after User and a Layout without counters.
type ChangeArgs struct {
	// Change is what to do. Its Validate has accepted it.
	Change quota.Change
	// Entry is Change as the audit log records it: of a grant with the limit's Period.
	Entry quota.Change
	// Windows are those that the change concerns and the Layout assumes to run: of a grant
	// the limit's, of a reset all that run, of counts the one to set, of another plan all that run if one of
	// the two has thresholds, otherwise none.
	Windows []quota.Window
	// GrantField is that of the limit to grant to, see GrantField; empty: the plan has no such
	// limit. Only for a grant.
	GrantField string
	// Terms are those to set, and Idle is what the account must be like, see TermsArgs. Only for an
	// anchor.
	Terms string
	Idle  *Looked
	// Keep is how long counts and the audit log are kept, see quota.Window.RetainedUntil.
	Keep time.Duration
	// Date is that of today, and HistoryDays how long the history is kept, if the change sets or resets
	// what was used today; 0 and 0: it does not.
	Date        quota.Date
	HistoryDays int
}

// AppendTo appends the arguments.
func (a *ChangeArgs) AppendTo(args *resp.Args) {
	c := &a.Change
	args.AddInt(int64(len(a.Windows)))
	for _, w := range a.Windows {
		args.AddString(w.ID)
		args.AddInt(w.RetainedUntil(a.Keep).UnixMilli())
	}
	args.AddString(c.ID)
	args.AddString(c.Fingerprint())
	args.AddString(string(a.Entry.Encode()))
	args.AddInt(a.Keep.Milliseconds())
	args.AddInt(quota.MaxAuditEntries)
	args.AddInt(quota.ChangeIDLife.Milliseconds())
	args.AddInt(quota.MaxChangeIDs)
	args.AddInt(quota.MaxAmount)
	if a.Date != 0 {
		args.AddString(fmt.Sprintf("%d %d", a.Date, dayEnds(a.Date, a.HistoryDays).UnixMilli()))
	} else {
		args.AddString("")
	}
	args.AddString(string(c.Action))
	switch c.Action {
	case quota.ActionGrant:
		args.AddString(a.GrantField)
		args.AddInt(c.Requests + c.Units) // one of them is 0
	case quota.ActionSetPlan:
		until := int64(0)
		if !c.Until.IsZero() {
			until = c.Until.UnixMilli()
		}
		args.AddInt(until)
		args.AddString(c.Plan)
	case quota.ActionSetAnchor, quota.ActionClearAnchor:
		args.AddString(a.Terms)
		args.AddString(a.Idle.condition())
	case quota.ActionSetCounts:
		for _, endpoint := range slices.Sorted(maps.Keys(c.Counts)) {
			args.AddString(endpoint)
			args.AddInt(c.Counts[endpoint])
			args.AddInt(c.Extra(endpoint))
		}
	}
}

// ChangeError returns why a reply of change.lua says that nothing has changed:
// quota.ErrIDConflict, ErrTooManyIDs, ErrNoSuchLimit or ErrTooLarge; nil: it has.
func (r *Reply) ChangeError() error {
	switch r.Code {
	case conflict:
		return quota.ErrIDConflict
	case tooManyIDs:
		return quota.ErrTooManyIDs
	case noLimit:
		return quota.ErrNoSuchLimit
	case tooMany:
		return quota.ErrTooLarge
	}
	return nil
}
