package script

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed crossings.lua
var crossingsLua string

// noCrossings stands before scripts that count in place of crossings.lua.
const noCrossings = "local caution, note_added, record_crossings, read_limit, highest, first_alert, last_alert_arg, ALERT_ARGS = nil, nil, nil, nil, 1, 1, 0, 1\n"

//go:embed events.lua
var eventsLua string

// Events is events.lua. ParseLeft reads the text of its reply.
var Events = redis.NewScript(commonLua + activityLua + eventsLua)

// FieldEvents is the field with the crossings of an account, see ParseEvents.
const FieldEvents = "events"

// An Alert is a limit of which a threshold may be crossed. AppendTo appends it for crossings.lua.
type Alert struct {
	Plan    *quota.Plan
	Limit   int // of the plan, by index
	Window  quota.Window
	Allowed int64 // what it allows in the window, without grants
	// Pair says which pair of the Layout's fields has what is used of it, and RequestsPair which one has the
	// requests, if it is on units. They begin at 1. 0: none has.
	Pair, RequestsPair int
	// Before is what the limit of this name has allowed until now, -1: there was none. It counts only with Changes:
	// the plan changes.
	Before  int64
	Changes bool
}

// AppendTo appends the arguments.
func (a *Alert) AppendTo(args *resp.Args) {
	limit := a.Plan.Limits()[a.Limit]
	counter := CounterName(a.Window.ID, limit.Endpoint)
	args.AddInt(int64(a.Pair))
	args.AddInt(int64(a.RequestsPair))
	if a.Plan.Counters()[a.Limit].Shared {
		args.AddInt(1)
	} else {
		args.AddInt(0)
	}
	args.AddString(limit.Quantity.String())
	args.AddString(counter)
	args.AddString(a.Window.ID)
	args.AddString(limit.Name())
	args.AddInt(a.Allowed)
	if a.Changes {
		args.AddInt(a.Before)
	} else {
		args.AddString("")
	}
	if a.Plan.GrantsRaise(a.Limit) {
		args.AddString(GrantField(counter, limit.Quantity))
	} else {
		args.AddString("")
	}
	about := crossingText{Plan: a.Plan.Name(), Limit: limit.Name(), Unit: quota.Requests.String()}
	if limit.Quantity == quota.Units {
		about.Unit = a.Plan.UnitName()
	}
	if a.Window.Renews() {
		about.ResetsAt = a.Window.End
	}
	text, err := json.Marshal(about)
	if err != nil {
		panic("script: " + err.Error()) // a window that ends after the year 9999
	}
	args.AddString(string(text))
}

// A crossingText is the JSON of a crossing in the field events.
type crossingText struct {
	Plan     string    `json:"plan"`
	Limit    string    `json:"limit"`
	Unit     string    `json:"unit"`
	ResetsAt time.Time `json:"resets_at,omitzero"`
}

// How cautious settle.lua is, see there.
type Caution int

// The degrees of caution.
const (
	SettleInAnyCase Caution = iota
	SettleIfRight
	SettleIfRightAndHeld
)

// AppendAlerts appends the arguments of crossings.lua. alerts appends the Alerts.
func AppendAlerts(args *resp.Args, caution Caution, thresholds []int, alerts func()) {
	first := args.Len() + 1
	args.AddInt(int64(caution))
	args.AddInt(quota.CrossingLife.Milliseconds())
	args.AddInt(int64(len(thresholds)))
	for _, t := range slices.Backward(thresholds) {
		args.AddInt(int64(t))
	}
	alerts()
	args.AddInt(int64(first))
}

// EventsArgs are the arguments of events.lua, after User and a Layout without counters.
type EventsArgs struct {
	IDs []string // of the crossings to end
}

// AppendTo appends the arguments.
func (a *EventsArgs) AppendTo(args *resp.Args) {
	args.AddInt(quota.CrossingLife.Milliseconds())
	for _, id := range a.IDs {
		args.AddString(id)
	}
}

// A Left is what events.lua has left.
type Left struct {
	Held   int64     // leases and rests
	Oldest time.Time // when the oldest crossing was recorded; zero if none is left
}

// ParseLeft reads the text of a reply of events.lua.
func ParseLeft(text string) (l Left, err error) {
	_, text, _ = strings.Cut(text, "\n") // the override
	var ms int64
	if _, err := fmt.Sscanf(text, "%d %d", &l.Held, &ms); err != nil {
		return l, fmt.Errorf("reading what is left of crossings: %w", err)
	}
	if ms != 0 {
		l.Oldest = time.UnixMilli(ms)
	}
	return l, nil
}

// ParseEvents reads the field events: the crossings of an account, the oldest first.
func ParseEvents(account, text string) (crossings []quota.Crossing, err error) {
	_, lines, _ := strings.Cut(text, "\n")
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.SplitN(line, " ", 6)
		bad := func() ([]quota.Crossing, error) {
			return nil, fmt.Errorf("%w: a crossing of %q cannot be read: %.200q", quota.ErrUserData, account, line)
		}
		if len(words) < 6 {
			return bad()
		}
		var numbers [4]int64
		for i := range numbers {
			if numbers[i], err = strconv.ParseInt(words[i+1], 10, 64); err != nil {
				return bad()
			}
		}
		var about crossingText
		if json.Unmarshal([]byte(words[5]), &about) != nil {
			return bad()
		}
		crossings = append(crossings, quota.Crossing{
			ID: words[0], Account: account, At: time.UnixMilli(numbers[0]).UTC(), Plan: about.Plan, Limit: about.Limit, Unit: about.Unit,
			Used: numbers[1], Allowance: numbers[2], Threshold: int(numbers[3]), ResetsAt: about.ResetsAt,
		})
	}
	return crossings, nil
}
