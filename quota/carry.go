package quota

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A carry is what Terms have of a limit that carries, in one window. That it is there says that the
// account was on such a limit then.
//
// An account may be on several limits of one name in a window: another plan applies, or members of an
// organisation have different ones. The greatest numbers count for what moves on.
type carry struct {
	n      int64 // carried into the window
	amount int64 // the greatest Amount of these limits
	most   int64 // the greatest Carry of these limits
}

// String returns "N,AMOUNT,CARRY".
func (c carry) String() string {
	return strconv.FormatInt(c.n, 10) + "," + strconv.FormatInt(c.amount, 10) + "," + strconv.FormatInt(c.most, 10)
}

// parseCarry reads what String returns.
func parseCarry(text string) (c carry, ok bool) {
	words := strings.Split(text, ",")
	for i, number := range []*int64{&c.n, &c.amount, &c.most} {
		if i >= len(words) {
			return c, false
		}
		var err error
		if *number, err = strconv.ParseInt(words[i], 10, 64); err != nil || *number < 0 || *number > MaxAmount {
			return c, false
		}
	}
	return c, len(words) == 3
}

// carryKey names the counter of a limit in a window: "WINDOW/ENDPOINT", with "/u" for units.
func carryKey(windowID string, l Limit) string {
	key := windowID + "/" + l.Endpoint
	if l.Quantity == Units {
		key += "/u"
	}
	return key
}

// Carried is what was carried of a limit into a window, at most l.Carry and l.Amount: the plan may have
// changed since. It returns false if that was not worked out, or if the limit does not carry.
func (t Terms) Carried(windowID string, l Limit) (amount int64, ok bool) {
	if l.Carry == 0 {
		return 0, false
	}
	of, ok := t.carried[carryKey(windowID, l)]
	return min(of.n, l.Carry, l.Amount), ok
}

// CarryDue returns the limits of p, as indices, for which CarryOver is to be called at now.
func (t Terms) CarryDue(p *Plan, c *Calendar, now time.Time) (due []int) {
	if !p.carries {
		return nil
	}
	for i, l := range p.limits {
		if l.Carry == 0 {
			continue
		}
		of, known := t.carried[carryKey(t.WindowAt(c, l.Period, now).ID, l)]
		if !known || of.amount < l.Amount || of.most < l.Carry {
			due = append(due, i)
		}
	}
	return due
}

// CarryOver returns the terms with what is carried of a limit into its window at now, if that was not
// worked out before: what was unused in the window before, provided that the account was on a limit of
// that name that carries. before is what there is of the limit in that window, and counted has the IDs
// of all windows in which something is counted or granted.
func (t Terms) CarryOver(l Limit, before Count, counted []string, c *Calendar, now time.Time) Terms {
	running := t.WindowAt(c, l.Period, now)
	key := carryKey(running.ID, l)
	of, known := t.carried[key]
	if !known {
		of.n = t.unused(l, before, counted, c, running.Start)
	}
	of.amount, of.most = max(of.amount, l.Amount), max(of.most, l.Carry)
	t.carried = maps.Clone(t.carried)
	if t.carried == nil {
		t.carried = make(map[string]carry)
	}
	t.carried[key] = of
	return t
}

// unused is what moves on from the window before that which begins at a time.
func (t Terms) unused(l Limit, before Count, counted []string, c *Calendar, running time.Time) int64 {
	if !slices.ContainsFunc(counted, func(id string) bool {
		period, start, ok := c.startOf(id)
		return ok && !t.WindowAt(c, period, start).End.After(running)
	}) {
		return 0 // nothing was ever counted before
	}
	of, ok := t.carried[carryKey(before.Window.ID, l)]
	if !ok {
		if before.Used+before.Held > 0 || slices.ContainsFunc(counted, func(id string) bool {
			// In the window itself, something may have been granted alone.
			_, start, ok := c.startOf(id)
			return ok && !start.Before(before.Window.Start) && start.Before(running) && (id != before.Window.ID || l.Endpoint != "")
		}) {
			return 0 // there were requests, under a plan without such a limit
		}
		if of, ok = t.lastCarry(l, c, before.Window.Start); !ok {
			return 0
		}
		of.n = 0
	}
	if !l.Shared { // of a pool, any member may come first
		of.amount = min(of.amount, l.Amount)
	}
	before.Carried = min(of.n, of.most)
	return Limit{Amount: of.amount, Carry: of.most}.leftOver(before)
}

// leftOver returns what is left of a limit at the end of a window for the next one: at most l.Carry, and
// never what was carried into the window itself or granted for it. These are used up first.
func (l Limit) leftOver(before Count) int64 {
	amount := l.AllowedIn(before.Window)
	left := amount + before.Carried + before.Granted - before.Used - before.Held
	return max(0, min(left, amount, l.Carry))
}

// lastCarry returns what is known of a limit in the last window that began before a time.
func (t Terms) lastCarry(l Limit, c *Calendar, before time.Time) (last carry, ok bool) {
	_, name, _ := strings.Cut(carryKey("", l), "/")
	var lastStart time.Time
	for key, of := range t.carried {
		id, ofName, _ := strings.Cut(key, "/")
		period, start, found := c.startOf(id)
		if found && period == l.Period && ofName == name && start.Before(before) && (!ok || start.After(lastStart)) {
			last, lastStart, ok = of, start, true
		}
	}
	return last, ok
}

// pruneCarried returns what is known of the running windows, of those before them, and of the last one of
// each limit.
func (t Terms) pruneCarried(c *Calendar, now time.Time, keep time.Duration) map[string]carry {
	type limitName struct {
		period Period
		name   string
	}
	last := map[limitName]time.Time{}
	each := func(f func(key string, limit limitName, start time.Time)) {
		for key := range t.carried {
			id, name, _ := strings.Cut(key, "/")
			if period, start, ok := c.startOf(id); ok {
				f(key, limitName{period, name}, start)
			}
		}
	}
	each(func(_ string, limit limitName, start time.Time) {
		if start.After(last[limit]) {
			last[limit] = start
		}
	})
	var kept map[string]carry
	each(func(key string, limit limitName, start time.Time) {
		isLast := start.Equal(last[limit]) && !start.Before(t.pruneBefore(c, limit.period, now, keep))
		if isLast || !start.Before(t.WindowBefore(c, limit.period, now).Start) {
			if kept == nil {
				kept = map[string]carry{}
			}
			kept[key] = t.carried[key]
		}
	})
	return kept
}
