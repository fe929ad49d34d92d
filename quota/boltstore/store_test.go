package boltstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/quotatest"
)

var (
	noon = time.Date(2026, time.November, 17, 12, 0, 30, 0, time.UTC)
	ctx  = context.Background()
)

func TestSuite(t *testing.T) {
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, t.TempDir(), Options{Calendar: calendar, Now: clock.Now})
	})
}

// open opens a store that is closed with the test, unless it was before.
func open(t testing.TB, dir string, opt Options) *Store {
	t.Helper()
	s, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// plan allows a number of requests a month.
func plan(requests int64) *quota.Plan {
	return quotatest.NewPlan("plan", quota.Limit{Requests: requests, Period: quota.Month})
}

func request(user string, p *quota.Plan) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute}
}

func admit(t testing.TB, s *Store, r quota.Request) quota.Reservation {
	t.Helper()
	d, err := s.Reserve(ctx, r)
	if err != nil || !d.Admitted {
		t.Fatalf("Reserve: admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

func count(t testing.TB, s *Store, r quota.Reservation) {
	t.Helper()
	if _, err := s.Commit(ctx, &r); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// want checks what a user has used and holds over the plan's period.
func want(t testing.TB, s *Store, user string, p *quota.Plan, used, held int64) {
	t.Helper()
	snap, err := s.Read(ctx, user, p.OnlyChoice())
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if snap.Total.Used != used || snap.Total.Held != held {
		t.Errorf("used %d and held %d, want %d and %d", snap.Total.Used, snap.Total.Held, used, held)
	}
}

// writes is the number of writes that the file has seen.
func writes(t testing.TB, s *Store) (n int) {
	t.Helper()
	if err := s.db.View(func(tx *bolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReopen(t *testing.T) {
	dir, p := filepath.Join(t.TempDir(), "not", "there", "yet"), plan(5)
	now := func() time.Time { return noon }
	s := open(t, dir, Options{Now: now})
	for range 3 {
		count(t, s, admit(t, s, request("u", p)))
	}
	late := admit(t, s, request("u", p))
	want(t, s, "u", p, 3, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir, Options{Now: now})
	want(t, s, "u", p, 3, 0)
	count(t, s, late) // its hold is gone, its request was good
	want(t, s, "u", p, 4, 0)

	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "usage.db"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("%s has mode %v, want %v", path, got, mode)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		file func(t *testing.T, path string)
		opt  Options
		want string
	}{
		"a newer format": {
			file: func(t *testing.T, path string) {
				open(t, filepath.Dir(path), Options{}).Close()
				edit(t, path, func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("3")) })
			},
			want: `usage.db: the file has format "3", this version of the program knows only "1" and "2"`,
		},
		"another program's database": {
			file: func(t *testing.T, path string) {
				edit(t, path, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
			},
			want: "usage.db: this is a database of another program",
		},
		"another kind of file": {
			file: func(t *testing.T, path string) {
				if err := os.WriteFile(path, []byte(strings.Repeat("no database\n", 5000)), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "usage.db: invalid database",
		},
		"a negative time to keep": {
			file: func(*testing.T, string) {},
			opt:  Options{Keep: -time.Hour},
			want: "cannot keep counts for -1h0m0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "usage.db")
			test.file(t, path)
			s, err := Open(filepath.Dir(path), test.opt)
			if err == nil {
				s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q in it", err, test.want)
			}
		})
	}
}

func edit(t *testing.T, path string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), filepath.Join(dir, "usage.db")+" is in use by another process") {
		t.Errorf("a second Open: error %v, want %v with the path", err, ErrInUse)
	}
	s.Close()
	open(t, dir, Options{})
}

// 1,000 requests at once, each of which succeeds, and readers who must see the
// units go up to the limit and never back.
func TestExactlyTheLimit(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(100)
	var requests, readers sync.WaitGroup
	var admitted atomic.Int64
	stop := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			last := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap, err := s.Read(ctx, "u", p.OnlyChoice())
				taken := snap.Total.Used + snap.Total.Held
				if err != nil || taken > 100 || taken < last {
					t.Errorf("%d units are taken (error %v), after %d of 100", taken, err, last)
					return
				}
				last = taken
			}
		})
	}
	for range 1000 {
		requests.Go(func() {
			d, err := s.Reserve(ctx, request("u", p))
			taken := d.Snapshot.Total.Used + d.Snapshot.Total.Held
			switch {
			case err != nil:
				t.Error(err)
			case !d.Admitted && taken != 100:
				t.Errorf("refused when %d of 100 units were taken", taken)
			case d.Admitted:
				admitted.Add(1)
				snap, err := s.Commit(ctx, &d.Reservation)
				if err != nil || snap.Total.Used < 1 || snap.Total.Used+snap.Total.Held > 100 {
					t.Errorf("after a commit: used %d, held %d, error %v", snap.Total.Used, snap.Total.Held, err)
				}
			}
		})
	}
	requests.Wait()
	close(stop)
	readers.Wait()
	if n := admitted.Load(); n != 100 {
		t.Errorf("%d were admitted, want 100", n)
	}
	want(t, s, "u", p, 100, 0)
}

// Requests one after the other, each a write, and readers who must see each unit
// come and stay.
func TestReadersSeeEachUnitOnce(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(1000)
	var readers sync.WaitGroup
	var begun atomic.Int64
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			last := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap, err := s.Read(ctx, "u", p.OnlyChoice())
				taken := snap.Total.Used + snap.Total.Held
				if begun := begun.Load(); err != nil || taken > begun || taken < last {
					t.Errorf("%d units are taken (error %v) of %d, after %d", taken, err, begun, last)
					return
				}
				last = taken
			}
		})
	}
	for range 300 {
		begun.Add(1)
		count(t, s, admit(t, s, request("u", p)))
	}
	close(stop)
	readers.Wait()
}

func TestLeaseEndsToTheInstant(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(1)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	admit(t, s, request("u", p))
	clock.Advance(time.Minute - 1)
	if d, err := s.Reserve(ctx, request("u", p)); d.Admitted || err != nil {
		t.Errorf("one nanosecond before the lease's end: admitted %v, error %v", d.Admitted, err)
	}
	clock.Advance(1)
	want(t, s, "u", p, 0, 0)
	admit(t, s, request("u", p))
}

// A Reserve that is sent again after the window's turn keeps the first windows,
// and the first lease.
func TestReserveAgain(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, 11, 30, 23, 59, 50, 0, time.UTC))
	s, p := open(t, t.TempDir(), Options{Now: clock.Now}), plan(1)
	r := request("u", p)
	admit(t, s, r)
	clock.Advance(20 * time.Second)
	again := admit(t, s, r)
	if got := again.Windows[0].ID; got != "2026-11" {
		t.Errorf("the second answer counts in %s, want 2026-11", got)
	}
	want(t, s, "u", p, 0, 0)
	clock.Set(time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC))
	want(t, s, "u", p, 0, 1)
	clock.Advance(51 * time.Second)
	admit(t, s, r) // a new hold, for the first lease is over
	want(t, s, "u", p, 0, 1)
}

// Whatever the outcome of Reserve, there is a reservation to settle.
func TestReserveFails(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(1)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	settled := request("u", p)
	count(t, s, admit(t, s, settled))
	check := func(ctx context.Context, r quota.Request, target error) {
		t.Helper()
		d, err := s.Reserve(ctx, r)
		if !errors.Is(err, target) || d.Admitted {
			t.Errorf("admitted %v, error %v, want %v", d.Admitted, err, target)
		}
		if got := d.Reservation; got.ID != r.ID || len(got.Windows) != 1 || got.Windows[0].ID != "2026-11" {
			t.Errorf("the reservation is %+v", got)
		}
	}
	check(ended, request("u", p), context.Canceled)
	check(ctx, settled, quota.ErrSettled)
	if d, err := s.Reserve(ctx, request("u", p)); d.Admitted || err != nil || len(d.Reservation.Windows) != 1 {
		t.Errorf("over the limit: %+v, error %v", d, err)
	}
	want(t, s, "u", p, 1, 0)
	s.Close()
	check(ctx, request("u", p), ErrClosed)
}

// What is settled or given up does not stay in memory.
func TestMemoryIsBounded(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(1000)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	first := admit(t, s, request("u", p))
	for range 100 {
		r := admit(t, s, request("u", p))
		if _, err := s.Release(ctx, &r); err != nil {
			t.Fatal(err)
		}
		admit(t, s, request("u", p)) // and never heard of again
	}
	count(t, s, first)
	clock.Advance(markerLife - 1)
	count(t, s, first) // is remembered
	want(t, s, "u", p, 1, 0)
	sh := s.shard("u")
	for turn, want := range []struct{ holds, ids int }{{0, 101}, {0, 0}} {
		clock.Advance(markerLife)
		if _, err := s.Read(ctx, "u", p.OnlyChoice()); err != nil {
			t.Fatal(err)
		}
		holds, ids := len(sh.holds), len(sh.settled)+len(sh.settledBefore)
		if holds != want.holds || ids != want.ids {
			t.Errorf("turn %d: holds of %d users and %d ids in memory, want %v", turn, holds, ids, want)
		}
	}
}

// A store that nobody used for long forgets all at once.
func TestMemoryAfterIdleTime(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(1000)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	count(t, s, admit(t, s, request("u", p)))
	clock.Advance(2 * markerLife)
	want(t, s, "u", p, 1, 0)
	if sh := s.shard("u"); len(sh.settled)+len(sh.settledBefore) != 0 {
		t.Errorf("ids in memory: %v and %v", sh.settled, sh.settledBefore)
	}
}

func TestClose(t *testing.T) { synctest.Test(t, testClose) }

func testClose(t *testing.T) {
	dir, p := t.TempDir(), plan(10)
	var answering atomic.Bool
	answer := make(chan struct{})
	s := open(t, dir, Options{Now: func() time.Time {
		if answering.Load() {
			<-answer
		}
		return noon
	}})
	writing, disk := slowDisk(s)
	update, written := s.update, 0
	s.update = func(fn func(*bolt.Tx) error) error {
		err := update(fn)
		written++
		answering.Store(written == 2)
		return err
	}
	waits, leaves := admit(t, s, request("u", p)), admit(t, s, request("u", p))
	left, leave := context.WithCancel(ctx)
	committed := make(chan error)
	go func() { _, err := s.Commit(left, &leaves); committed <- err }()
	<-writing
	go func() { _, err := s.Commit(ctx, &waits); committed <- err }()
	synctest.Wait()
	leave()
	if err := <-committed; !errors.Is(err, context.Canceled) {
		t.Errorf("Commit of a caller who left: %v", err)
	}

	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	open := func(while string) {
		t.Helper()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("Close returned %v while %s", err, while)
		default:
		}
	}
	open("a count was written for who had left")
	disk <- nil
	<-writing
	open("a count was written")
	disk <- nil
	open("a count was not answered")
	answering.Store(false)
	close(answer)
	if err := <-committed; err != nil {
		t.Errorf("Commit that began before Close: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	for name, call := range map[string]func() error{
		"Reserve": func() error { _, err := s.Reserve(ctx, request("u", p)); return err },
		"Commit":  func() error { _, err := s.Commit(ctx, &waits); return err },
		"Release": func() error { _, err := s.Release(ctx, &waits); return err },
		"Read":    func() error { _, err := s.Read(ctx, "u", p.OnlyChoice()); return err },
		"Ping":    func() error { return s.Ping(ctx) },
		"Change": func() error {
			_, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), quota.Change{Action: quota.ActionReset})
			return err
		},
		"ReadAt":  func() error { _, err := s.ReadAt(ctx, "u", p.OnlyChoice(), noon); return err },
		"Claimed": func() error { _, err := s.ClaimedPlan(ctx, "u"); return err },
		"Audit":   func() error { _, err := s.AuditLog(ctx, "u"); return err },
		"Users":   func() error { return s.ScanUsers(ctx, quota.Month, noon, nil) },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want %v", name, err, ErrClosed)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if s, err := Open(dir, Options{Now: func() time.Time { return noon }}); err != nil {
		t.Error(err)
	} else {
		want(t, s, "u", p, 2, 0)
		s.Close()
	}
}

// In the bubble time passes only when all wait for it.
func TestNothingWaitsForATimer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		count(t, s, admit(t, s, request("u", plan(1))))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it waited for %v", waited)
		}
	})
}
