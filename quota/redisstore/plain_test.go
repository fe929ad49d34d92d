package redisstore

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// A plain request makes Redis run so few commands. Whoever needs another one finds it here.
func TestPlainRequestRunsFewCommands(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		command := "evalsha"
		if !opt.scriptsOnly {
			command = "fcall"
		}
		testPlainRequestRunsFewCommands(t, opt, command)
	})
}

func testPlainRequestRunsFewCommands(t *testing.T, opt Options, command string) {
	server := redistest.Start(t)
	if command == "fcall" {
		server.Needs(t, "7.0", "functions")
	}
	limits := []quota.Limit{{Amount: 1000, Period: quota.Month}, {Amount: 1000, Period: quota.Day}}
	attempts, err := quota.NewPlan(quota.PlanOptions{
		Name: "attempts", Endpoints: []string{"analyze"}, WarnAt: 80, Limits: limits, Attempts: quota.AttemptLimit{Requests: 1000, Per: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := openLike(t, opt, server.URL(), quotatest.NewClock(noon))
	for _, p := range []*quota.Plan{quotatest.NewPlan("limits", limits...), attempts} {
		var held []*quota.Reservation
		for range 3 { // the first requests send the scripts, and note when things end
			held = append(held, reserveBy(t, s, p, p.Name()))
		}
		mustCommit(t, s, held[0])
		mustCommit(t, s, reserveBy(t, s, p, p.Name())) // from now on, functions serve what is plain
		for others := 2; others >= 0; others-- {
			got := allCommandsOf(t, server, func() {
				r := reserveBy(t, s, p, p.Name())
				mustCommit(t, s, r)
				s.Forget(r) // the next commit deletes its marker in the same HDEL
			})
			want := map[string]int{command: 2, "time": 2, "hmget": 2, "hset": 2, "hdel": 1, "publish": 2, "pttl": 1}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, while %d others are held: -want +got:\n%s", p.Name(), others, diff)
			}
			if others > 0 {
				mustCommit(t, s, held[others])
			}
		}
		s.markers.takeDue() // the last marker is not deleted in the background
		s.markers.takeDue()
	}
}

// A request that cannot be plain, because its user has a plan override or a plan has terms, costs no more than before
// there were plain ones.
func TestOtherRequestsRunAsFewCommandsAsBefore(t *testing.T) {
	server := redistest.Start(t)
	limits := []quota.Limit{{Amount: 1000, Period: quota.Month}, {Amount: 1000, Period: quota.Day}}
	s, p := openAt(t, server.URL(), quotatest.NewClock(noon)), quotatest.NewPlan("free", limits...)
	if _, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), quota.Change{Action: quota.ActionSetPlan, Plan: p.Name()}); err != nil {
		t.Fatal(err)
	}
	withTerms := p.OnlyChoice()
	withTerms.Terms = true
	for user, choice := range map[string]quota.PlanChoice{"u": p.OnlyChoice(), "v": withTerms} {
		serve := func() {
			t.Helper()
			r := newRequest(user)
			r.Plans = choice
			d, err := s.Reserve(ctx, r)
			if err != nil || !d.Admitted {
				t.Fatalf("%+v, %v", d, err)
			}
			mustCommit(t, s, &d.Reservation)
		}
		serve() // the first request sends the scripts, and notes when things end
		serve()
		got := allCommandsOf(t, server, serve)
		// One HMGET to reserve, and two to settle. With terms, each script reads them as well.
		if got["hmget"] != 3 || got["hincrby"] != 12 {
			t.Errorf("%s: %v, want 3 HMGET and 12 HINCRBY", user, got)
		}
	}
}

// Requests of this version and of an earlier one on one hash leave there what those of the earlier one alone would leave.
func TestPlainRequestsBesideRelease(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		t.Run("0.1.0", func(t *testing.T) { compareBeside(t, opt, newRelease) })
		t.Run("the first plain scripts", func(t *testing.T) { compareBeside(t, opt, newFirstPlain) })
	})
}

// An earlierVersion has scripts that a store of this version does not send any more.
type earlierVersion interface {
	reserve(r *quota.Reservation)
	settle(r *quota.Reservation, count bool)
}

func compareBeside(t *testing.T, opt Options, earlier func(*testing.T, *Store, *quotatest.Clock) earlierVersion) {
	clock := quotatest.NewClock(noon)
	s := openLike(t, opt, redistest.Start(t).URL(), clock)
	before := earlier(t, s, clock)
	p := quotatest.NewPlan("free", quota.Limit{Amount: 100_000, Period: quota.Month}, quota.Limit{Amount: 100_000, Period: quota.Day})
	reserve := func(r *quota.Reservation, byEarlier bool) {
		t.Helper()
		if byEarlier {
			before.reserve(r)
		} else if d, err := s.Reserve(ctx, r.Request); err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
	}
	settle := func(r *quota.Reservation, count, byEarlier bool) {
		t.Helper()
		if byEarlier {
			before.settle(r, count)
		} else if _, err := settleBy(s, r, count); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(user string) map[string]string {
		fields := userHash(t, s, user)
		for field, value := range fields {
			switch {
			case field == "user" || field == "sweep" || field == "long":
				delete(fields, field)
			case strings.HasPrefix(field, "lease/"):
				_, fields[field], _ = strings.Cut(value, " ")
			case strings.HasPrefix(field, "done/"):
				fields[field] = ""
			}
		}
		return fields
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var held []quota.Reservation
	for step := range 200 {
		r, isNew := quota.Reservation{}, len(held) == 0 || random.IntN(2) == 0
		if isNew {
			r = quota.Reservation{Request: requestBy(p, ""), Plan: p, Windows: s.calendar.WindowsAt(p.Periods(), clock.Now())}
			r.Endpoint = []string{"analyze", "report"}[random.IntN(2)]
			held = append(held, r)
		} else {
			i := random.IntN(len(held))
			r = held[i]
			held = append(held[:i], held[i+1:]...)
		}
		count, mixed := random.IntN(4) > 0, random.IntN(2) == 0
		for _, user := range []string{"earlier", "mixed"} {
			byEarlier := user == "earlier" || mixed
			if r.User = user; isNew {
				reserve(&r, byEarlier)
			} else {
				settle(&r, count, byEarlier)
			}
		}
		if diff := cmp.Diff(hash("earlier"), hash("mixed")); diff != "" {
			t.Fatalf("seed %d, step %d: -earlier +mixed:\n%s", seed, step, diff)
		}
	}
	for _, user := range []string{"earlier", "mixed"} {
		if life := commands(s).PTTL(ctx, key(s, user)).Val(); life < 400*24*time.Hour {
			t.Errorf("the key of %s lives for %v", user, life)
		}
	}
}

// earlierScripts are those of an earlierVersion, by name.
type earlierScripts struct {
	t       *testing.T
	s       *Store
	clock   *quotatest.Clock
	scripts map[string]string
}

func (e *earlierScripts) run(name, user string, args ...any) {
	e.t.Helper()
	args = append([]any{e.clock.Offset().Milliseconds(), user}, args...)
	if err := commands(e.s).Eval(ctx, e.scripts[name], []string{key(e.s, user)}, args...).Err(); err != nil {
		e.t.Fatal(name, err)
	}
}

// counted are the arguments that say where a reservation counts.
func (e *earlierScripts) counted(r *quota.Reservation) []any {
	args := []any{r.Endpoint, len(r.Windows)}
	for _, w := range r.Windows {
		args = append(args, w.ID, w.RetainedUntil(e.s.keep).UnixMilli())
	}
	return args
}

// heldBy is what a lease says of a reservation.
func heldBy(r *quota.Reservation) (held string) {
	held = r.Endpoint
	for _, w := range r.Windows {
		held += " " + w.ID
	}
	return held
}

// A release is release 0.1.0.
type release struct{ earlierScripts }

func newRelease(t *testing.T, s *Store, clock *quotatest.Clock) earlierVersion {
	scripts := releaseScripts(t)
	return &release{earlierScripts{t, s, clock, map[string]string{
		"reserve": scripts["common"] + scripts["reserve"], "settle": scripts["common"] + scripts["settle"],
	}}}
}

func (e *release) reserve(r *quota.Reservation) {
	e.run("reserve", r.User, "*", 0, int64(1)<<52, 0, 0, "lease/"+r.ID, "done/"+r.ID, "attempts/0/0", r.Lease.Milliseconds(), heldBy(r), 0, 0, 0, "free")
}

func (e *release) settle(r *quota.Reservation, count bool) {
	own := []any{"*", 0, int64(1) << 52, 0, 0, 1, "lease/" + r.ID, "done/" + r.ID, map[bool]int{true: 1, false: 0}[count]}
	e.run("settle", r.User, append(own, e.counted(r)...)...)
}

// firstPlain has the scripts of testdata/plain.
type firstPlain struct{ earlierScripts }

func newFirstPlain(t *testing.T, s *Store, clock *quotatest.Clock) earlierVersion {
	read := func(names ...string) (text string) {
		for _, name := range names {
			part, err := os.ReadFile(name + ".lua")
			if err != nil {
				t.Fatal(err)
			}
			text += string(part)
		}
		return text
	}
	without := "local count_both, note_day, note_hour, note_added, record_crossings, caution = nil, nil, nil, nil, nil, nil\n"
	return &firstPlain{earlierScripts{t, s, clock, map[string]string{
		"reserve": read("script/common", "testdata/plain/plainreserve", "script/functions", "testdata/plain/reserve"),
		"settle":  read("script/common", "testdata/plain/plainsettle", "script/functions") + without + read("testdata/plain/settle"),
	}}}
}

// fields are some fields of the two windows of a reservation.
func (*firstPlain) fields(r *quota.Reservation, names ...string) []any {
	args := []any{0, int64(1) << 52, len(names), 2}
	for _, name := range names {
		args = append(args, strings.NewReplacer("M", r.Windows[0].ID, "D", r.Windows[1].ID, "E", r.Endpoint).Replace(name))
	}
	return args
}

func (e *firstPlain) reserve(r *quota.Reservation) {
	args := append([]any{""}, e.fields(r, "used/M", "held/M", "used/D", "held/D", "held/M/E", "held/D/E")...)
	e.run("reserve", r.User, append(args, "lease/"+r.ID, "done/"+r.ID, "", r.Lease.Milliseconds(), heldBy(r), 0, 0, 0, "free", 0, 0, 30000,
		"\x02\x02\x05\x04\x06", 100_000, 100_000)...)
}

func (e *firstPlain) settle(r *quota.Reservation, count bool) {
	args := append([]any{""}, e.fields(r, "used/M", "held/M", "used/D", "held/D", "used/M/E", "held/M/E", "used/D/E", "held/D/E")...)
	extra, where := "-", ""
	if count {
		extra, where = "0", "\x04\x01\x05\x02\x06\x03\x07\x04\x08"
	}
	args = append(args, "lease/"+r.ID, "done/"+r.ID, extra)
	e.run("settle", r.User, append(append(args, e.counted(r)...), 1, where)...)
}

// A key lives as long as all that a plain call writes into it, and is swept before any of that ends.
func TestPlainCallsKeepTheKey(t *testing.T) { withFunctionsAndWithout(t, testPlainCallsKeepTheKey) }

func testPlainCallsKeepTheKey(t *testing.T, opt Options) {
	const day = 24 * time.Hour
	month := quotatest.NewPlan("month", quota.Limit{Amount: 100, Period: quota.Month})
	minute := quotatest.NewAttemptLimitedPlan("minute", quota.AttemptLimit{Requests: 100, Per: time.Second}, quota.Limit{Amount: 100, Period: quota.Minute})
	slow := quotatest.NewAttemptLimitedPlan("slow", quota.AttemptLimit{Requests: 9, Per: day}, quota.Limit{Amount: 100, Period: quota.Minute})
	for _, c := range []struct {
		name            string
		plan            *quota.Plan
		keep, keepAfter time.Duration
		commits         bool
		leaseAfter      time.Duration // of the second request
	}{
		{"counts are kept for longer than before", month, 30 * day, 400 * day, true, time.Minute},
		{"counts are kept for less time", month, 400 * day, day, true, 50 * time.Hour},
		{"counts are kept for seconds", month, time.Second, time.Second, true, time.Minute},
		{"nothing was counted", month, 30 * day, 30 * day, false, 50 * time.Minute},
		{"a long lease", minute, 30 * day, 30 * day, true, 50 * time.Hour},
		{"a bucket that is full late", slow, 30 * day, 30 * day, true, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock, server := quotatest.NewClock(time.Date(2026, time.November, 30, 23, 59, 5, 0, time.UTC)), redistest.Start(t)
			for i, keep := range []time.Duration{c.keep, c.keepAfter, c.keepAfter} {
				s := openLike(t, Options{Keep: keep, scriptsOnly: opt.scriptsOnly, functionsFirst: opt.functionsFirst}, server.URL(), clock)
				request := requestBy(c.plan, "u")
				if i > 0 {
					request.Lease = c.leaseAfter
				}
				d, err := s.Reserve(ctx, request)
				if err != nil || !d.Admitted {
					t.Fatal(d.Admitted, err)
				}
				wantSweepBeforeEnds(t, s, clock, "u")
				if _, err := settleBy(s, &d.Reservation, c.commits); err != nil {
					t.Fatal(err)
				}
				wantSweepBeforeEnds(t, s, clock, "u")
				marker := userHash(t, s, "u")[script.MarkerField(d.Reservation.ID)]
				if ends, _ := strconv.ParseInt(marker, 10, 64); time.UnixMilli(ends).Sub(clock.Now()) < 9*time.Minute {
					t.Errorf("the marker ends at %s", marker)
				}
			}
		})
	}
}

// Where no sweep is noted, it is: a hash without one is never swept.
func TestPlainCallsNoteTheSweep(t *testing.T) { withFunctionsAndWithout(t, testPlainCallsNoteTheSweep) }

func testPlainCallsNoteTheSweep(t *testing.T, opt Options) {
	s := openLike(t, opt, redistest.Start(t).URL(), quotatest.NewClock(time.Now()))
	first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
	mustCommit(t, s, &first)
	for what, call := range map[string]func(){"reserve": func() { mustReserve(t, s, "u") }, "commit": func() { mustCommit(t, s, &r) }} {
		commands(s).HDel(ctx, key(s, "u"), script.FieldSweep)
		if call(); userHash(t, s, "u")[script.FieldSweep] == "" {
			t.Errorf("no sweep is noted after %s", what)
		}
	}
}

// A sweep that is noted for a time after the first of the counts ends is noted anew.
func TestPlainCommitNotesAnEarlierSweep(t *testing.T) {
	withFunctionsAndWithout(t, testPlainCommitNotesAnEarlierSweep)
}

func testPlainCommitNotesAnEarlierSweep(t *testing.T, opt Options) {
	clock := quotatest.NewClock(noon)
	s := openLike(t, opt, redistest.Start(t).URL(), clock)
	p := quotatest.NewPlan("p", quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 100, Period: quota.Day})
	mustCommit(t, s, reserveBy(t, s, p, "u"))
	r := reserveBy(t, s, p, "u")
	var ends []string // of the counts of the day and of the month
	for field, value := range userHash(t, s, "u") {
		if strings.HasPrefix(field, "retain/") {
			ends = append(ends, value)
		}
	}
	slices.Sort(ends)
	if len(ends) != 2 || ends[0] == ends[1] {
		t.Fatalf("the counts end at %v, want two times", ends)
	}
	commands(s).HSet(ctx, key(s, "u"), script.FieldSweep, ends[1])
	mustCommit(t, s, r)
	if got := userHash(t, s, "u")[script.FieldSweep]; got > ends[0] {
		t.Errorf("the next sweep is at %s, after the end of counts at %s", got, ends[0])
	}
}

// A request that is settled is not counted, even if it is still held.
func TestPlainCommitCountsOnce(t *testing.T) { withFunctionsAndWithout(t, testPlainCommitCountsOnce) }

func testPlainCommitCountsOnce(t *testing.T, opt Options) {
	s := openLike(t, opt, redistest.Start(t).URL(), quotatest.NewClock(time.Now()))
	first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
	mustCommit(t, s, &first)
	ends := time.Now().Add(time.Hour).UnixMilli()
	if err := commands(s).HSet(ctx, key(s, "u"), script.MarkerField(r.ID), ends).Err(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, &r)
	wantState(t, s, "u", 1, 1)
}

// A count that is no number fails a plain call before it has changed anything.
func TestPlainCallsFindDamage(t *testing.T) { withFunctionsAndWithout(t, testPlainCallsFindDamage) }

func testPlainCallsFindDamage(t *testing.T, opt Options) {
	for _, field := range []string{"used/2026-11", "used/2026-11/analyze", "held/2026-11", "held/2026-11/analyze"} {
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		if err := commands(s).HSet(ctx, key(s, "u"), field, "x").Err(); err != nil {
			t.Fatal(err)
		}
		before := userHash(t, s, "u")
		if _, err := s.Commit(ctx, &r); err == nil {
			t.Errorf("no error with %s", field)
		}
		if _, err := s.Reserve(ctx, newRequest("u")); err == nil && field != "used/2026-11/analyze" { // not looked at
			t.Errorf("no error of a reservation with %s", field)
		} else if diff := cmp.Diff(before, userHash(t, s, "u")); err != nil && diff != "" {
			t.Errorf("%s: -before +after:\n%s", field, diff)
		}
	}
}

// A number that Lua cannot count exactly is left to Redis.
func TestPlainCommitCountsLargeNumbers(t *testing.T) {
	withFunctionsAndWithout(t, testPlainCommitCountsLargeNumbers)
}

func testPlainCommitCountsLargeNumbers(t *testing.T, opt Options) {
	for before, want := range map[string]string{
		"2147483646": "2147483647", "2147483647": "2147483648", "9007199254740993": "9007199254740994", "1.5": "1.5",
	} {
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		if err := commands(s).HSet(ctx, key(s, "u"), "used/2026-11", before).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Commit(ctx, &r)
		if got := userHash(t, s, "u")["used/2026-11"]; got != want || (err == nil) != (before != want) {
			t.Errorf("%s became %s (error %v), want %s", before, got, err, want)
		}
	}
	for before, want := range map[string]string{"12": "11", "4294967297": "4294967296", "2.5": "2.5"} {
		s := openLike(t, opt, redistest.Start(t).URL(), quotatest.NewClock(noon))
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		if err := commands(s).HSet(ctx, key(s, "u"), "held/2026-11", before).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Commit(ctx, &r)
		if got := userHash(t, s, "u")["held/2026-11"]; got != want || (err == nil) != (before != want) {
			t.Errorf("%s held became %s (error %v), want %s", before, got, err, want)
		}
	}
}

// The hash of a user with many requests within ten seconds becomes a table, which Redis reads faster. That of others
// stays a list, which takes less memory.
func TestBusyUserGetsATable(t *testing.T) {
	server := redistest.Start(t)
	server.Needs(t, "7.0", "functions")
	clock := quotatest.NewClock(noon)
	s := openAt(t, server.URL(), clock)
	serve := func(user string, n int) {
		t.Helper()
		for range n {
			r := mustReserve(t, s, user)
			mustCommit(t, s, &r)
		}
	}
	serve("busy", 60)
	serve("quiet", 40)
	clock.Advance(11 * time.Second)
	serve("quiet", 40)
	for user, want := range map[string]string{"busy": "hashtable", "quiet": "listpack"} {
		if got := commands(s).ObjectEncoding(ctx, key(s, user)).Val(); got != want {
			t.Errorf("Redis keeps the hash of the %s user as a %s, want a %s", user, got, want)
		}
	}
	wantState(t, s, "busy", 60, 0)
}

// Functions decode what is the same for many requests once. What they keep of that is bounded.
func TestFunctionsKeepFewTerms(t *testing.T) {
	server := redistest.Start(t)
	server.Needs(t, "7.0", "functions")
	s := openStore(t, server.URL())
	request := requestBy(quotatest.NewPlan("large", quota.Limit{Amount: 100_000, Period: quota.Month}), "u")
	const requests, most = 2500, 5 << 19 // bytes; each request has terms of its own, of some 3 KiB
	for i := range requests {
		request.ID, request.Lease = quota.NewID(), time.Minute+time.Duration(i)*time.Millisecond
		d, err := s.Reserve(ctx, request)
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		mustCommit(t, s, &d.Reservation)
		s.Forget(&d.Reservation)
	}
	if got, _ := strconv.Atoi(commands(s).InfoMap(ctx, "memory").Item("Memory", "used_memory_vm_functions")); got > most {
		t.Errorf("the functions have taken %d bytes, want at most %d", got, most)
	}
	wantState(t, s, "u", requests, 0)
}

// Where functions do nothing for a user, few calls of them are made.
func TestFewCallsAreInVain(t *testing.T) {
	server := redistest.Start(t)
	server.Needs(t, "7.0", "functions")
	ever := quotatest.NewPlan("ever", quota.Limit{Amount: 1000, Period: quota.Ever})
	s := openStore(t, server.URL())
	if got := allCommandsOf(t, server, func() {
		for range 200 {
			mustCommit(t, s, reserveBy(t, s, ever, "ever"))
		}
	}); got["evalsha"] < 180 || got["fcall"]-(400-got["evalsha"]) > 30 {
		t.Errorf("%v, want few calls of functions in vain", got)
	}
	day := quota.Limit{Amount: 1000, Period: quota.Day}
	for _, p := range []*quota.Plan{
		quotatest.NewPlan("plain", quota.Limit{Amount: 1000, Period: quota.Month}, day),
		quotatest.NewPlan("elsewhere", quota.Limit{Amount: 100, Period: quota.Month, Endpoint: "report"}, day),
		quotatest.NewPlan("unlimited"),
		quotatest.NewWeightedPlan("units", quota.Limit{Amount: 1000, Period: quota.Month, Quantity: quota.Units}),
	} {
		s = openStore(t, server.URL())
		if got := allCommandsOf(t, server, func() {
			for range 200 {
				mustCommit(t, s, reserveBy(t, s, p, p.Name()))
			}
		}); got["evalsha"] > 20 {
			t.Errorf("%s: %v, want functions to serve nearly all", p.Name(), got)
		}
	}
}

// A request with a cost runs as few commands as one without.
func TestRequestWithACostIsPlain(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		server := redistest.Start(t)
		command := "evalsha"
		if !opt.scriptsOnly {
			server.Needs(t, "7.0", "functions")
			command = "fcall"
		}
		opt.HistoryDays, opt.BillingHours = historyDays, 168
		s := openLike(t, opt, server.URL(), quotatest.NewClock(noon))
		p := quotatest.NewWeightedPlan("units", quota.Limit{Amount: 1000, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 1000, Period: quota.Day})
		hold := func() *quota.Reservation {
			r := reserveUnits(t, s, p, 20)
			r.Unused = 15
			return r
		}
		mustCommit(t, s, hold()) // the first request of a user is not plain
		held := []*quota.Reservation{hold(), hold()}
		for others := 2; others >= 0; others-- {
			got := allCommandsOf(t, server, func() {
				r := hold()
				mustCommit(t, s, r)
				s.Forget(r) // the next commit deletes its marker in the same HDEL
			})
			want := map[string]int{command: 2, "time": 2, "hmget": 2, "hset": 2, "hdel": 1, "publish": 2, "pttl": 1}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("while %d others are held: -want +got:\n%s", others, diff)
			}
			heldExtra := ""
			if others > 0 {
				heldExtra = strconv.Itoa(19 * others)
			}
			counted := 1 + (2-others)*2 + 1
			hash := userHash(t, s, "u")
			for _, name := range []string{"2026-11", "2026-11/analyze", "2026-11-29", "2026-11-29/analyze"} {
				if hash["used/"+name] != strconv.Itoa(counted) || hash["extra/"+name] != strconv.Itoa(4*counted) || hash["heldextra/"+name] != heldExtra {
					t.Errorf("%s: %s requests and %s more units are counted, %q are held, want %d, %d and %q", name,
						hash["used/"+name], hash["extra/"+name], hash["heldextra/"+name], counted, 4*counted, heldExtra)
				}
			}
			for field, value := range hash {
				if strings.HasPrefix(field, "dayextra/") && value != strconv.Itoa(4*counted) || strings.HasPrefix(field, "billextra/") && value != strconv.Itoa(4*counted) {
					t.Errorf("%s is %s, want %d", field, value, 4*counted)
				}
			}
			if others > 0 {
				mustCommit(t, s, held[others-1])
			}
		}
		s.markers.takeDue() // the last marker is not deleted in the background
		s.markers.takeDue()
	})
}

// What is no number on the day or in the hour begins anew, also in a plain call: the request counts in its windows, whatever
// is shown of the day.
func TestPlainCommitCountsADamagedDayAnew(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		opt.HistoryDays, opt.BillingHours = historyDays, 168
		s := openLike(t, opt, redistest.Start(t).URL(), quotatest.NewClock(noon))
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		var damaged []string
		for field := range userHash(t, s, "u") {
			if strings.HasPrefix(field, "day/") || strings.HasPrefix(field, "bill/") {
				damaged = append(damaged, field)
				commands(s).HSet(ctx, key(s, "u"), field, "x")
			}
		}
		mustCommit(t, s, &r)
		for _, field := range damaged {
			if got := userHash(t, s, "u")[field]; got != "1" {
				t.Errorf("%s is %q, want 1", field, got)
			}
		}
		if len(damaged) != 2 {
			t.Errorf("%v were damaged, want a day and an hour", damaged)
		}
		if got := userHash(t, s, "u")["used/2026-11"]; got != "2" {
			t.Errorf("%q requests are counted, want 2", got)
		}
	})
}

// So does one whose cost is known only from the body: it holds what it may still cost, and is settled in a second step.
func TestRequestWithARestIsPlain(t *testing.T) {
	server := redistest.Start(t)
	server.Needs(t, "7.0", "functions")
	s := openLike(t, Options{functionsFirst: true, HistoryDays: historyDays, BillingHours: 168}, server.URL(), quotatest.NewClock(noon))
	p := quotatest.NewWeightedPlan("units", quota.Limit{Amount: 1000, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 1000, Period: quota.Day})
	begin := func() *quota.Reservation {
		r := reserveUnits(t, s, p, 20)
		r.Unused, r.Rest, r.RestCharged = 18, 15, 5
		return r
	}
	end := func(r *quota.Reservation) {
		if _, err := s.CommitRest(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, used, extra int, heldExtra, rests string) {
		t.Helper()
		hash := userHash(t, s, "u")
		for _, name := range []string{"2026-11", "2026-11/analyze", "2026-11-29", "2026-11-29/analyze"} {
			if hash["used/"+name] != strconv.Itoa(used) || hash["extra/"+name] != strconv.Itoa(extra) || hash["heldextra/"+name] != heldExtra || hash["held/"+name] != "" {
				t.Errorf("%s: in %s, %s requests and %s more units are counted, %q and %q are held, want %d, %d, none and %q", what, name,
					hash["used/"+name], hash["extra/"+name], hash["held/"+name], hash["heldextra/"+name], used, extra, heldExtra)
			}
		}
		if hash["rests"] != rests {
			t.Errorf("%s: %q rests, want %q", what, hash["rests"], rests)
		}
		for field, value := range hash {
			if (strings.HasPrefix(field, "dayextra/") || strings.HasPrefix(field, "billextra/")) && value != strconv.Itoa(extra) {
				t.Errorf("%s: %s is %s, want %d", what, field, value, extra)
			}
		}
	}
	first := begin() // the first request of a user is not plain
	mustCommit(t, s, first)
	end(first)
	want("after the first request", 1, 6, "", "")
	var r, other *quota.Reservation
	got := allCommandsOf(t, server, func() {
		r = begin()
		mustCommit(t, s, r)
	})
	want("after the first step", 2, 7, "15", "1")
	if diff := cmp.Diff(map[string]int{"fcall": 2, "time": 2, "hmget": 2, "hset": 2, "hdel": 1, "publish": 2, "pttl": 1}, got); diff != "" {
		t.Errorf("to begin: -want +got:\n%s", diff)
	}
	other = begin() // a script serves it: units are held, and no request
	mustCommit(t, s, other)
	want("beside another rest", 3, 8, "30", "2")
	for i, held := range []string{"15", ""} {
		got = allCommandsOf(t, server, func() { end([]*quota.Reservation{r, other}[i]) })
		if diff := cmp.Diff(map[string]int{"fcall": 1, "time": 1, "hmget": 1, "hset": 1, "hdel": 1, "publish": 1, "pttl": 1}, got); diff != "" {
			t.Errorf("to end: -want +got:\n%s", diff)
		}
		want("after a second step", 3, 13+5*i, held, []string{"1", ""}[i])
	}
	end(other) // once more
	want("after a repeated call", 3, 18, "", "")
}

// A lease whose time is no number can be counted, also after a pause.
func TestPlainCommitCountsADamagedLease(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		for range 2 {
			mustCommit(t, s, reserveBy(t, s, plan, "u"))
		}
		r := reserveBy(t, s, plan, "u")
		field := "lease/" + r.ID
		commands(s).HSet(ctx, key(s, "u"), field, "x"+userHash(t, s, "u")[field][1:])
		clock.Advance(2 * time.Minute)
		mustCommit(t, s, r)
	})
}

// reserveUnits reserves a request of the user "u" that may cost so much.
func reserveUnits(t *testing.T, s *Store, p *quota.Plan, units int64) *quota.Reservation {
	t.Helper()
	request := requestBy(p, "u")
	request.Units = units
	d, err := s.Reserve(ctx, request)
	if err != nil || !d.Admitted {
		t.Fatal(d.Admitted, err)
	}
	return &d.Reservation
}

// Release 0.1.0 knows no units, and leaves them behind when it gives a request back. They hold nothing: neither are they added to, nor does
// a reply have them once they may have ended.
func TestUnitsThatNobodyHolds(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		month := quota.Limit{Amount: 1000, Period: quota.Month, Quantity: quota.Units}
		ofReport := month
		ofReport.Endpoint = "report"
		p := quotatest.NewWeightedPlan("units", month, ofReport)
		mustCommit(t, s, reserveUnits(t, s, p, 5))
		commands(s).HSet(ctx, key(s, "u"), "heldextra/2026-11", "7", "heldextra/2026-11/analyze", "7", "heldextra/2026-11/report", "7")
		r := reserveUnits(t, s, p, 20)
		if hash := userHash(t, s, "u"); hash["heldextra/2026-11"] != "19" || hash["heldextra/2026-11/analyze"] != "19" {
			t.Errorf("%s and %s more units are held, want 19", hash["heldextra/2026-11"], hash["heldextra/2026-11/analyze"])
		}
		commands(s).HSet(ctx, key(s, "u"), "sweep", clock.Now().UnixMilli()-1000)
		snapshot, err := s.Commit(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if held := snapshot.Limits[1].Held; held != 0 {
			t.Errorf("%d units of report are held, want none", held)
		}
	})
}

// Units are counted exactly beyond 2^31 as well, and by functions.
func TestManyUnitsArePlain(t *testing.T) {
	server := redistest.Start(t)
	server.Needs(t, "7.0", "functions")
	s := openLike(t, Options{functionsFirst: true}, server.URL(), quotatest.NewClock(noon))
	p := quotatest.NewWeightedPlan("units", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Quantity: quota.Units})
	const units = 1_000_000_000
	mustCommit(t, s, reserveUnits(t, s, p, units))
	got := allCommandsOf(t, server, func() {
		for range 3 {
			var held []*quota.Reservation
			for range 4 {
				held = append(held, reserveUnits(t, s, p, units))
			}
			for _, r := range held {
				mustCommit(t, s, r)
			}
		}
	})
	if got["evalsha"] > 0 {
		t.Errorf("%v, want functions to serve all", got)
	}
	if hash := userHash(t, s, "u"); hash["extra/2026-11"] != "12999999987" || hash["heldextra/2026-11"] != "" {
		t.Errorf("%s more units are counted and %q held, want 12999999987 and none", hash["extra/2026-11"], hash["heldextra/2026-11"])
	}
}
