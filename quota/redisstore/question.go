package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

// The codes of a script's answer, see common.lua and change.lua.
const (
	codeOK int64 = iota
	codeRefused
	codeOutdated
	codeSettled
	codeUnheld
	codeThrottled
	codeExhausted
)

const (
	codeConflict int64 = iota + 10
	codeIDs
	codeNoLimit
	codeTooMany
)

// A question is one about a user, put to a script together with the gateway's view of
// him.
type question struct {
	script *redis.Script
	user   string
	// terms are his; zero: neither the plan nor any number matters.
	terms quota.Terms
	// kinds are the windows that have to hold; nil: those of the plan.
	kinds func(*quota.Plan) []quota.Per
	// silent: no numbers are asked for.
	silent bool
	// at is when to look at the numbers; zero: now.
	at time.Time
	// own appends the script's own arguments; nil: there are none. It is called again
	// when the view was not right.
	own func(args []any, p *quota.Plan, windows []quota.Window) []any
}

func always(own []any) func([]any, *quota.Plan, []quota.Window) []any {
	return func(args []any, _ *quota.Plan, _ []quota.Window) []any { return append(args, own...) }
}

// An answer is what a script said: the time and one count for each counter of the
// plan. Plan and windows are those that it was asked about; they are there also when
// it did not answer.
type answer struct {
	code     int64
	plan     *quota.Plan
	override quota.Override
	windows  []quota.Window
	at       time.Time
	counts   []quota.Count
	wait     time.Duration // for an attempt; only with codeThrottled
}

func (a answer) snapshot() quota.Snapshot {
	s := a.plan.NewSnapshot(a.at, a.counts)
	s.Override = a.override
	return s
}

// ask puts a question with the windows of Redis's time and the user's override, both
// as last seen, and once or twice more when they do not hold.
func (s *Store) ask(ctx context.Context, q question) (answer, error) {
	key := s.key(q.user)
	at, believed := s.Now(), "*"
	if q.terms.Claimed != nil {
		believed = s.overrides.of(q.user)
	}
	var a answer
	for range 3 {
		var counters []quota.Counter
		var kinds []quota.Per
		limits := 0
		if q.terms.Claimed != nil {
			a.override = parseOverride(believed)
			a.plan = q.terms.Plan(a.override)
			kinds = a.plan.Kinds()
			if !q.silent {
				counters, limits = a.plan.Counters(), len(a.plan.Limits())
			}
		}
		if q.kinds != nil {
			kinds = q.kinds(a.plan)
		}
		a.windows = s.calendar.Windows(kinds, at)
		// What must hold, and where to look, are the same but for a look at the past.
		holding, looking := a.windows, a.windows
		if !q.at.IsZero() {
			holding, looking = nil, s.calendar.Windows(kinds, q.at)
		}
		args := s.args(q.user, believed, holding, counters, limits, looking)
		if q.own != nil {
			args = q.own(args, a.plan, a.windows)
		}
		res, err := s.script(ctx, q.script, key, args)
		if err != nil {
			return a, err
		}
		r, err := parseReply(res, 2*len(counters), limits)
		if err != nil {
			return a, err
		}
		s.expired.Add(r.expired)
		at = r.at.In(s.calendar.Location())
		s.ahead.Store(int64(at.Sub(res.sent.Add(res.received.Sub(res.sent) / 2))))
		if r.code == codeOutdated {
			if believed != "*" {
				believed = r.override
				s.overrides.note(q.user, believed)
			}
			continue
		}
		a.code, a.at, a.wait = r.code, at, r.wait
		a.counts = make([]quota.Count, len(counters))
		for i, c := range counters {
			a.counts[i] = quota.Count{Window: windowOf(c.Per, looking), Used: r.numbers[2*i], Held: r.numbers[2*i+1]}
			if i < limits && len(r.numbers) > 2*len(counters) { // else there are no grants
				a.counts[i].Granted = r.numbers[2*len(counters)+i]
			}
		}
		return a, nil
	}
	return a, errors.New("the store's clock or the user's plan changed three times during one call")
}

// args lays out the view, see common.lua.
func (s *Store) args(user, override string, holding []quota.Window, counters []quota.Counter, limits int, looking []quota.Window) []any {
	const own = 12 // room for the script's own arguments, as most calls have them
	args := make([]any, 0, 6+4*len(holding)+len(counters)+own)
	args = append(args, s.offset().Milliseconds(), user, override, len(holding))
	for _, w := range holding {
		args = append(args, w.ID, w.Start.UnixMilli(), w.End.UnixMilli(), w.Retain(s.keep).UnixMilli())
	}
	args = append(args, len(counters), limits)
	for _, c := range counters {
		args = append(args, counterName(c, looking))
	}
	return args
}

// counterName is W or W/E, as common.lua has it.
func counterName(c quota.Counter, windows []quota.Window) string {
	name := windowOf(c.Per, windows).ID
	if c.Endpoint != "" {
		name += "/" + c.Endpoint
	}
	return name
}

func windowOf(per quota.Per, windows []quota.Window) quota.Window {
	for _, w := range windows {
		if w.Per == per {
			return w
		}
	}
	panic("redisstore: no window per " + strconv.Quote(per.String()))
}

// A reply is what the result of a script means.
type reply struct {
	code     int64
	at       time.Time
	expired  int64         // leases that were found to have run out
	override string        // with codeOutdated
	wait     time.Duration // with codeThrottled
	numbers  []int64
}

// parseReply reads a result of code, time, expired leases, so many numbers and perhaps
// so many grants, or one that says that the view is outdated.
func parseReply(res result, numbers, grants int) (r reply, err error) {
	n := res.numbers
	if len(n) > 3 && n[0] == codeThrottled {
		r.wait = time.Duration(n[len(n)-1]) * time.Microsecond
		n = n[:len(n)-1]
	}
	if len(n) < 3 || n[0] != codeOutdated && len(n) != 3+numbers && len(n) != 3+numbers+grants {
		return r, fmt.Errorf("a script of the store answered %d values, want %d", len(res.numbers), 3+numbers)
	}
	r.code, r.at, r.expired, r.override, r.numbers = n[0], time.UnixMilli(n[1]), n[2], res.text, n[3:]
	return r, nil
}
