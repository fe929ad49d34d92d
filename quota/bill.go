package quota

import (
	"context"
	"strconv"
	"time"
)

// A BillHour is an hour of UTC: the number of hours since 1 January 1970. It is 0 where nothing is kept for
// billing.
type BillHour int64

// BillHourAt returns the hour of t.
func BillHourAt(t time.Time) BillHour { return BillHour(t.Unix() / int64(time.Hour/time.Second)) }

// Start is the first instant of h, in UTC.
func (h BillHour) Start() time.Time { return time.Unix(int64(h)*int64(time.Hour/time.Second), 0).UTC() }

// IsKept reports whether a store that keeps so many hours for billing, 0: none, takes counts of h at now.
func (h BillHour) IsKept(hours int, now BillHour) bool {
	return hours > 0 && h > 0 && h > now-BillHour(hours)
}

// MaxBillingHours is the most hours that can be kept for billing: receivers refuse what is older.
const MaxBillingHours = 35 * 24

// A Bill is a part of what an account has used of an endpoint in an hour: of the requests that were admitted
// in it. The parts with all revisions add up to what was counted. What administrators do to counts changes
// no bill. Pools have none: what they have used, members have used.
//
// A bill never changes once it was made, so it can be sent again, and a receiver knows it by its ID.
type Bill struct {
	Endpoint string
	Hour     BillHour
	// Revision is larger for each bill of an account that a later call of ScanBills has made, 1 or more.
	Revision int64
	Used     Used // Requests 0 or more, Units 0 or more; not both 0
}

// Bills is the part of a Store that hands over what was used, for billing. All of it returns ErrNotKept
// where nothing is kept for that.
type Bills interface {
	// ScanBills makes bills of what is counted in the hours that the query is about and is in no bill yet, and
	// calls yield for each account that has bills of these hours, also from earlier calls, until EndBills. The order is
	// the store's. It is not one consistent view. An error of yield ends the scan and is returned.
	ScanBills(ctx context.Context, q BillQuery, yield func(AccountBills) error) error
	// EndBills drops bills of an account: they were delivered. Those that are not there change nothing.
	EndBills(ctx context.Context, account string, bills []Bill) error
}

// A BillQuery says which bills are wanted.
type BillQuery struct {
	// Since is the first hour, 0: the oldest that is kept. Before is the one after the last. Bills of an
	// hour that is not over would be many.
	Since, Before BillHour
	// DryRun makes no bills: it yields the ones that there are, and those that would be made.
	DryRun bool
	// Progress is told at the start and now and then how many accounts of how many were looked at, both roughly; nil:
	// nobody is.
	Progress func(done, total int64)
}

// AccountBills has bills of an account, 1 or more.
type AccountBills struct {
	Account string
	Bills   []Bill
}

// Wants reports whether q is about an hour that a store, which keeps so many hours, has at now.
func (q BillQuery) Wants(h BillHour, hours int, now BillHour) bool {
	return h >= q.Since && h < q.Before && h.IsKept(hours, now)
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
