package redisstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// plainreserve.lua and plainsettle.lua repeat rules of reserve.lua and settle.lua. Here all calls for one user take the
// general scripts, and some of those for another user the plain ones. Both must get the same answers, and leave the
// same in Redis.
func TestPlainScriptsDoAsGeneralOnes(t *testing.T) {
	for name, opt := range map[string]Options{
		"counts": {}, "functions first": {functionsFirst: true}, "history and bills": {functionsFirst: true, HistoryDays: historyDays, BillingHours: 168},
		"scripts": {scriptsOnly: true}, "scripts with history and bills": {scriptsOnly: true, HistoryDays: historyDays, BillingHours: 168},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Log("seed", seed)
			comparePlain(t, opt, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

// comparePlain makes random steps for both users, and begins again with other users and plans from time to time.
func comparePlain(t *testing.T, opt Options, random *rand.Rand) {
	clock := quotatest.NewClock(noon)
	opt.URL, opt.Timeout, opt.Offset = redistest.Start(t).URL(), patient, clock.Offset
	opt.neverRenews, opt.markersEvery = true, time.Hour // nothing happens between the calls for the two users
	var lag atomic.Int64                                // of the gateways' clocks, in minutes
	opt.Now = func() time.Time { return clock.Now().Add(-time.Duration(lag.Load()) * time.Minute) }
	general, plain := openWith(t, opt), openWith(t, opt)
	general.layouts.general = true
	for turn := range 5 {
		c := plainComparison{random: random, clock: clock, plans: comparedPlans()}
		random.Shuffle(len(c.plans), func(i, j int) { c.plans[i], c.plans[j] = c.plans[j], c.plans[i] })
		c.plans = c.plans[:1+random.IntN(3)]
		one, other := fmt.Sprint("general-", turn), fmt.Sprint("mixed-", turn)
		for step := range 60 {
			lag.Store(int64(random.IntN(3) - 1))
			do := c.step()
			store := general
			if random.IntN(3) > 0 {
				store = plain
			}
			want, got := do(general, one), do(store, other)
			c.keep()
			for _, s := range []*Store{general, plain} { // markers that wait behind those of rests
				s.deleteMarkers(s.markers.takeDue())
				s.deleteMarkers(s.markers.takeDue())
			}
			diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got))
			hashOne, hashOther := namelessHash(t, general, one), namelessHash(t, general, other)
			if isOverdue(hashOne, clock.Now()) || isOverdue(hashOther, clock.Now()) {
				hashOne, hashOther = sweptHash(t, general, one), sweptHash(t, general, other)
			}
			for _, hash := range []map[string]string{hashOne, hashOther} {
				delete(hash, script.FieldSweep)
				delete(hash, "long")
				for field, value := range hash { // while there are rests, scripts set what is held to 0
					if value == "0" && strings.HasPrefix(field, "heldextra/") {
						delete(hash, field)
					}
				}
			}
			diff += cmp.Diff(hashOne, hashOther, cmp.Comparer(sameButForTime))
			if diff != "" {
				t.Fatalf("turn %d, step %d: -general +mixed:\n%s", turn, step, diff)
			}
			wantSweepBeforeEnds(t, general, clock, other)
		}
	}
}

// A plainComparison makes random steps.
type plainComparison struct {
	random        *rand.Rand
	clock         *quotatest.Clock
	plans         []quota.PlanChoice
	open, settled []quota.Reservation
	rests         []quota.Reservation // committed ones whose rest is not settled
	held          *quota.Reservation  // by the last step
}

// keep notes what the last step has held.
func (c *plainComparison) keep() {
	if c.held != nil {
		c.open = append(c.open, *c.held)
	}
	c.held = nil
}

// step returns what to do next for each of the users. It returns what that answers.
func (c *plainComparison) step() func(s *Store, user string) any {
	choice := c.plans[c.random.IntN(len(c.plans))]
	switch kind := c.random.IntN(100); {
	case kind < 45:
		return c.reserve(choice)
	case kind < 74 && len(c.open)+len(c.settled) > 0:
		return c.settle(choice)
	case kind < 80 && len(c.rests) > 0:
		r := c.rests[0]
		c.rests = c.rests[1:]
		return func(s *Store, user string) any {
			r.User = user
			snapshot, err := s.CommitRest(ctx, &r)
			return []any{err, numbersOf(snapshot)}
		}
	case kind < 88:
		change := comparedChange(c.random, c.clock.Now())
		return func(s *Store, user string) any {
			snapshot, err := s.ApplyChange(ctx, user, choice, change)
			return []any{err, numbersOf(&snapshot)}
		}
	case kind < 90:
		return func(s *Store, user string) any {
			snapshot, err := s.Read(ctx, user, choice)
			return []any{err, numbersOf(&snapshot)}
		}
	case kind < 93 && len(c.settled) > 0:
		r := c.settled[0]
		c.settled = c.settled[1:]
		return func(s *Store, user string) any {
			r.User = user
			s.Forget(&r)
			s.deleteMarkers(s.markers.takeDue())
			s.deleteMarkers(s.markers.takeDue())
			return nil
		}
	}
	hours := []time.Duration{0, 0, 0, 0, 1, 24, 31 * 24, 401 * 24}[c.random.IntN(8)]
	// The odd seconds keep the end of a marker, ten minutes after a step, from coming between what the two users do.
	c.clock.Advance(hours*time.Hour + time.Duration(1+c.random.IntN(2))*time.Minute + 7*time.Second)
	return func(*Store, string) any { return nil }
}

func (c *plainComparison) reserve(choice quota.PlanChoice) func(s *Store, user string) any {
	request := quota.Request{ID: quota.NewID(), Endpoint: []string{"analyze", "report"}[c.random.IntN(2)], Plans: choice, Lease: 50 * time.Second}
	request.Observe, request.Waited = c.random.IntN(20) == 0, c.random.IntN(10) == 0
	if choice.Claimed.ReportsUnits() {
		request.Units = c.random.Int64N(4)
	}
	isNew := false
	switch i := c.random.IntN(30); {
	case i == 0:
		request.Lease = 50 * time.Hour
	case i == 1 && len(c.settled) > 0:
		request.ID = c.settled[0].ID
	case i == 2 && len(c.open) > 0:
		request.ID = c.open[0].ID
	default:
		isNew = true
	}
	unused, rest, restCharged := c.random.Int64N(request.HeldUnits()+1), int64(0), int64(0)
	if unused > 0 && c.random.IntN(3) == 0 {
		rest = 1 + c.random.Int64N(unused)
		restCharged = c.random.Int64N(rest + 1)
	}
	return func(s *Store, user string) any {
		request.User = user
		d, err := s.Reserve(ctx, request)
		if d.Admitted && isNew {
			c.held = &d.Reservation
			c.held.Unused, c.held.Rest, c.held.RestCharged = unused, rest, restCharged
		}
		return []any{err, d.Admitted, d.WouldBlock, d.NoPlace, d.AttemptWait > 0, numbersOf(&d.Snapshot)}
	}
}

func (c *plainComparison) settle(choice quota.PlanChoice) func(s *Store, user string) any {
	var r quota.Reservation
	if len(c.open) == 0 || len(c.settled) > 0 && c.random.IntN(10) == 0 {
		r = c.settled[c.random.IntN(len(c.settled))]
	} else {
		i := c.random.IntN(len(c.open))
		r = c.open[i]
		c.open = slices.Delete(c.open, i, i+1)
		c.settled = append(c.settled, r)
	}
	if c.random.IntN(5) == 0 {
		r.Plans = choice
	}
	var forgotten *quota.Reservation // the settlement deletes its marker
	if c.random.IntN(3) == 0 && len(c.settled) > 0 && c.settled[0].ID != r.ID {
		forgotten, c.settled = &c.settled[0], c.settled[1:]
	}
	count, leaves := c.random.IntN(4) > 0, c.random.IntN(3) > 0
	if count && r.RestUnits() > 0 {
		c.rests = append(c.rests, r)
	}
	return func(s *Store, user string) any {
		r.User = user
		if forgotten != nil {
			forgotten.User = user
			s.Forget(forgotten)
		}
		snapshot, err := settleBy(s, &r, count)
		if leaves {
			err = errors.Join(err, s.callPlaces(script.Leave, user, []string{r.ID}))
		}
		return []any{err, numbersOf(snapshot)}
	}
}

// comparedPlans are plans with all that a plan may have, twice what is plain.
func comparedPlans() (choices []quota.PlanChoice) {
	month, day := quota.Limit{Amount: 40, Period: quota.Month}, quota.Limit{Amount: 20, Period: quota.Day}
	units := quota.Limit{Amount: 9, Period: quota.Day, Quantity: quota.Units}
	plain := quotatest.NewPlan("plain", month, day)
	byName := map[string]*quota.Plan{"plain": plain, "pro": quotatest.NewPlan("pro", quota.Limit{Amount: 200, Period: quota.Month})}
	for _, p := range []*quota.Plan{
		plain, plain, plain, byName["pro"], quotatest.NewPlan("tight", quota.Limit{Amount: 6, Period: quota.Month}, day),
		quotatest.NewPlan("minute", month, quota.Limit{Amount: 5, Period: quota.Minute}),
		quotatest.NewPlan("ever", quota.Limit{Amount: 500, Period: quota.Ever}),
		quotatest.NewPlan("soft", month, quota.Limit{Amount: 3, Period: quota.Day, Soft: true}),
		quotatest.NewPlan("endpoint", month, quota.Limit{Amount: 5, Period: quota.Day, Endpoint: "analyze"}),
		quotatest.NewPlan("unlimited"),
		quotatest.NewAttemptLimitedPlan("attempts", quota.AttemptLimit{Requests: 3, Per: 97 * time.Second}, month, day),
		quotatest.NewAttemptLimitedPlan("slow attempts", quota.AttemptLimit{Requests: 9, Per: 86339 * time.Second}, quota.Limit{Amount: 9, Period: quota.Minute}),
		quotatest.NewObservingPlan("observing", quota.AttemptLimit{Requests: 3, Per: 97 * time.Second}, day),
		quotatest.NewConcurrentPlan("concurrent", 2, month, day),
		quotatest.NewWeightedPlan("units", units, month),
		quotatest.NewWeightedPlan("units", quota.Limit{Amount: 60, Period: quota.Month, Quantity: quota.Units}, units),
		quotatest.NewWeightedPlan("units of minutes", month, quota.Limit{Amount: 9, Period: quota.Minute, Quantity: quota.Units}),
		quotatest.NewWeightedPlan("units of an endpoint", month, quota.Limit{Amount: 12, Period: quota.Day, Quantity: quota.Units, Endpoint: "analyze"}),
		quotatest.NewWeightedPlan("weighted", month, day),
		quotatest.NewWeightedPlan("weighted", month, day),
	} {
		choices = append(choices, quota.PlanChoice{Claimed: p, ByName: byName})
	}
	thresholds := []int{30, 75, 100}
	for _, p := range []*quota.Plan{
		quotatest.NewNotifyingPlan("notifying", thresholds, month, quota.Limit{Amount: 7, Period: quota.Day}, quota.Limit{Amount: 5, Period: quota.Day, Endpoint: "analyze"}),
		quotatest.NewNotifyingPlan("notifying minutes", thresholds, month, quota.Limit{Amount: 5, Period: quota.Minute}),
		quotatest.NewNotifyingPlan("notifying of units", thresholds, units, month),
	} {
		notifying := quota.PlanChoice{Claimed: p, ByName: byName}
		choices = append(choices, notifying, notifying)
	}
	anchored, err := quota.NewPlan(quota.PlanOptions{Name: "anchored", Endpoints: plain.Endpoints(), WarnAt: 80, Anchor: quota.ClaimAnchor, Limits: []quota.Limit{month, day}})
	if err != nil {
		panic(err)
	}
	return append(choices, quota.PlanChoice{Claimed: anchored, Terms: true})
}

// comparedChange is a change that an administrator may make.
func comparedChange(random *rand.Rand, now time.Time) quota.Change {
	switch random.IntN(8) {
	case 0:
		return quota.Change{Action: quota.ActionReset}
	case 2:
		return quota.Change{Action: quota.ActionGrant, Requests: 1 + random.Int64N(9), Period: quota.Day}
	case 3:
		return quota.Change{Action: quota.ActionSetPlan, Plan: "pro"}
	case 4:
		return quota.Change{Action: quota.ActionSetPlan, Plan: "pro", Until: now.Add(90 * time.Second)}
	case 5:
		return quota.Change{Action: quota.ActionClearPlan}
	case 6:
		return quota.Change{Action: quota.ActionSetAnchor, Anchor: strconv.Itoa(1 + random.IntN(28))}
	}
	return quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": random.Int64N(9)}}
}

// numbersOf returns the numbers of a snapshot.
func numbersOf(s *quota.Snapshot) any {
	if s == nil {
		return nil
	}
	return []any{s.Override, s.Limits, s.Total, s.Endpoints, s.EndpointUnits}
}

// namelessHash returns what Redis has of a user, without the name.
func namelessHash(t *testing.T, s *Store, user string) map[string]string {
	t.Helper()
	fields := userHash(t, s, user)
	if fields[script.FieldUser] == user {
		fields[script.FieldUser] = ""
	}
	if events, ok := fields[script.FieldEvents]; ok { // an id contains a digest of the user
		fields[script.FieldEvents] = eventIDs.ReplaceAllString(events, "msg_")
	}
	return fields
}

// isOverdue reports whether something in a hash may have ended.
func isOverdue(hash map[string]string, now time.Time) bool {
	sweep, err := strconv.ParseInt(hash[script.FieldSweep], 10, 64)
	return err == nil && sweep <= now.UnixMilli()
}

// sweptHash returns what namelessHash would if what has ended were deleted.
func sweptHash(t *testing.T, s *Store, user string) map[string]string {
	t.Helper()
	c, name, swept := commands(s), userHash(t, s, user)[script.FieldUser], "swept-"+user
	if name == "" {
		return map[string]string{}
	}
	if err := c.RestoreReplace(ctx, key(s, swept), 0, c.Dump(ctx, key(s, user)).Val()).Err(); err != nil {
		t.Fatal(err)
	}
	c.HSet(ctx, key(s, swept), script.FieldSweep, 1, script.FieldUser, swept)
	if _, _, err := s.look(ctx, swept); err != nil {
		t.Fatal(err)
	}
	return namelessHash(t, s, swept)
}

var eventIDs = regexp.MustCompile(`msg_[0-9a-f]+`)

var times = regexp.MustCompile(`\b\d{13,16}\b`)

// sameButForTime compares two values of a hash whose times may differ by 5 seconds.
func sameButForTime(a, b string) bool {
	if times.ReplaceAllString(a, "") != times.ReplaceAllString(b, "") {
		return false
	}
	inA, inB := times.FindAllString(a, -1), times.FindAllString(b, -1)
	for i := range inA {
		x, _ := strconv.ParseInt(inA[i][:10], 10, 64)
		y, _ := strconv.ParseInt(inB[i][:10], 10, 64)
		if x-y > 5 || y-x > 5 {
			return false
		}
	}
	return true
}

// wantSweepBeforeEnds checks that nothing in a user's hash ends before the next sweep, or after Redis deletes the hash.
func wantSweepBeforeEnds(t *testing.T, s *Store, clock *quotatest.Clock, user string) {
	t.Helper()
	left, err := commands(s).Do(ctx, "PTTL", key(s, user)).Int64()
	if err != nil {
		t.Fatal(err)
	}
	fields := userHash(t, s, user)
	sweep, _ := strconv.ParseInt(fields[script.FieldSweep], 10, 64)
	deleted := clock.Now().UnixMilli() + left
	for field, value := range fields {
		kind, _, _ := strings.Cut(field, "/")
		text := times.FindString(value)
		if text == "" || !strings.Contains(" lease rest place done paid retain once audit plan grants days bills attempts ", " "+kind+" ") {
			continue
		}
		ends, _ := strconv.ParseInt(text, 10, 64)
		if kind == "attempts" { // in µs
			ends /= 1000
		} else if ends < sweep {
			t.Fatalf("%s %s ends %d ms before the next sweep", field, value, sweep-ends)
		}
		if left >= 0 && ends > deleted { // less: it lives for ever, or is not there
			t.Fatalf("Redis deletes the hash %d ms before the end of %s %s", ends-deleted, field, value)
		}
	}
}

// Counts of any length are followed by the next numbers.
func TestPlainCallsCountOn(t *testing.T) { withFunctionsAndWithout(t, testPlainCallsCountOn) }

func testPlainCallsCountOn(t *testing.T, opt Options) {
	s := openLike(t, opt, redistest.Start(t).URL(), quotatest.NewClock(noon))
	p := quotatest.NewPlan("p", quota.Limit{Amount: 10_000_000_000, Period: quota.Month})
	mustCommit(t, s, reserveBy(t, s, p, "u"))
	for _, c := range [][]string{{"8", "9", "10", "11"}, {"9998", "9999", "10000", "10001"}, {"2147483646", "2147483647", "2147483648", "2147483649"}} {
		for range 2 { // the second time, the texts are kept
			for _, field := range []string{"used/2026-11", "used/2026-11/analyze"} {
				commands(s).HSet(ctx, key(s, "u"), field, c[0])
			}
			for _, want := range c[1:] {
				mustCommit(t, s, reserveBy(t, s, p, "u"))
				if hash := userHash(t, s, "u"); hash["used/2026-11"] != want || hash["used/2026-11/analyze"] != want {
					t.Fatalf("%s and %s, want %s", hash["used/2026-11"], hash["used/2026-11/analyze"], want)
				}
			}
			var held []*quota.Reservation
			for range 12 {
				held = append(held, reserveBy(t, s, p, "u"))
			}
			for i, r := range held {
				mustCommit(t, s, r)
				want := strconv.Itoa(11 - i)
				if want == "0" {
					want = ""
				}
				if hash := userHash(t, s, "u"); hash["held/2026-11"] != want || hash["held/2026-11/analyze"] != want {
					t.Fatalf("%q and %q held, want %q", hash["held/2026-11"], hash["held/2026-11/analyze"], want)
				}
			}
		}
	}
}
