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
	args            resp.Args
}

// endOfTime is after the end of all windows, and exact in Lua, whose numbers are float64.
var endOfTime = time.UnixMilli(1 << 52)

// newLayout lays out the windows that must run, and those in which the counts of a plan are
// wanted. A nil plan has none.
func newLayout(running []quota.Window, p *quota.Plan, wanted []quota.Window) *layout {
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

// maxLayouts bounds the layouts that are kept. Plans that a reload has replaced leave theirs
// behind.
const maxLayouts = 256

// layouts holds the last layout of each plan.
type layouts struct {
	mu     sync.RWMutex
	byPlan map[*quota.Plan]*layout
}

// forPlan returns the layout of a plan at a time.
func (ls *layouts) forPlan(p *quota.Plan, at time.Time, calendar *quota.Calendar) *layout {
	ls.mu.RLock()
	l := ls.byPlan[p]
	ls.mu.RUnlock()
	if l != nil && !at.Before(l.from) && at.Before(l.till) {
		return l
	}
	windows := calendar.WindowsAt(p.Periods(), at)
	l = newLayout(windows, p, windows)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byPlan == nil || len(ls.byPlan) >= maxLayouts {
		ls.byPlan = map[*quota.Plan]*layout{}
	}
	ls.byPlan[p] = l
	return l
}
