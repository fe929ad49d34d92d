// Package script has the Lua scripts that keep quotas in Redis, and for each of them the Go
// side of its call. Beside NAME.lua stands NAME.go, with a struct that becomes the script's
// arguments; common.go does the same for what all scripts share in common.lua, and reads
// their reply. hash.go names what the scripts keep in Redis. When an argument, a code or a
// field changes in a .lua, its .go changes with it, and nothing else.
//
// The package does not talk to Redis: redisstore does, over redisclient.
//
// To add a script, write NAME.lua and NAME.go here and a method of redisstore.Store that
// calls it. To add an argument, append it to the struct and to the table in the .lua.
package script

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed common.lua
var stateLua string

//go:embed functions.lua
var functionsLua string

// commonLua stands before each script. Where requests may be plain, plainreserve.lua or plainsettle.lua stands in its
// middle.
var commonLua = stateLua + functionsLua

// CommandsAt returns the names of the commands that a line of a script calls, as replies of Redis
// name a script, by its SHA-1, and a line of it; nil: there is no such script, or no command.
func CommandsAt(sha string, line int) (commands []string) {
	sources := map[*redis.Script]string{
		Read: readLua, Change: changeSource + noCrossings + changeLua, History: historyLua,
		ChangeAlerting: changeSource + crossingsLua + changeLua, Events: activityLua + eventsLua,
		Bill: hoursLua + billLua, EndBills: hoursLua + endBillsLua,
		Leave: leaveLua, Renew: renewLua, Keep: restsLua + keepLua, Terms: activityLua + termsLua, Look: activityLua + lookLua,
	}
	for script := range sources {
		sources[script] = commonLua + sources[script]
	}
	for kind, script := range settleScripts {
		sources[script] = settleSource(kind)
	}
	sources[Reserve] = reserveSource
	sources[Claims] = claimsLua
	for script, source := range sources {
		if script.Hash() == sha {
			return commandsOn(source, line)
		}
	}
	return nil
}

// commandsOn returns the names of the commands that a line of a source calls.
func commandsOn(source string, line int) (commands []string) {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return nil
	}
	for _, call := range calls.FindAllStringSubmatch(lines[line-1], -1) {
		commands = append(commands, call[1])
	}
	return commands
}

var calls = regexp.MustCompile(`call\('([A-Z]+)'`)

// A Code is the first number of a script's reply. The .lua files say what each script means
// by its codes.
type Code int64

// The codes of common.lua.
const (
	OK Code = iota
	Refused
	Outdated
	Settled
	Unheld
	Throttled
	Exhausted
	Held
	Crowded
	Overfull
)

// What crossings.lua adds to a code.
const (
	recorded       Code = 100 // a crossing of the account was recorded
	recordedInPool Code = 200 // one of the pool
	noRest         Code = 400 // see Reply.NoRest
)

// CommonArgs are what every script is told about the user and the clock: ARGV[1] to ARGV[3].
type CommonArgs struct {
	// Offset is added to Redis's clock, in whole milliseconds; 0 except in tests.
	Offset time.Duration
	ID     string // 1 to 256 bytes
	// Assumed is the plan override that the gateway assumes, as Redis has it; empty:
	// none. AnyOverride: the script must not compare it. With terms, see Assumption.
	Assumed string
}

// poolSeparator stands before what is said of the pool.
const poolSeparator = "\x1e"

// AnyOverride as CommonArgs.Assumed means that the override does not matter.
const AnyOverride = "*"

// anyTerms in a PoolBlock means likewise that the terms of the pool do not matter.
const anyTerms = "*"

// AppendTo appends the arguments.
func (a *CommonArgs) AppendTo(args *resp.Args) {
	args.AddInt(a.Offset.Milliseconds())
	args.AddString(a.ID)
	args.AddString(a.Assumed)
}

// Layout is what the gateway assumes about time, and the counts that it wants: ARGV[4] to
// ARGV[rest-1]. It is the same for all users of a plan.
type Layout struct {
	// From and Till bound the time in which all windows run that the gateway assumes to
	// run, to the millisecond.
	From, Till time.Time
	// Counters are those whose counts the script returns. The first Limits of them are those of
	// limits, in the plan's order.
	Counters []Counter
	Limits   int
	// Pairs is how many of the Counters, from the first, are wanted with what is held: Limits or
	// more. Of the others, the script returns only what is used.
	Pairs int

	unreturned []string // fields that are read after those of the Counters, see Reading
}

// Numbers is how many numbers the script returns for the Counters.
func (l *Layout) Numbers() int { return len(l.Counters) + l.Pairs }

// AppendTo appends the arguments.
func (l *Layout) AppendTo(args *resp.Args) {
	args.AddInt(l.From.UnixMilli())
	args.AddInt(l.Till.UnixMilli())
	args.AddInt(int64(l.Numbers() + len(l.unreturned)))
	args.AddInt(int64(l.Limits))
	for _, field := range append(l.fields(), l.unreturned...) {
		args.AddString(field)
	}
}

// A Counter is a pair of numbers that Redis has of a window.
type Counter struct {
	Name string // see CounterName
	// Extra: by how much the units exceed the requests, instead of the requests.
	Extra bool
	// Shared: of the pool of a member's organisation.
	Shared bool
}

// Fields returns the fields with what is used and with what is held.
func (c Counter) Fields() (used, held string) {
	if c.Extra {
		return "extra/" + c.Name, "heldextra/" + c.Name
	}
	return "used/" + c.Name, "held/" + c.Name
}

// A PoolBlock is what a script on a member's hash and on the pool of the organisation is told about
// the pool: ARGV[block] to the last one. It comes after all other arguments.
type PoolBlock struct {
	Account string // of the pool
	Assumed string // as CommonArgs has it
	// Endpoint and Windows say where reserve.lua holds the request in the pool. No windows: nowhere.
	Endpoint string
	Windows  []quota.Window
	Counters []Counter // those of the Layout
}

// AppendTo appends the arguments.
func (b *PoolBlock) AppendTo(args *resp.Args) {
	block := args.Len() + 1
	assumption := ParseAssumption(b.Assumed)
	args.AddString(b.Account)
	args.AddString(assumption.Override)
	if assumption.HasTerms {
		args.AddString(assumption.Terms)
	} else {
		args.AddString(anyTerms)
	}
	if len(b.Windows) > 0 {
		args.AddString(heldIn(b.Endpoint, b.Windows))
	} else {
		args.AddString("")
	}
	for i, c := range b.Counters {
		if c.Shared {
			args.AddInt(int64(i + 1))
		}
	}
	args.AddInt(int64(block))
}

// A Reply is what a script returned.
type Reply struct {
	Code Code
	Time time.Time // Redis's clock with the offset, to the millisecond
	// Expired is how many leases the call has found to have run out.
	Expired int64
	// Assumed is what the gateway should have assumed, see CommonArgs; only with Outdated.
	// PoolAssumed is that of the pool, if the script was given one.
	Assumed, PoolAssumed string
	// AttemptWait is how long until the user has an attempt again; only with Throttled.
	AttemptWait time.Duration
	// Lease is that of the request, and PoolLease the one in its pool, empty without a pool. Both come only with Held.
	Lease, PoolLease string
	// Numbers has used and held for each pair of the Layout, used for each other counter of it, and
	// then, unless nothing is granted, what is granted to each limit.
	Numbers []int64
	// Recorded says that a crossing of the account was recorded, and RecordedInPool one of the pool.
	Recorded, RecordedInPool bool
	// NoRest says that a reservation which was to leave a rest leaves none.
	NoRest bool
}

// ParseReply reads the reply to a script that was given a Layout with so many numbers and limits.
func ParseReply(reply *resp.Reply, numbers, limits int) (Reply, error) {
	n := reply.Numbers
	var r Reply
	if len(n) > 0 && Code(n[0]) >= recorded {
		r.NoRest = Code(n[0]) >= noRest
		r.RecordedInPool = Code(n[0])%noRest >= recordedInPool
		r.Recorded = Code(n[0])%recordedInPool >= recorded
		n[0] %= int64(recorded)
	}
	if len(n) > 3 && (Code(n[0]) == Throttled || Code(n[0]) == Held) {
		r.AttemptWait = time.Duration(n[len(n)-1]) * time.Microsecond // a lease is a text, and 0 here
		n = n[:len(n)-1]
	}
	want := 3 + numbers
	if len(n) < 3 || Code(n[0]) != Outdated && len(n) != want && len(n) != want+limits {
		return Reply{}, fmt.Errorf("a script of the store returned %d values, want %d", len(reply.Numbers), want)
	}
	r.Code, r.Time, r.Expired, r.Numbers = Code(n[0]), time.UnixMilli(n[1]), n[2], n[3:]
	text, ofPool, _ := strings.Cut(reply.Text, poolSeparator)
	if r.Code == Held {
		r.Lease, r.PoolLease = text, ofPool
	} else {
		r.Assumed, r.PoolAssumed = text, ofPool
	}
	return r, nil
}
