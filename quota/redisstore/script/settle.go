package script

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed settle.lua
var settleLua string

//go:embed plainsettle.lua
var plainSettleText string

//go:embed plainunits.lua
var plainUnitsLua string

//go:embed plainrest.lua
var plainRestText string

// plainunits.lua stands in both.
var plainSettleLua, plainRestLua = withUnits(plainSettleText), withUnits(plainRestText)

func withUnits(text string) string { return strings.Replace(text, "ADDUNITS\n", plainUnitsLua, 1) }

//go:embed plainsettleargs.lua
var plainSettleArgsLua string

//go:embed rests.lua
var restsLua string

//go:embed tally.lua
var tallyLua string

// What stands before settle.lua in place of tally.lua, days.lua and hours.lua.
const (
	noTally = "local count_both = nil\n"
	noDays  = "local note_day = nil\n"
	noHours = "local note_hour = nil\n"
)

// What a settlement may have to do besides counting. A script that need not do it does not pay for it.
const (
	settleRests  = 1 << iota // it leaves rests, or settles them
	settleDays               // it counts in a history
	settleHours              // it counts for bills
	settleAlerts             // plans have thresholds
	settleKinds              // the number of kinds of settle.lua
)

// settleScripts has settle.lua with what stands before it, by what it has to do.
var settleScripts = func() (scripts [settleKinds]*redis.Script) {
	for kind := range scripts {
		scripts[kind] = redis.NewScript(settleSource(kind))
	}
	return scripts
}()

// Settle is settle.lua that only counts.
var Settle = settleScripts[0]

// settleSource is settle.lua with what stands before it.
func settleSource(kind int) string {
	source := commonLua
	if hasPlain(kind) {
		source = stateLua + plainLua + plainSettleArgsLua + plainSettleLua + functionsLua
	}
	if kind&settleRests != 0 {
		source += restsLua
	}
	if kind&(settleDays|settleHours) != 0 {
		source += tallyLua
	} else {
		source += noTally
	}
	if kind&settleDays != 0 {
		source += daysLua
	} else {
		source += noDays
	}
	if kind&settleHours != 0 {
		source += hoursLua
	} else {
		source += noHours
	}
	if kind&settleAlerts != 0 {
		source += crossingsLua
	} else {
		source += noCrossings
	}
	return source + settleLua
}

// IsSettle reports whether a script with this SHA-1 is a settle.lua.
func IsSettle(sha string) bool {
	return slices.ContainsFunc(settleScripts[:], func(s *redis.Script) bool { return s.Hash() == sha })
}

// SettleArgs are the arguments of settle.lua, after User and Layout.
type SettleArgs struct {
	// Count says whether the reservations are counted, or given back.
	Count bool
	// Keep is how long counts are kept, see quota.Window.RetainedUntil.
	Keep time.Duration
	// Reservations are those of one account.
	Reservations []*quota.Reservation
	// Rests are those of the account whose rest is to be counted. There are 1 or more of both.
	Rests []*quota.Reservation
	// Forgotten are markers of the account to delete, as MarkerField names them.
	Forgotten []string
	// WithPool says that the account is a member, and that a PoolBlock follows.
	WithPool bool
	// HistoryDays is how many days a history is kept for; 0: there is none.
	HistoryDays int
	// BillingHours is how many hours are kept for bills; 0: none is.
	BillingHours int
	// Notifies says that plans have thresholds, and that AppendAlerts follows. It matters if something is counted.
	Notifies bool
	// Indexes are those of the Reading, if there is a PlainOne and it is in the windows of the Layout.
	Indexes string
}

// PlainOne returns the reservation whose settlement may be plain: plainsettle.lua counts it, or plainrest.lua settles its rest. It
// returns nil if there is none. A request that holds one unit is plain only if it is charged that unit.
func (a *SettleArgs) PlainOne() *quota.Reservation {
	switch {
	case a.WithPool || len(a.Reservations)+len(a.Rests) != 1:
	case len(a.Rests) > 0 && a.Rests[0].HeldUnits() > 1:
		return a.Rests[0]
	case len(a.Rests) == 0 && a.Count && (a.Reservations[0].HeldUnits() > 1 || a.Reservations[0].ChargedUnits() == 1):
		return a.Reservations[0]
	}
	return nil
}

// IsPlain reports whether there is a PlainOne and its script has plainsettle.lua.
func (a *SettleArgs) IsPlain() bool { return a.PlainOne() != nil && hasPlain(a.kind()) }

// hasPlain reports whether plainsettle.lua stands in a kind of settle.lua.
func hasPlain(kind int) bool { return kind&(settleRests|settleAlerts) == 0 }

// Script is the one to send the arguments to.
func (a *SettleArgs) Script() *redis.Script { return settleScripts[a.kind()] }

// kind is the index of Script.
func (a *SettleArgs) kind() int {
	leavesRest := func(r *quota.Reservation) bool { return r.RestUnits() > 0 }
	withRests := len(a.Rests) > 0 || a.Count && slices.ContainsFunc(a.Reservations, leavesRest)
	kind := 0
	if withRests {
		kind |= settleRests
	}
	if a.withDays() {
		kind |= settleDays
	}
	if a.withHours() {
		kind |= settleHours
	}
	if a.WithAlerts() {
		kind |= settleAlerts
	}
	return kind
}

// withDays says that a reservation may be counted in the history.
func (a *SettleArgs) withDays() bool {
	return a.HistoryDays > 0 && (a.Count || len(a.Rests) > 0)
}

// withHours says likewise that one may be counted for bills.
func (a *SettleArgs) withHours() bool {
	return a.BillingHours > 0 && (a.Count || len(a.Rests) > 0)
}

// WithAlerts says that AppendAlerts follows.
func (a *SettleArgs) WithAlerts() bool { return a.Notifies && (a.Count || len(a.Rests) > 0) }

// AppendTo appends the arguments.
func (a *SettleArgs) AppendTo(args *resp.Args) {
	for _, r := range a.Reservations {
		a.appendReservation(args, r)
		a.appendCounters(args, r)
	}
	for _, r := range a.Rests {
		appendRest(args, r)
		a.appendCounters(args, r)
	}
	for _, field := range a.Forgotten {
		args.AddString(field)
	}
	args.AddInt(int64(len(a.Forgotten)))
	args.AddString(a.Indexes)
}

// appendReservation appends lease/ID, done/ID and extra.
func (a *SettleArgs) appendReservation(args *resp.Args, r *quota.Reservation) {
	args.AddString(leaseField(r.ID))
	args.AddString(MarkerField(r.ID))
	switch extra, rest := r.ChargedUnits()-1, r.RestUnits(); {
	case !a.Count:
		args.AddString("-")
	case rest > 0:
		args.AddString(fmt.Sprintf("+%d %d %d", extra, rest, RestLife(r.Lease).Milliseconds()))
	default:
		args.AddInt(extra)
	}
}

// appendRest appends the same for a rest.
func appendRest(args *resp.Args, r *quota.Reservation) {
	args.AddString(restField(r.ID))
	args.AddString(RestMarkerField(r.ID))
	args.AddString(fmt.Sprintf("+%d %d", r.ChargedRest(), r.RestUnits()))
}

// RestLife is how long the rest of a request with this lease is held if its gateway does not keep it.
func RestLife(lease time.Duration) time.Duration { return max(lease, quota.PlaceLease) }

// appendCounters appends where a reservation is counted.
func (a *SettleArgs) appendCounters(args *resp.Args, r *quota.Reservation) {
	args.AddString(r.Endpoint)
	a.appendWindows(args, r.Windows)
	if a.WithPool {
		a.appendWindows(args, r.PoolWindows)
	}
	switch {
	case !a.withDays():
	case r.Date > 0:
		args.AddString(dayField(r.Date, r.Endpoint))
		args.AddInt(dayEnds(r.Date, a.HistoryDays).UnixMilli())
	default:
		args.AddString("")
		args.AddInt(0)
	}
	switch {
	case !a.withHours():
	case r.BillHour > 0:
		args.AddString(hourField(r.BillHour, r.Endpoint))
		args.AddInt(hourEnds(r.BillHour, a.BillingHours).UnixMilli())
	default:
		args.AddString("")
		args.AddInt(0)
	}
}

func (a *SettleArgs) appendWindows(args *resp.Args, windows []quota.Window) {
	args.AddInt(int64(len(windows)))
	for _, w := range windows {
		args.AddString(w.ID)
		args.AddInt(w.RetainedUntil(a.Keep).UnixMilli())
	}
}
