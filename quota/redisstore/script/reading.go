package script

import (
	"slices"
	"strings"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

// A Reading is what a script reads of the counts: the fields of a Layout and, after them, some that are not
// returned. With the indexes of those that it changes, the script writes them all in one call instead of one call
// for each.
type Reading struct {
	// Args are those of the Layout, encoded.
	Args resp.Args
	// Indexes is the argument of that name of reserve.lua or settle.lua. It is empty if the script changes each
	// field in a call of its own.
	Indexes string
}

// Reading returns the Reading of a Layout in which a script changes some fields.
func (l Layout) Reading(fields []string) *Reading {
	r, all := new(Reading), l.fields()
	indexes := make([]byte, 1, 1+len(fields))
	for _, field := range fields {
		i := slices.Index(all, field)
		if i < 0 {
			i, all = len(all), append(all, field)
			l.unreturned = append(l.unreturned, field)
		}
		indexes = append(indexes, byte(i+1))
	}
	if len(all) > 255 {
		l.unreturned = nil
	} else if len(fields) > 0 {
		indexes[0] = byte(len(l.unreturned))
		r.Indexes = string(indexes)
	}
	l.AppendTo(&r.Args)
	return r
}

// fields returns the fields that are returned.
func (l *Layout) fields() (fields []string) {
	for i, c := range l.Counters {
		used, held := c.Fields()
		fields = append(fields, used)
		if i < l.Pairs {
			fields = append(fields, held)
		}
	}
	return fields
}

// HeldFields returns what reserve.lua changes for a request to an endpoint in some windows. A weighted request holds more than
// one unit.
func HeldFields(endpoint string, windows []quota.Window, weighted bool) (fields []string) {
	for _, extra := range []bool{false, true}[:parts(weighted)] {
		for _, w := range windows {
			_, all := Counter{Name: w.ID, Extra: extra}.Fields()
			_, one := Counter{Name: CounterName(w.ID, endpoint), Extra: extra}.Fields()
			fields = append(fields, all, one)
		}
	}
	return fields
}

// CountedFields returns what plainsettle.lua changes for such a request. Date 0 means that there is no history, and
// hour 0 that there are no bills.
func CountedFields(endpoint string, windows []quota.Window, date quota.Date, hour quota.BillHour, weighted bool) (fields []string) {
	for _, extra := range []bool{false, true}[:parts(weighted)] {
		for _, w := range windows {
			used, _ := Counter{Name: w.ID, Extra: extra}.Fields()
			one, _ := Counter{Name: CounterName(w.ID, endpoint), Extra: extra}.Fields()
			fields = append(fields, used, one)
		}
		var days []string
		if date != 0 {
			days = append(days, dayField(date, endpoint))
		}
		if hour != 0 {
			days = append(days, hourField(hour, endpoint))
		}
		for _, field := range days {
			if extra {
				field = strings.Replace(field, "/", "extra/", 1)
			}
			fields = append(fields, field)
		}
	}
	return append(fields, HeldFields(endpoint, windows, weighted)...)
}

// parts is how many numbers Redis has of each count: that of the requests and, if they are weighted, by how much their units
// exceed it.
func parts(weighted bool) int {
	if weighted {
		return 2
	}
	return 1
}
