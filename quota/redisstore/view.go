package redisstore

import (
	"slices"
	"sync"
	"time"

	"metergate/quota"
)

// A view is what the gateway believes of all users of a plan while no window turns, laid
// out for the scripts, see common.lua. It is made once, and not for each request.
type view struct {
	windows    []quota.Window
	from, till time.Time // when all of them hold
	limits     int
	counts     []quota.Count // for each counter of the plan, without its numbers
	// place is that of each counter among the pairs that a script answers, for several
	// may be the same.
	place []int
	pairs int
	args  args
}

// always ends after all windows, and is exact in Lua.
var always = time.UnixMilli(1 << 52)

// newView lays out windows that have to hold, and where to look for the numbers of a plan,
// nil: nowhere.
func newView(holding []quota.Window, p *quota.Plan, looking []quota.Window) *view {
	v := &view{windows: holding, from: time.UnixMilli(0), till: always}
	for _, w := range holding {
		if w.Start.After(v.from) {
			v.from = w.Start
		}
		if w.End.Before(v.till) {
			v.till = w.End
		}
	}
	var names []string
	if p != nil {
		v.limits = len(p.Limits())
		for _, c := range p.Counters() {
			w := windowOf(c.Period, looking)
			name := counterName(w, c.Endpoint)
			i := slices.Index(names, name)
			if i < 0 {
				i = len(names)
				names = append(names, name)
			}
			v.counts, v.place = append(v.counts, quota.Count{Window: w}), append(v.place, i)
		}
	}
	v.pairs = len(names)
	v.args.number(v.from.UnixMilli())
	v.args.number(v.till.UnixMilli())
	v.args.number(int64(2 * v.pairs))
	v.args.number(int64(v.limits))
	for _, name := range names {
		v.args.text("used/" + name)
		v.args.text("held/" + name)
	}
	return v
}

// filled are the counts with the numbers that a script answered: a pair each, then, if
// there are any, the grants.
func (v *view) filled(numbers []int64) []quota.Count {
	counts := slices.Clone(v.counts)
	grants := numbers[2*v.pairs:]
	for i, place := range v.place {
		counts[i].Used, counts[i].Held = numbers[2*place], numbers[2*place+1]
		if i < len(grants) {
			counts[i].Granted = grants[i]
		}
	}
	return counts
}

// counterName is W or W/E, as common.lua has it.
func counterName(w quota.Window, endpoint string) string {
	if endpoint == "" {
		return w.ID
	}
	return w.ID + "/" + endpoint
}

func windowOf(per quota.Period, windows []quota.Window) quota.Window {
	for _, w := range windows {
		if w.Period == per {
			return w
		}
	}
	panic("redisstore: no window per " + per.String())
}

// maxViews bounds the views that are kept: plans that a reload has replaced leave theirs.
const maxViews = 256

// views has the last one of each plan.
type views struct {
	mu     sync.RWMutex
	byPlan map[*quota.Plan]*view
}

// of returns the view of a plan at a time.
func (vs *views) of(p *quota.Plan, at time.Time, calendar *quota.Calendar) *view {
	vs.mu.RLock()
	v := vs.byPlan[p]
	vs.mu.RUnlock()
	if v != nil && !at.Before(v.from) && at.Before(v.till) {
		return v
	}
	windows := calendar.WindowsAt(p.Periods(), at)
	v = newView(windows, p, windows)
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if vs.byPlan == nil || len(vs.byPlan) >= maxViews {
		vs.byPlan = map[*quota.Plan]*view{}
	}
	vs.byPlan[p] = v
	return v
}
