package quotatest

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// modelHistoryDays is the history of the random model: some of its steps leave all days behind.
const modelHistoryDays = 45

// countDay counts on the day of r, if that is still kept.
func (m *model) countDay(r quota.Reservation, requests, units int64, now time.Time) {
	if r.Date == 0 || now.Sub(time.Unix(int64(r.Date)*secondsPerDay, 0)) >= (modelHistoryDays+1)*oneDay {
		return
	}
	m.setDay(r.Date, r.Endpoint, m.days[r.Date][r.Endpoint].Add(quota.Used{Requests: requests, Units: units}))
}

const secondsPerDay = 24 * 60 * 60

func (m *model) setDay(date quota.Date, endpoint string, u quota.Used) {
	if m.days[date] == nil {
		m.days[date] = map[string]quota.Used{}
	}
	m.days[date][endpoint] = u
}

// readHistory compares a history with the model.
func (c *modelCheck) readHistory(t *rapid.T) {
	account := c.drawAccount(t)
	days := rapid.IntRange(1, c.historyDays).Draw(t, "days")
	h, err := c.store.History(context.Background(), account, days)
	if err != nil {
		t.Fatal(err)
	}
	today := c.calendar.DateAt(c.clock.Now())
	for i := range days {
		date := today - quota.Date(days-1-i)
		if got, want := dayText(h.Days[i].Endpoints), dayText(c.models[account].days[date]); got != want || h.Days[i].Date != date {
			t.Fatalf("day %v of %q has %s, the rules say %s on %v", h.Days[i].Date, account, got, want, date)
		}
	}
}

// counterDays is how many days testDaysEqualCounters moves its clock through.
const counterDays = 40

// everyDay has the counters of limits per day, in requests and in units, of each endpoint. The limits
// refuse nobody.
var everyDay = func() *quota.Plan {
	limits := []quota.Limit{{Amount: 1_000, Period: quota.Month, Soft: true}}
	for _, endpoint := range endpoints {
		for _, quantity := range []quota.Quantity{quota.Requests, quota.Units} {
			limits = append(limits, quota.Limit{Amount: quota.MaxAmount, Period: quota.Day, Endpoint: endpoint, Quantity: quantity, Soft: true})
		}
	}
	return NewWeightedPlan("every day", limits...)
}()

// testDaysEqualCounters makes 1,000 random calls over 40 days. Each day of the history must equal the
// counters of the plan's limits in that day's windows, whatever was called.
func testDaysEqualCounters(t *testing.T, open OpenHistory) {
	newYork, err := time.LoadLocation("America/New_York") // the clock is set back on 1 November
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 10, 20, 12, 0, 30, 0, newYork)
	h := newHistoryHarness(t, open, HistorySetup{Clock: NewClock(start), Calendar: quota.NewCalendar(newYork), HistoryDays: counterDays + 2})
	c := &randomCalls{historyHarness: h, rnd: rand.New(rand.NewPCG(21, 6)), accounts: []string{"u", "v", member("u"), member("v")}}
	const calls = 1_000
	for i := range calls {
		c.call()
		// Whatever the calls do, all days are passed.
		next := start.Add(time.Duration(i+1) * (counterDays * oneDay / calls))
		if c.rnd.IntN(5) == 0 && h.clock.Now().Before(next) {
			c.moveTo(next)
		}
		if i%100 == 99 {
			c.compare()
		}
	}
	c.moveTo(start.Add(counterDays * oneDay))
	for _, r := range c.running { // what is late counts on its day
		h.commit(r)
	}
	c.compare()
}

// randomCalls makes calls about reservations that wait for them.
type randomCalls struct {
	*historyHarness
	rnd      *rand.Rand
	accounts []string
	running  []quota.Reservation // reserved, and not settled
	rests    []quota.Reservation // counted, or not yet; their rest is held
	settled  []quota.Reservation // since the clock was last moved
}

// moveTo moves the clock to a time near t that is not near midnight.
func (c *randomCalls) moveTo(t time.Time) {
	if in := t.In(c.Calendar.Location()); in.Hour() == 23 && in.Minute() >= 58 || in.Hour() == 0 && in.Minute() < 2 {
		t = t.Add(5 * time.Minute)
	}
	c.clock.Set(t)
	c.settled = nil
}

// takeRandom removes a random reservation from those that wait; false: there is none.
func takeRandom(rnd *rand.Rand, from *[]quota.Reservation) (r quota.Reservation, ok bool) {
	if len(*from) == 0 {
		return r, false
	}
	i := rnd.IntN(len(*from))
	r = (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return r, true
}

func (c *randomCalls) call() {
	account := c.accounts[c.rnd.IntN(len(c.accounts))]
	switch n := c.rnd.IntN(20); {
	case n < 7:
		r := weighted(account, endpoints[c.rnd.IntN(len(endpoints))], c.rnd.Int64N(6), everyDay)
		d := c.reserve(r)
		d.Reservation.Unused = c.rnd.Int64N(r.HeldUnits() + 1)
		d.Reservation.Rest = c.rnd.Int64N(d.Reservation.Unused + 1)
		d.Reservation.RestCharged = c.rnd.Int64N(d.Reservation.Rest + 1)
		c.running = append(c.running, d.Reservation)
	case n < 13:
		if r, ok := takeRandom(c.rnd, &c.running); ok {
			c.commit(r)
			c.settled = append(c.settled, r)
			if r.Rest > 0 {
				c.rests = append(c.rests, r)
			}
		}
	case n < 15:
		if r, ok := takeRandom(c.rnd, &c.rests); ok {
			c.commitRest(r)
		}
	case n < 16:
		if r, ok := takeRandom(c.rnd, &c.running); ok {
			c.release(r)
		}
	case n < 17: // calls that are sent twice
		for _, r := range c.settled {
			c.commit(r)
		}
	case n < 18:
		c.applyChange(account, everyDay, quota.Change{Action: quota.ActionGrant, Requests: 1 + c.rnd.Int64N(5), Period: quota.Day, Endpoint: "report"})
	case n < 19:
		c.set(account)
	case c.rnd.IntN(3) == 0:
		c.applyChange(account, everyDay, quota.Change{Action: quota.ActionReset})
	}
}

// set sets counts, as an import does.
func (c *randomCalls) set(account string) {
	change := quota.Change{Action: quota.ActionSetCounts, Period: []quota.Period{quota.Day, quota.Day, quota.Month, quota.Week}[c.rnd.IntN(4)], Counts: map[string]int64{}}
	for _, endpoint := range endpoints[:1+c.rnd.IntN(len(endpoints))] {
		change.Counts[endpoint] = c.rnd.Int64N(8)
		if n := change.Counts[endpoint]; n > 0 && c.rnd.IntN(2) == 0 {
			change.CountUnits = map[string]int64{endpoint: c.rnd.Int64N(20)}
		}
	}
	c.applyChange(account, everyDay, change)
}

// compare compares the histories with the counters.
func (c *randomCalls) compare() {
	c.t.Helper()
	for _, account := range c.accounts {
		days := c.HistoryDays
		history, err := c.store.History(context.Background(), account, days)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, d := range history.Days {
			at := time.Unix(int64(d.Date)*secondsPerDay, 0).UTC()
			noon := time.Date(at.Year(), at.Month(), at.Day(), 12, 0, 0, 0, c.Calendar.Location())
			s, err := c.store.ReadAt(context.Background(), account, choiceOf(account, everyDay), noon)
			if err != nil {
				c.t.Fatalf("reading %v: %v", d.Date, err)
			}
			counted := map[string]quota.Used{}
			for i, endpoint := range endpoints {
				counted[endpoint] = quota.Used{Requests: s.Limits[1+2*i].Used, Units: s.Limits[2+2*i].Used}
			}
			if got, want := dayText(d.Endpoints), dayText(counted); got != want {
				c.t.Fatalf("%v of %q is %s in the history, and %s in the counters", d.Date, account, got, want)
			}
		}
	}
}

// Days of 23, 24 and 25 hours, one whose midnight does not exist, and zones half a day apart.
func testDaysInZones(t *testing.T, open OpenHistory) {
	for _, test := range []struct {
		zone  string
		times []string // of one request each, in the zone
		want  string   // at the last one
	}{
		{"UTC", []string{"2026-11-16T23:59:30Z", "2026-11-17T00:00:30Z"}, "report 1/1 | report 1/1"},
		{"America/New_York", []string{ // the clock is set back on 1 November
			"2026-10-31T23:59:30-04:00", "2026-11-01T00:00:30-04:00", "2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00",
			"2026-11-01T23:59:30-05:00", "2026-11-02T00:00:30-05:00"}, "report 1/1 | report 4/4 | report 1/1"},
		{"Europe/Berlin", []string{ // forward on 29 March
			"2026-03-28T23:59:30+01:00", "2026-03-29T01:59:30+01:00", "2026-03-29T03:00:30+02:00", "2026-03-29T23:59:30+02:00",
			"2026-03-30T00:00:30+02:00"}, "report 1/1 | report 3/3 | report 1/1"},
		{"Africa/Cairo", []string{ // forward at midnight of 24 April
			"2026-04-23T23:59:30+02:00", "2026-04-24T01:00:30+03:00", "2026-04-24T23:59:30+03:00", "2026-04-25T00:00:30+03:00"},
			"report 1/1 | report 2/2 | report 1/1"},
		{"Pacific/Kiritimati", []string{"2026-11-16T23:59:30+14:00", "2026-11-17T00:00:30+14:00"}, "report 1/1 | report 1/1"},
	} {
		zone, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		h := newHistoryHarness(t, open, HistorySetup{Calendar: quota.NewCalendar(zone)})
		for _, text := range test.times {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				t.Fatal(err)
			}
			h.clock.Set(at)
			h.use(1, "u", "report", hundredAMonth)
		}
		h.wantDays("u", strings.Count(test.want, "|")+1, test.want)
	}
}

// The date moves back when the time zone moves west.
func testDateMovesBack(t *testing.T, open OpenHistory) {
	east, err := time.LoadLocation("Pacific/Kiritimati") // where it is the next day already
	if err != nil {
		t.Fatal(err)
	}
	h := newHistoryHarness(t, open, HistorySetup{Calendar: quota.NewCalendar(east)})
	h.clock.Advance(-oneDay)
	h.use(4, "u", "report", hundredAMonth) // what is today later on
	h.clock.Advance(oneDay)
	h.use(5, "u", "report", hundredAMonth)
	h.use(5, "u", "analyze", hundredAMonth)
	h.Calendar = quota.NewCalendar(nil)
	h.reopen(h.HistoryDays)
	h.use(2, "u", "report", hundredAMonth)
	h.use(1, "u", "analyze", hundredAMonth)
	h.wantDays("u", 2, "- | analyze 1/1 report 6/6")
	for range 2 {
		h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day,
			Counts: map[string]int64{"report": 7, "removed": 2}, CountUnits: map[string]int64{"report": 9}})
		h.wantDays("u", 2, "- | analyze 1/1 removed 2/2 report 7/9")
	}
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 0, "removed": 1}})
	h.wantDays("u", 2, "- | analyze 1/1 removed 1/1")
	h.use(1, "u", "report", hundredAMonth)
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	h.wantDays("u", 2, "- | -")
	h.use(3, "u", "report", hundredAMonth)
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	h.wantDays("u", 2, "report 3/3 | analyze 5/5 report 6/6")
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	h.wantDays("u", 4, "- | report 3/3 | analyze 5/5 report 6/6 | report 1/1")
}
