package redisstore

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// A layout is what the gateway assumes about the windows of a plan, and where the counts are
// that the plan needs, encoded for the scripts. It is the same for all users of the plan until
// one of the windows ends, so it is made once and not for each request.
type layout struct {
	windows, poolWindows []quota.Window // that are assumed to run
	date                 quota.Date     // likewise; 0: no history is kept
	hour                 quota.BillHour // likewise; 0: nothing is kept for bills
	from, till           time.Time      // while all of them run
	limits               int
	counts               []quota.Count // for each counter of the plan, without its numbers
	// requests has, for each counter of the plan, the index of its requests among the counters
	// in Redis, and extra that of what its units exceed them by; -1: it counts requests. Several
	// counters of a plan may be the same one in Redis.
	requests, extra []int
	inRedis         []script.Counter
	// pairs is how many of the counters in Redis are wanted with what is held: all but those of
	// endpoints, which come last.
	pairs   int
	numbers int // of all counters
	// allowed is what each limit of the plan allows in its window, without grants.
	allowed []int64
	// read is what a script reads that returns the counts, hold what reserve.lua reads, and settle what settle.lua
	// does for one reservation in these windows.
	read, hold, settle *script.Reading
	// alerts has, for each limit, its script.Alert in the window, encoded; nil: the plan has no thresholds.
	alerts []resp.Args
	// heldTerms and settledTerms are those of the last calls of functions, see plain.go; nil: there was none. The second settledTerms are
	// those of rests.
	heldTerms    atomic.Pointer[heldTerms]
	settledTerms [2]atomic.Pointer[resp.Args]
}

// laidOut has windows of the account and of its pool, one for each period of a plan, and the terms
// by which they were chosen.
type laidOut struct {
	windows, poolWindows []quota.Window
	terms, poolTerms     quota.Terms
	// day is that of the history; zero: it does not matter. date is its date.
	day  quota.Window
	date quota.Date
	// hour is that for bills; 0: it does not matter.
	hour quota.BillHour
}

// onDayOf has w include the day of a time for the history.
func (w *laidOut) onDayOf(at time.Time, calendar *quota.Calendar) {
	w.day, w.date = calendar.WindowAt(quota.Day, at), calendar.DateAt(at)
}

// layOut returns the windows of an outcome's plan that contain at.
func layOut(o *outcome, calendar *quota.Calendar, at time.Time) laidOut {
	return laidOut{
		windows: o.account.terms.WindowsAt(calendar, o.plan.Periods(), at), poolWindows: o.pool.terms.WindowsAt(calendar, o.plan.PoolPeriods(), at),
		terms: o.account.terms, poolTerms: o.pool.terms,
	}
}

// windowOf returns the window of a counter, and the terms of its account.
func (w *laidOut) windowOf(c quota.Counter) (quota.Window, *quota.Terms) {
	if c.Shared {
		return windowOfPeriod(c.Period, w.poolWindows), &w.poolTerms
	}
	return windowOfPeriod(c.Period, w.windows), &w.terms
}

// endOfTime is after the end of all windows, and exact in Lua, whose numbers are float64.
var endOfTime = time.UnixMilli(1 << 52)

// newLayout lays out the windows that must run, and those in which the counts of a plan are
// wanted. A nil plan has none. If plain has an endpoint, such requests are to be held and settled, by an account without a
// pool.
func newLayout(running laidOut, p *quota.Plan, wanted laidOut, plain plainRequests) *layout {
	l := &layout{from: time.UnixMilli(0), till: endOfTime, windows: running.windows, poolWindows: running.poolWindows, date: running.date, hour: running.hour}
	mustRun := slices.Concat(running.windows, running.poolWindows)
	if running.date != 0 {
		mustRun = append(mustRun, running.day)
	}
	if running.hour != 0 {
		mustRun = append(mustRun, quota.Window{Start: running.hour.Start(), End: (running.hour + 1).Start()})
	}
	for _, w := range mustRun {
		if w.Start.After(l.from) {
			l.from = w.Start
		}
		if w.End.Before(l.till) {
			l.till = w.End
		}
	}
	add := func(c script.Counter) int {
		i := slices.Index(l.inRedis, c)
		if i < 0 {
			i = len(l.inRedis)
			l.inRedis = append(l.inRedis, c)
		}
		return i
	}
	if p != nil {
		l.limits = len(p.Limits())
		for i, c := range p.Counters() {
			w, terms := wanted.windowOf(c)
			l.counts = append(l.counts, quota.Count{Window: w})
			if i < l.limits { // a script finds it by the limit's index
				limit := p.Limits()[i]
				l.counts[i].Carried, _ = terms.Carried(w.ID, limit)
				l.allowed = append(l.allowed, limit.AllowedIn(w)+l.counts[i].Carried)
				l.inRedis = append(l.inRedis, script.Counter{Name: script.CounterName(w.ID, c.Endpoint), Extra: c.Quantity == quota.Units, Shared: c.Shared})
			}
		}
		for i, c := range p.Counters() {
			if i == l.limits+1 { // after the limits and the total
				l.pairs = len(l.inRedis)
			}
			counter := script.Counter{Name: script.CounterName(l.counts[i].Window.ID, c.Endpoint), Shared: c.Shared}
			l.requests, l.extra = append(l.requests, add(counter)), append(l.extra, -1)
			if c.Quantity == quota.Units {
				counter.Extra = true
				l.extra[i] = add(counter)
			}
		}
	}
	if l.pairs == 0 {
		l.pairs = len(l.inRedis)
	}
	encoded := script.Layout{From: l.from, Till: l.till, Counters: l.inRedis, Limits: l.limits, Pairs: l.pairs}
	l.numbers = encoded.Numbers()
	l.read = encoded.Reading(nil)
	l.hold, l.settle = l.read, l.read
	if plain.endpoint != "" {
		l.hold = encoded.Reading(script.HeldFields(plain.endpoint, l.windows, plain.weighted))
		l.settle = encoded.Reading(script.CountedFields(plain.endpoint, l.windows, l.date, l.hour, plain.weighted))
	}
	if p != nil && len(p.NotifyAt()) > 0 {
		l.alerts = make([]resp.Args, l.limits)
		for i := range l.limits {
			alert := script.Alert{Plan: p, Limit: i, Window: l.counts[i].Window, Allowed: l.allowed[i], Pair: i + 1}
			if l.extra[i] >= 0 {
				alert.RequestsPair = l.requests[i] + 1
			}
			alert.AppendTo(&l.alerts[i])
		}
	}
	return l
}

// readingToSettle returns what is read to settle the only reservation of a query; nil: there are others.
func (l *layout) readingToSettle(r *quota.Reservation) *script.Reading {
	if r != nil && slices.Equal(r.Windows, l.windows) && r.Date == l.date && r.BillHour == l.hour {
		return l.settle
	}
	return l.read
}

// countsOf returns the counts with the numbers that a script has returned. It does not say what
// endpoints hold.
func (l *layout) countsOf(numbers []int64) []quota.Count {
	counts := slices.Clone(l.counts)
	grants := numbers[l.numbers:]
	add := func(i, at int) {
		if at >= l.pairs {
			counts[i].Used += numbers[l.pairs+at]
			return
		}
		counts[i].Used += numbers[2*at]
		counts[i].Held += numbers[2*at+1]
	}
	for i, at := range l.requests {
		add(i, at)
		if l.extra[i] >= 0 {
			add(i, l.extra[i])
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

// maxLayouts bounds the layouts that are kept, of a few KiB each with one endpoint and 10 KiB with 25. Plans that a reload has replaced
// leave theirs behind.
const maxLayouts = 2048

// layouts holds the last layout of each plan, endpoint and terms.
type layouts struct {
	mu     sync.RWMutex
	byPlan map[layoutKey]*layout
	// general: no request is plain. Only a test sets it, to compare.
	general bool
}

// A layoutKey says whose layout it is. Nearly all accounts have no terms, and many that have some
// have the same.
type layoutKey struct {
	plan             *quota.Plan
	plain            plainRequests
	terms, poolTerms string
}

// plainRequests are requests that may be plain: those to an endpoint, weighted ones, which hold more than one unit, or others.
// The zero value stands for all others.
type plainRequests struct {
	endpoint string
	weighted bool
}

// forPlan returns the layout of an outcome's plan for some requests at a time, with its day if there is a history, and
// with its hour if there are bills.
func (ls *layouts) forPlan(o *outcome, plain plainRequests, at time.Time, calendar *quota.Calendar, withDay, withHour bool) *layout {
	// Only accounts without an override and terms are plain. The others share one layout for all endpoints, and
	// Redis does not read what only a plain request changes.
	if o.pool.account != "" || o.account.text != "" || ls.general {
		plain = plainRequests{}
	}
	key := layoutKey{o.plan, plain, o.account.termsText, o.pool.termsText}
	ls.mu.RLock()
	l := ls.byPlan[key]
	ls.mu.RUnlock()
	if l != nil && !at.Before(l.from) && at.Before(l.till) {
		return l
	}
	return ls.add(key, o, at, calendar, withDay, withHour)
}

// add is forPlan for a layout that is not there. It is not inlined: see outcomes.
//
//go:noinline
func (ls *layouts) add(key layoutKey, o *outcome, at time.Time, calendar *quota.Calendar, withDay, withHour bool) *layout {
	running := layOut(o, calendar, at)
	if withDay {
		running.onDayOf(at, calendar)
	}
	if withHour {
		running.hour = quota.BillHourAt(at)
	}
	l := newLayout(running, o.plan, running, key.plain)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byPlan == nil || len(ls.byPlan) >= maxLayouts {
		ls.byPlan = map[layoutKey]*layout{}
	}
	ls.byPlan[key] = l
	return l
}
