package redisstore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// scanBills returns the bills of all hours that are over, by account.
func scanBills(s *Store) (map[string][]quota.Bill, error) {
	bills := map[string][]quota.Bill{}
	err := s.ScanBills(ctx, quota.BillQuery{Before: quota.BillHourAt(s.Now())}, func(a quota.AccountBills) error {
		bills[a.Account] = append(bills[a.Account], a.Bills...)
		return nil
	})
	return bills, err
}

// billsOf shows the bills of an account: "report 2+3#1" for two requests, whose units exceed them by three.
func billsOf(t testing.TB, s *Store, account string) string {
	t.Helper()
	bills, err := scanBills(s)
	if err != nil {
		t.Errorf("ScanBills: %v", err)
	}
	return billsText(bills[account])
}

func billsText(bills []quota.Bill) string {
	slices.SortFunc(bills, func(a, b quota.Bill) int {
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Revision, b.Revision))
	})
	var texts []string
	for _, b := range bills {
		texts = append(texts, fmt.Sprintf("%s %d%+d#%d", b.Endpoint, b.Used.Requests, b.Used.Units-b.Used.Requests, b.Revision))
	}
	return strings.Join(texts, ", ")
}

// Everything of bills goes with the last of them, and not before: neither with the windows nor with the key.
func TestBillsLiveAsLongAsTheyAreKept(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, Keep: time.Hour, BillingHours: 48, Now: clock.Now, Offset: clock.Offset})
	p := quotatest.NewPlan("minutes", quota.Limit{Amount: 10, Period: quota.Minute})
	request := func() {
		t.Helper()
		d, err := s.Reserve(ctx, requestBy(p, "u"))
		if err == nil {
			_, err = s.Commit(ctx, &d.Reservation)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wantLife := func(want time.Duration) {
		t.Helper()
		left, err := commands(s).PTTL(ctx, key(s, "u")).Result()
		if err != nil || left < want || left > want+2*time.Hour {
			t.Errorf("the key lives for %v (error %v), want %v", left, err, want)
		}
	}
	fields := func() (fields []string) {
		for field := range userHash(t, s, "u") {
			if strings.HasPrefix(field, "bill") {
				fields = append(fields, field)
			}
		}
		return fields
	}
	request()
	wantLife(48 * time.Hour)
	clock.Advance(47 * time.Hour)
	if got := billsOf(t, s, "u"); got != "analyze 1+0#1" {
		t.Errorf("after 47 hours: %s", got)
	}
	life := (quota.MaxBillingHours + 48) * time.Hour // of the revision
	wantLife(life)
	clock.Advance(2 * time.Hour)
	if got := billsOf(t, s, "u"); got != "" {
		t.Errorf("after 49 hours: %s", got)
	}
	clock.Advance(life - 3*time.Hour)
	request()
	clock.Advance(time.Hour)
	if got := billsOf(t, s, "u"); got != "analyze 1+0#2" {
		t.Errorf("weeks later: %s", got)
	}
	clock.Advance(time.Hour)
	request()
	clock.Advance(life)
	wantState(t, s, "u", 0, 0) // sweeps
	if left := fields(); left != nil {
		t.Errorf("Redis has the fields %q", left)
	}
	request() // never billed
	clock.Advance(49 * time.Hour)
	wantState(t, s, "u", 0, 0)
	if left := fields(); left != nil {
		t.Errorf("Redis has the fields %q", left)
	}
}

// An older release that shares the Redis leaves bills alone, also when it sweeps.
func TestReleaseBesideBills(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openBilling(t, redistest.Start(t).URL(), clock, 48)
	use(t, s, "u", "analyze", 2)
	clock.Advance(time.Hour)
	use(t, s, "u", "report", 3)
	life := commands(s).PTTL(ctx, key(s, "u")).Val()
	scripts := releaseScripts(t)
	month := quota.NewCalendar(nil).WindowAt(quota.Month, clock.Now()).ID
	release := func(name string, own ...any) {
		t.Helper()
		args := append([]any{clock.Offset().Milliseconds(), "u", "*", 0, int64(1) << 52, 2, 1, "used/" + month, "held/" + month}, own...)
		if err := commands(s).Eval(ctx, scripts["common"]+scripts[name], []string{key(s, "u")}, args...).Err(); err != nil {
			t.Fatal(name, err)
		}
	}
	release("reserve", "lease/OLD", "done/OLD", "attempts/0/0", 60000, "analyze "+month, 0, 0, 0, "free", 100)
	clock.Advance(time.Hour)
	sweep := commands(s).HGet(ctx, key(s, "u"), "sweep").Val()
	release("read")
	if after := commands(s).HGet(ctx, key(s, "u"), "sweep").Val(); after == sweep {
		t.Error("the release has not swept")
	}
	if got := billsOf(t, s, "u"); got != "analyze 2+0#1, report 3+0#1" {
		t.Errorf("the bills are %s", got)
	}
	if left := commands(s).PTTL(ctx, key(s, "u")).Val(); left < life-time.Hour {
		t.Errorf("the key was to live for %v, and does for %v", life, left)
	}
}

// Bills of an account that cannot be read are an error that names it, after all other accounts were yielded. They
// do not keep requests from being counted, and for bills anew.
func TestDamagedBills(t *testing.T) {
	url := redistest.Start(t).URL()
	for _, damaged := range []string{
		"", "x", "1796515200000", "1796515200000 x", "1796515200000 0", "1796515200000 0 x analyze", "1796515200000 1 5\n#500 analyze 1 x",
		"99999999999999999999999999 9999999999999999999 9\n#9999999999999999999 a b c\n\n\n", "1796515200000 1 499000 analyze\n#499068 analyze 1,5 2", "1796515200000 1 499000\n499068 analyze x",
	} {
		clock := quotatest.NewClock(noon)
		s := openWith(t, Options{URL: url, Prefix: "test-" + quota.NewID(), Timeout: patient, BillingHours: 48, Now: clock.Now, Offset: clock.Offset})
		for _, user := range []string{"a", "damaged", "z"} {
			use(t, s, user, "analyze", 1)
		}
		if err := commands(s).HSet(ctx, key(s, "damaged"), "bills", damaged).Err(); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Hour)
		bills, err := scanBills(s)
		if err != nil && (!errors.Is(err, quota.ErrUserData) || !strings.Contains(err.Error(), `"damaged"`)) {
			t.Errorf("%q: error %v", damaged, err)
		}
		if billsText(bills["a"]) != "analyze 1+0#1" || billsText(bills["z"]) != "analyze 1+0#1" {
			t.Errorf("%q: the bills of others are %v", damaged, bills)
		}
		for range 3 {
			use(t, s, "damaged", "analyze", 1)
			use(t, s, "damaged", "report", 1)
			clock.Advance(time.Hour)
			if err := s.EndBills(ctx, "damaged", []quota.Bill{{Endpoint: "analyze", Hour: quota.BillHourAt(clock.Now()), Revision: 1}}); err != nil {
				t.Errorf("%q: %v", damaged, err)
			}
		}
		month := "used/" + s.calendar.WindowAt(quota.Month, clock.Now()).ID
		if got := commands(s).HGet(ctx, key(s, "damaged"), month).Val(); got != "7" {
			t.Errorf("%q: %s requests are counted, want 7", damaged, got)
		}
	}
}

// A damaged count of an hour does not keep a request from being counted once, and begins anew.
func TestDamagedHourIsCountedAnew(t *testing.T) {
	url := redistest.Start(t).URL()
	for i, damaged := range []string{"xx", "", "1.5", "9223372036854775807", "nan"} {
		clock := quotatest.NewClock(noon)
		s := openBilling(t, url, clock, 5)
		user := fmt.Sprint("user-", i)
		damage := func() {
			t.Helper()
			for _, field := range []string{"bill", "billextra"} {
				field = fmt.Sprintf("%s/%d/analyze", field, quota.BillHourAt(clock.Now()))
				if err := commands(s).HSet(ctx, key(s, user), field, damaged).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		charge := func() {
			t.Helper()
			r := requestBy(unlimited, user)
			r.Units = 3
			d, err := s.Reserve(ctx, r)
			if err != nil || !d.Admitted {
				t.Fatal(d.Admitted, err)
			}
			if _, err := s.Commit(ctx, &d.Reservation); err != nil {
				t.Errorf("%q: %v", damaged, err)
			}
		}
		charge()
		damage()
		charge()
		charge()
		clock.Advance(time.Hour)
		if got := billsOf(t, s, user); got != "analyze 2+4#1" {
			t.Errorf("%q: the bills are %q", damaged, got)
		}
		charge()
		damage()
		clock.Advance(time.Hour)
		charge()
		clock.Advance(time.Hour)
		if got := billsOf(t, s, user); got != "analyze 2+4#1, analyze 1+2#2" {
			t.Errorf("%q: then the bills are %q", damaged, got)
		}
	}
}

// Redis finds the fields of a list one by one, and those of a table at once.
func TestHashWithBillsIsATable(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openBilling(t, redistest.Start(t).URL(), clock, 48)
	for _, endpoint := range []string{"analyze", "report"} {
		for range 2 {
			use(t, s, "u", endpoint, 1)
			if got, err := commands(s).ObjectEncoding(ctx, key(s, "u")).Result(); err != nil || got != "hashtable" {
				t.Errorf("the hash is a %s, error %v", got, err)
			}
			// A restarted Redis makes a list of what fits into one.
			if n := len(commands(s).HGet(ctx, key(s, "u"), "bills").Val()); n < 65 {
				t.Errorf("the field bills has %d bytes", n)
			}
		}
		clock.Advance(time.Hour)
	}
	bills, err := scanBills(s)
	if err == nil {
		err = s.EndBills(ctx, "u", bills["u"])
	}
	if n := len(commands(s).HGet(ctx, key(s, "u"), "bills").Val()); err != nil || n != 65 {
		t.Errorf("when all are ended, the field bills has %d bytes, error %v", n, err)
	}
}

// Redis is killed in the middle of a scan, and replies are lost. What was yielded before stays as it was, and all
// adds up.
func TestBillsSurviveAKilledRedis(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	faultProxy := redistest.StartFaultProxy(t, server.Addr)
	s := openWith(t, Options{URL: faultProxy.URL(), Timeout: patient, BillingHours: 48})
	const users = 30
	for i := range users {
		use(t, s, fmt.Sprint("user-", i), "analyze", 2)
	}
	received := map[string]quota.Bill{}
	scan := func(yielded func()) error {
		return s.ScanBills(ctx, quota.BillQuery{Before: quota.BillHourAt(s.Now()) + 2}, func(a quota.AccountBills) error {
			for _, b := range a.Bills {
				id := fmt.Sprint(a.Account, b.Endpoint, b.Hour, b.Revision)
				if before, known := received[id]; known && before != b {
					t.Errorf("a bill of %s was %+v, and is %+v", a.Account, before, b)
				}
				received[id] = b
			}
			yielded()
			return nil
		})
	}
	// Each connection lasts longer than the one before, so that none is cut at the same step for ever.
	var mu sync.Mutex
	replies, lasts := 0, 7
	faultProxy.OnReply(func(redistest.Command, string) redistest.Fate {
		mu.Lock()
		defer mu.Unlock()
		if replies++; replies < lasts {
			return redistest.Pass
		}
		replies, lasts = 0, lasts+1
		return redistest.Cut
	})
	restarted := false
	for range 20 {
		if err := scan(func() {
			if !restarted && len(received) > users/3 {
				restarted = true
				faultProxy.OnReply(nil)
				server.Stop()
				server.Start()
			}
		}); err == nil && restarted {
			break
		}
	}
	if err := scan(func() {}); err != nil || !restarted {
		t.Errorf("the last scan: error %v; Redis was restarted: %v", err, restarted)
	}
	sum := int64(0)
	for _, b := range received {
		sum += b.Used.Requests
	}
	if sum != 2*users {
		t.Errorf("%d requests were billed, want %d", sum, 2*users)
	}
}

// Redis may return a key again, in the same reply or in a later one.
func TestBillsYieldARepeatedKeyOnce(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openBilling(t, redistest.Start(t).URL(), clock, 48)
	use(t, s, "u", "analyze", 1)
	use(t, s, "v", "analyze", 1)
	clock.Advance(time.Hour)
	var found []string
	sc := billScan{store: s, query: quota.BillQuery{Before: quota.BillHourAt(clock.Now())}, found: map[[16]byte]struct{}{}, yield: func(a quota.AccountBills) error {
		found = append(found, a.Account)
		return nil
	}}
	for _, keys := range [][]string{{key(s, "u"), key(s, "u")}, {key(s, "u")}, {key(s, "v"), key(s, "u")}} {
		if err := sc.yieldBills(ctx, keys); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(found) != "[u v]" {
		t.Errorf("found %v, want u and v once", found)
	}
}

// A count that comes when its hour is not kept any more leaves nothing in Redis.
func TestCountOfAnEndedHourIsNotKept(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openBilling(t, redistest.Start(t).URL(), clock, 24)
	r := mustReserve(t, s, "u")
	clock.Advance(24 * time.Hour)
	if _, err := s.Commit(ctx, &r); err != nil {
		t.Fatal(err)
	}
	wantState(t, s, "u", 1, 0)
	for field := range userHash(t, s, "u") {
		if strings.HasPrefix(field, "bill") {
			t.Errorf("Redis has the field %s", field)
		}
	}
}
