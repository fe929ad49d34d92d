package script

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"metergate/quota"
	"metergate/quota/record"
)

// FormatAccount returns the arguments of put.lua after the first two, and when the key ends; zero: never. It leaves out what has
// ended at now, which is Redis's time. none: nothing is left.
func FormatAccount(a record.Account, v record.View, now time.Time) (fields []any, ends time.Time, none bool, err error) {
	a, windows, err := v.Live(a, now)
	if err != nil {
		return nil, ends, false, fmt.Errorf("%w: account %q: %w", quota.ErrUserData, a.Name, err)
	}
	f := recordFormatter{account: &a, fields: map[string]string{}, first: time.UnixMilli(math.MaxInt64)}
	f.windows(windows, v.Keep)
	f.plan()
	f.log(v.Keep)
	f.days()
	f.bills(now)
	f.events()
	for _, s := range a.Settled {
		field := MarkerField(s.ID)
		if s.Rest {
			field = RestMarkerField(s.ID)
		}
		f.fields[field] = f.until(s.Until)
	}
	if len(f.fields) == 0 {
		return nil, ends, true, nil
	}
	f.fields[FieldUser] = a.Name
	switch {
	case a.Override.Plan != "" && a.Override.Until.IsZero():
	case f.last.IsZero():
		ends = now.Add(v.Keep) // what is left has no end of its own
	default:
		ends = f.last.Add(grace)
	}
	if !f.last.IsZero() {
		f.fields["sweep"] = formatTime(f.first)
	}
	for _, field := range slices.Sorted(maps.Keys(f.fields)) {
		fields = append(fields, field, f.fields[field])
	}
	return fields, ends, false, nil
}

// A recordFormatter makes the fields of a hash.
type recordFormatter struct {
	account     *record.Account
	fields      map[string]string
	first, last time.Time // the ends of fields; last is zero if none ends
}

func formatTime(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// until notes that a field ends, and returns when.
func (f *recordFormatter) until(t time.Time) string {
	if t.Before(f.first) {
		f.first = t
	}
	if t.After(f.last) {
		f.last = t
	}
	return formatTime(t)
}

func (f *recordFormatter) setNumber(field string, n int64) {
	if n != 0 {
		f.fields[field] = strconv.FormatInt(n, 10)
	}
}

func (f *recordFormatter) windows(windows []quota.Window, keep time.Duration) {
	var grantsEnd time.Time
	for i, w := range f.account.Windows {
		retain := windows[i].RetainedUntil(keep)
		f.fields["retain/"+w.ID] = f.until(retain)
		f.setNumber("rearmed/"+w.ID, w.Rearmed)
		for _, c := range w.Counters {
			name := CounterName(w.ID, c.Endpoint)
			f.setNumber("used/"+name, c.Requests)
			f.setNumber("extra/"+name, c.Extra)
			f.setNumber(GrantField(name, quota.Requests), c.GrantedRequests)
			f.setNumber(GrantField(name, quota.Units), c.GrantedUnits)
			if c.GrantedRequests+c.GrantedUnits > 0 && retain.After(grantsEnd) {
				grantsEnd = retain
			}
		}
	}
	if !grantsEnd.IsZero() {
		f.fields["grants"] = f.until(grantsEnd)
	}
}

func (f *recordFormatter) plan() {
	for field, value := range map[string]string{FieldClaimed: f.account.ClaimedPlan, FieldTerms: f.account.Terms} {
		if value != "" {
			f.fields[field] = value
		}
	}
	if o := f.account.Override; o.Plan != "" {
		until := "0"
		if !o.Until.IsZero() {
			until = f.until(o.Until)
		}
		f.fields[FieldPlan] = until + " " + o.Plan
	}
}

// log formats the audit log, and the IDs of changes.
func (f *recordFormatter) log(keep time.Duration) {
	if n := len(f.account.Audit); n > 0 {
		text := f.until(f.account.Audit[n-1].At.Add(keep))
		for _, e := range slices.Backward(f.account.Audit) {
			text += "\n" + formatTime(e.At) + " " + e.JSON
		}
		f.fields[FieldAudit] = text
	}
	for _, c := range f.account.Changes {
		f.fields["once/"+c.ID] = f.until(c.Until) + " " + c.Fingerprint
	}
}

// longField is how long the fields days and bills are at least, see days.lua.
const longField = "%-65s"

// days formats the history. The newest day has fields, those before it have lines.
func (f *recordFormatter) days() {
	if len(f.account.History) == 0 {
		return
	}
	newest, lines, endpoints := quota.Date(0), map[string]map[quota.Date]quota.Used{}, ""
	for _, d := range f.account.History {
		newest = max(newest, d.Date)
	}
	for _, d := range f.account.History {
		if d.Date != newest {
			if lines[d.Endpoint] == nil {
				lines[d.Endpoint] = map[quota.Date]quota.Used{}
			}
			lines[d.Endpoint][d.Date] = d.Used
			continue
		}
		endpoints += " " + d.Endpoint
		field := dayField(newest, d.Endpoint)
		f.setNumber(field, d.Used.Requests)
		f.setNumber("dayextra"+strings.TrimPrefix(field, "day"), d.Used.Units-d.Used.Requests)
	}
	text := fmt.Sprintf("%s %d%s", f.until(dayEnds(newest, quota.MaxHistory)), newest, endpoints)
	for _, endpoint := range slices.Sorted(maps.Keys(lines)) {
		dates := slices.Sorted(maps.Keys(lines[endpoint]))
		first, last := dates[0], dates[len(dates)-1]
		counts := make([]string, last-first+1)
		for date, used := range lines[endpoint] {
			counts[date-first] = formatUsed(used)
		}
		text += fmt.Sprintf("\n%s %d %s", endpoint, first, strings.Join(counts, ","))
	}
	f.fields["days"] = fmt.Sprintf(longField, text)
}

// bills formats what is kept for bills, all of it as lines.
func (f *recordFormatter) bills(now time.Time) {
	a := f.account
	if len(a.Bills) == 0 && a.Revision == 0 {
		return
	}
	newest, till, text := quota.BillHour(0), a.RevisionUntil, ""
	for _, b := range a.Bills {
		newest = max(newest, b.Hour)
		if b.Revision == 0 {
			text += fmt.Sprintf("\n%d %s %s", b.Hour, b.Endpoint, formatUsed(b.Used))
		} else {
			text += fmt.Sprintf("\n#%d %s %s %d", b.Hour, b.Endpoint, formatUsed(b.Used), b.Revision)
		}
	}
	newest = cmp.Or(newest, quota.BillHourAt(now))
	if ends := hourEnds(newest, quota.MaxBillingHours); ends.After(till) {
		till = ends
	}
	f.fields["bills"] = fmt.Sprintf(longField, fmt.Sprintf("%s %d %d%s", f.until(till), a.Revision, newest, text))
}

func (f *recordFormatter) events() {
	var last time.Time
	text := ""
	for _, c := range f.account.Crossings {
		about, err := json.Marshal(crossingText{Plan: c.Plan, Limit: c.Limit, Unit: c.Unit, ResetsAt: c.ResetsAt})
		if err != nil {
			panic("script: " + err.Error()) // a time after the year 9999
		}
		text += fmt.Sprintf("\n%s %s %d %d %d %s", c.ID, formatTime(c.At), c.Used, c.Allowance, c.Threshold, about)
		if ends := c.At.Add(quota.CrossingLife); ends.After(last) {
			last = ends
		}
	}
	if text != "" {
		f.fields[FieldEvents] = f.until(last) + text
	}
}
