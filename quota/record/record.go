// Package record has all that a store keeps of an account in a form that no store has for itself, so that accounts
// can be moved from one store to another and compared there.
//
// A store that can be moved implements [Store]. [Copy] moves all accounts, and [Compare] says which differ. Neither
// keeps more than some hundred accounts in memory.
//
// What ends with the requests themselves is in no record: holds, rests, places of requests that run, and token buckets of
// attempts. So no gateway may use either store meanwhile.
package record

import (
	"cmp"
	"context"
	"slices"
	"time"

	"metergate/quota"
)

// A Store is the part of a quota store that moves accounts.
//
// The methods MUST return an error that says so if there are data of a format that they do not know.
type Store interface {
	// ScanAccounts calls yield with all accounts that the store has, some at a time. An account that is there from
	// the start to the end of the scan MUST be yielded, and MAY be yielded more than once. An error of yield ends the
	// scan and is returned.
	ScanAccounts(ctx context.Context, yield func([]Account) error) error
	// ReadAccounts returns those of the accounts with these names that the store has, by name.
	ReadAccounts(ctx context.Context, names []string) (map[string]Account, error)
	// PutAccounts replaces whatever the store has of these accounts. It MUST replace an account in one step, or leave
	// it; and each MUST be as durable as a count when PutAccounts returns. Afterwards every call of quota.Store MUST
	// answer for the account as the store did that the record is from. Counts of windows that the store does not keep any more
	// MAY be left out, and so MAY Settled where reservations are settled by one process.
	PutAccounts(ctx context.Context, accounts []Account) error
	// DeleteAccounts drops accounts. Those that are not there change nothing.
	DeleteAccounts(ctx context.Context, names []string) error
	// Now is the store's clock.
	Now() time.Time
}

// An Account is what a store has of one account. Times are exact to the millisecond.
type Account struct {
	Name        string         // see quota.MemberAccount
	Override    quota.Override // of the plan; zero: none
	ClaimedPlan string         // that the token claimed when the account was last counted; empty: unknown
	Terms       string         // see quota.Terms.String
	Windows     []Window
	History     []Day
	// Bills are those that were not ended. With Revision 0: what is counted and in no bill yet.
	Bills []quota.Bill
	// Revision is the last one of a bill; 0: there was none. RevisionUntil is for how long it is remembered, about.
	Revision      int64
	RevisionUntil time.Time
	Audit         []Entry // the oldest first
	Changes       []ChangeID
	Crossings     []quota.Crossing // that nobody has ended, the oldest first
	Settled       []Settled
}

// A Window has the counters of one window of the account. One without counters says that something was counted in it, or granted
// for it: the account is not new.
type Window struct {
	ID      string // see quota.Window
	Rearmed int64  // see quota.CrossingID
	// Counters are for all endpoints together, with an empty name, and for each.
	Counters []Counter
}

// A Counter is what was used, and granted, of an endpoint in a window.
type Counter struct {
	Endpoint string
	// Requests were counted; Extra is by how much their units exceed their number, and may be negative.
	Requests, Extra int64
	// What was granted to limits on requests and on units.
	GrantedRequests, GrantedUnits int64
}

// A Day is what was used of an endpoint on a date.
type Day struct {
	Date     quota.Date
	Endpoint string
	Used     quota.Used
}

// An Entry is one of the audit log.
type Entry struct {
	At   time.Time
	JSON string // as quota.Change.Encode returns it
}

// A ChangeID is the ID of a change that is recognised when it comes again.
type ChangeID struct {
	ID, Fingerprint string
	Until           time.Time
}

// A Settled is the ID of a reservation that is settled: a call for it that comes late changes nothing.
type Settled struct {
	ID    string
	Rest  bool // its second step is
	Until time.Time
}

// A View says what of a record matters: for how long what is kept.
type View struct {
	Calendar *quota.Calendar
	Keep     time.Duration // of counts, see quota.Window.RetainedUntil
	// HistoryDays and BillingHours are how many are kept; 0: as many as can be.
	HistoryDays, BillingHours int
}

// Live returns the account without what has ended at a time, and its windows: one for each of a.Windows that is left. Errors are
// about the terms, and about windows that no calendar has.
func (v View) Live(a Account, at time.Time) (_ Account, windows []quota.Window, err error) {
	terms, err := quota.ParseTerms(a.Terms)
	if err != nil {
		return a, nil, err
	}
	all := a.Windows
	a.Windows = nil
	for _, w := range all {
		window, err := terms.WindowByID(v.Calendar, w.ID)
		if err != nil {
			return a, nil, err
		}
		if at.Before(window.RetainedUntil(v.Keep)) {
			windows, a.Windows = append(windows, window), append(a.Windows, w)
		}
	}
	a.Override = a.Override.ActiveAt(at)
	today, hour := v.Calendar.DateAt(at), quota.BillHourAt(at)
	a.History = keep(a.History, func(d Day) bool {
		return d.Date.IsKept(cmp.Or(v.HistoryDays, quota.MaxHistory), today) && d.Used != (quota.Used{})
	})
	a.Bills = keep(a.Bills, func(b quota.Bill) bool {
		return b.Hour.IsKept(cmp.Or(v.BillingHours, quota.MaxBillingHours), hour) && b.Used != (quota.Used{})
	})
	if !at.Before(a.RevisionUntil) {
		a.Revision = 0
	}
	a.Audit = keep(a.Audit, func(e Entry) bool { return at.Before(e.At.Add(v.Keep)) })
	a.Changes = keep(a.Changes, func(c ChangeID) bool { return at.Before(c.Until) })
	a.Crossings = keep(a.Crossings, func(c quota.Crossing) bool { return at.Before(c.At.Add(quota.CrossingLife)) })
	a.Settled = keep(a.Settled, func(s Settled) bool { return at.Before(s.Until) })
	return a, windows, nil
}

// Normal returns what of an account is live and what a call could tell, in an order that does not depend on the store. isEmpty:
// it is nothing.
func (v View) Normal(a Account, at time.Time) (_ Account, isEmpty bool, err error) {
	a, _, err = v.Live(a, at)
	if err != nil {
		return a, false, err
	}
	a.Windows = slices.Clone(a.Windows)
	for i := range a.Windows {
		w := &a.Windows[i]
		w.Counters = keep(w.Counters, func(c Counter) bool { return c != Counter{Endpoint: c.Endpoint} })
		slices.SortFunc(w.Counters, func(x, y Counter) int { return cmp.Compare(x.Endpoint, y.Endpoint) })
	}
	slices.SortFunc(a.Windows, func(x, y Window) int { return cmp.Compare(x.ID, y.ID) })
	slices.SortFunc(a.History, func(x, y Day) int { return cmp.Or(cmp.Compare(x.Date, y.Date), cmp.Compare(x.Endpoint, y.Endpoint)) })
	slices.SortFunc(a.Bills, func(x, y quota.Bill) int {
		return cmp.Or(cmp.Compare(x.Hour, y.Hour), cmp.Compare(x.Revision, y.Revision), cmp.Compare(x.Endpoint, y.Endpoint))
	})
	slices.SortFunc(a.Changes, func(x, y ChangeID) int { return cmp.Compare(x.ID, y.ID) })
	a.RevisionUntil, a.Settled = time.Time{}, nil
	some := len(a.Windows) + len(a.History) + len(a.Bills) + len(a.Audit) + len(a.Changes) + len(a.Crossings)
	return a, some == 0 && a.Override == (quota.Override{}) && a.Terms == "" && a.Revision == 0, nil
}

// keep returns the elements for which is is true; nil if there are none.
func keep[E any](all []E, is func(E) bool) (kept []E) {
	for _, e := range all {
		if is(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
