package redisstore

import (
	"slices"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// A layout is what the gateway assumes about the windows of a plan, and where the counts are
// that the plan needs, encoded for the scripts. It is the same for all users of the plan until
// one of the windows ends, so it is made once and not for each request.
type layout struct {
	windows    []quota.Window
	from, till time.Time // while all of them run
	limits     int
	counts     []quota.Count // for each counter of the plan, without its numbers
	// requests has, for each counter of the plan, the index of its requests among the counters
	// in Redis, and extra that of what its units exceed them by; -1: it counts requests. Several
	// counters of a plan may be the same one in Redis.
	requests, extra []int
	counters        int // in Redis
	// allowed is what each limit of the plan allows in its window, without grants.
	allowed []int64
	args    resp.Args
}

// endOfTime is after the end of all windows, and exact in Lua, whose numbers are float64.
var endOfTime = time.UnixMilli(1 << 52)

// newLayout lays out the windows that must run, and those in which the counts of a plan are
// wanted, of an account with these terms. A nil plan has none.
func newLayout(running []quota.Window, p *quota.Plan, wanted []quota.Window, terms quota.Terms) *layout {
	l := &layout{windows: running, from: time.UnixMilli(0), till: endOfTime}
	for _, w := range running {
		if w.Start.After(l.from) {
			l.from = w.Start
		}
		if w.End.Before(l.till) {
			l.till = w.End
		}
	}
	var counters []script.Counter
	add := func(c script.Counter) int {
		i := slices.Index(counters, c)
		if i < 0 {
			i = len(counters)
			counters = append(counters, c)
		}
		return i
	}
	if p != nil {
		l.limits = len(p.Limits())
		for i, c := range p.Counters() {
			w := windowOfPeriod(c.Period, wanted)
			l.counts = append(l.counts, quota.Count{Window: w})
			if i < l.limits { // a script finds it by the limit's index
				limit := p.Limits()[i]
				l.counts[i].Carried, _ = terms.Carried(w.ID, limit)
				l.allowed = append(l.allowed, limit.AllowedIn(w)+l.counts[i].Carried)
				counters = append(counters, script.Counter{Name: script.CounterName(w.ID, c.Endpoint), Extra: c.Quantity == quota.Units})
			}
		}
		for i, c := range p.Counters() {
			name := script.CounterName(l.counts[i].Window.ID, c.Endpoint)
			l.requests, l.extra = append(l.requests, add(script.Counter{Name: name})), append(l.extra, -1)
			if c.Quantity == quota.Units {
				l.extra[i] = add(script.Counter{Name: name, Extra: true})
			}
		}
	}
	l.counters = len(counters)
	encoded := script.Layout{From: l.from, Till: l.till, Counters: counters, Limits: l.limits}
	encoded.AppendTo(&l.args)
	return l
}

// countsOf returns the counts with the numbers that a script has returned.
func (l *layout) countsOf(numbers []int64) []quota.Count {
	counts := slices.Clone(l.counts)
	grants := numbers[2*l.counters:]
	for i, at := range l.requests {
		counts[i].Used, counts[i].Held = numbers[2*at], numbers[2*at+1]
		if extra := l.extra[i]; extra >= 0 {
			counts[i].Used += numbers[2*extra]
			counts[i].Held += numbers[2*extra+1]
		}
		if i < len(grants) {
			counts[i].Granted = grants[i]
		}
	}
	return counts
}

func windowOfPeriod(per quota.Period, windows []quota.Window) quota.Window {
	for _, w := range windows {
		if w.Period == per {
			return w
		}
	}
	panic("redisstore: no window per " + per.String())
}

// maxLayouts bounds the layouts that are kept, of about 1 KiB each. Plans that a reload has replaced
// leave theirs behind.
const maxLayouts = 2048

// layouts holds the last layout of each plan and terms.
type layouts struct {
	mu     sync.RWMutex
	byPlan map[layoutKey]*layout
}

// A layoutKey says whose layout it is. Nearly all accounts have no terms, and many that have some
// have the same.
type layoutKey struct {
	plan  *quota.Plan
	terms string
}

// forPlan returns the layout of a plan at a time, for an account with these terms.
func (ls *layouts) forPlan(p *quota.Plan, terms quota.Terms, text string, at time.Time, calendar *quota.Calendar) *layout {
	key := layoutKey{p, text}
	ls.mu.RLock()
	l := ls.byPlan[key]
	ls.mu.RUnlock()
	if l != nil && !at.Before(l.from) && at.Before(l.till) {
		return l
	}
	windows := terms.WindowsAt(calendar, p.Periods(), at)
	l = newLayout(windows, p, windows, terms)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byPlan == nil || len(ls.byPlan) >= maxLayouts {
		ls.byPlan = map[layoutKey]*layout{}
	}
	ls.byPlan[key] = l
	return l
}
