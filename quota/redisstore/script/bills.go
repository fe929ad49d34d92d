package script

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed hours.lua
var hoursLua string

//go:embed bill.lua
var billLua string

//go:embed endbills.lua
var endBillsLua string

// Bill is bill.lua, and EndBills is endbills.lua. ParseBills reads the text of a reply of Bill.
var (
	Bill     = redis.NewScript(commonLua + hoursLua + billLua)
	EndBills = redis.NewScript(commonLua + hoursLua + endBillsLua)
)

// hourField returns the field with what is counted of an endpoint in an hour.
func hourField(hour quota.BillHour, endpoint string) string {
	return "bill/" + strconv.FormatInt(int64(hour), 10) + "/" + endpoint
}

// hourEnds returns when the numbers of an hour end if so many hours are kept, see quota.BillHour.IsKept.
func hourEnds(hour quota.BillHour, hours int) time.Time {
	return (hour + quota.BillHour(hours)).Start()
}

// revisionLife is how long the last revision of an account is kept: longer than counts can still reach an
// hour that has a bill, however long hours are kept by then.
const revisionLife = (quota.MaxBillingHours + 48) * time.Hour

// BillArgs are the arguments of bill.lua, after User and a Layout without counters.
type BillArgs struct {
	quota.BillQuery     // its Progress is not used
	BillingHours    int // that are kept, 1 or more
}

// AppendTo appends the arguments.
func (a *BillArgs) AppendTo(args *resp.Args) {
	args.AddInt(int64(max(0, a.Since)))
	args.AddInt(int64(a.Before))
	args.AddInt(int64(a.BillingHours))
	if a.DryRun {
		args.AddInt(1)
	} else {
		args.AddInt(0)
	}
	args.AddInt(revisionLife.Milliseconds())
}

// ParseBills reads the text of a reply of bill.lua.
func ParseBills(text string) (found quota.AccountBills, err error) {
	_, text, _ = strings.Cut(text, "\n") // the override
	var lines string
	found.Account, lines, _ = strings.Cut(text, "\n")
	if lines == "?" {
		return found, errors.New("the field bills is damaged")
	}
	for line := range strings.Lines(lines) {
		b, ok := parseBill(strings.Fields(line))
		if !ok {
			return found, fmt.Errorf("the field bills has the line %.100q", line)
		}
		if b.Used != (quota.Used{}) {
			found.Bills = append(found.Bills, b)
		}
	}
	return found, nil
}

// parseBill reads "H E C R".
func parseBill(words []string) (b quota.Bill, ok bool) {
	if len(words) != 4 {
		return b, false
	}
	hour, hourErr := strconv.ParseInt(words[0], 10, 64)
	used, usedErr := parseUsed(words[2])
	revision, revisionErr := strconv.ParseInt(words[3], 10, 64)
	b = quota.Bill{Endpoint: words[1], Hour: quota.BillHour(hour), Revision: revision, Used: used}
	return b, errors.Join(hourErr, usedErr, revisionErr) == nil && revision > 0
}

// EndBillsArgs are the arguments of endbills.lua, after User and a Layout without counters.
type EndBillsArgs struct {
	BillingHours int // that are kept, 1 or more
	Bills        []quota.Bill
}

// AppendTo appends the arguments.
func (a *EndBillsArgs) AppendTo(args *resp.Args) {
	args.AddInt(int64(a.BillingHours))
	for _, b := range a.Bills {
		args.AddString(fmt.Sprintf("%d %s %d", b.Hour, b.Endpoint, b.Revision))
	}
}
