package billing

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxFaults bounds the Faults of a Report.
	maxFaults = 20
	// maxFaultGroups bounds what is kept of refused events.
	maxFaultGroups = 10000
	// maxNames is how many customers or endpoints a fault names.
	maxNames = 5
)

// A fault is the refused events that have the customer and the reason in common, or, if these are many
// customers, the reason alone.
type fault struct {
	who, endpoints []string
	customers      int // of which who has the first
	events         int64
	first, last    time.Time
	why            string
}

// faults are those of a run, in the order in which they were found.
type faults struct {
	list []*fault
	by   map[[2]string]*fault // by customer and reason
	more int64                // events of which nothing is kept
}

// add adds an event.
func (f *faults) add(who string, b Bill, why string) {
	key := [2]string{who, why}
	of := f.by[key]
	if of == nil {
		if len(f.list) == maxFaultGroups {
			f.more++
			return
		}
		if f.by == nil {
			f.by = map[[2]string]*fault{}
		}
		of = &fault{why: why}
		f.by[key], f.list = of, append(f.list, of)
	}
	of.join(&fault{[]string{who}, []string{b.Endpoint}, 0, 1, b.Hour, b.Hour, why})
	of.customers = 1
}

func (f *fault) join(of *fault) {
	if f.events == 0 || of.first.Before(f.first) {
		f.first = of.first
	}
	if of.last.After(f.last) {
		f.last = of.last
	}
	f.events += of.events
	f.customers += of.customers
	f.who, f.endpoints = joinNames(f.who, of.who), joinNames(f.endpoints, of.endpoints)
}

// joinNames keeps one name more than is shown.
func joinNames(names, more []string) []string {
	for _, name := range more {
		if len(names) <= maxNames && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// lines returns a line for each fault, the first of them, and how many events the others have.
func (f *faults) lines() (lines []string, more int64) {
	byReason := map[string]*fault{}
	for _, of := range f.list {
		if byReason[of.why] == nil {
			byReason[of.why] = &fault{why: of.why}
		}
		byReason[of.why].join(of)
	}
	more = f.more
	shown := map[string]bool{} // reasons of many customers
	for _, of := range f.list {
		if all := byReason[of.why]; all.customers > maxNames {
			of = all
		}
		switch {
		case shown[of.why]:
		case len(lines) == maxFaults:
			more += of.events
			shown[of.why] = of.customers > 1
		default:
			lines = append(lines, of.String())
			shown[of.why] = of.customers > 1
		}
	}
	return lines, more
}

// String is the fault for people.
func (f *fault) String() string {
	who := strings.Join(f.who[:min(maxNames, len(f.who))], "; ")
	if more := f.customers - maxNames; more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	of := strings.Join(f.endpoints[:min(maxNames, len(f.endpoints))], " and ")
	if len(f.endpoints) > maxNames {
		of += " and others"
	}
	events := "1 event"
	if f.events > 1 {
		events = strconv.FormatInt(f.events, 10) + " events"
	}
	when := hourText(f.first)
	if !f.first.Equal(f.last) {
		when += " to " + hourText(f.last)
	}
	return fmt.Sprintf("%s: %s of %s, %s: %s", who, events, of, when, f.why)
}

func hourText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04Z") }
