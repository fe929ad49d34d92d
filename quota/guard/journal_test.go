package guard_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// The journal is replayed before the user's next reserve, however soon that comes.
func TestReplayPrecedesNextReserve(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	for round := range 20 {
		user := fmt.Sprint("user-", round)
		r.beginOutage()
		r.use(4, user, five)
		r.endOutage()
		var d *quota.Decision
		testkit.EventuallyWithin(t, time.Minute, "the store decides", func() bool {
			var err error
			if d, err = r.Reserve(ctx, request(user, five)); err != nil {
				t.Fatal(err)
			}
			if d.Reservation.Unchecked {
				r.Release(ctx, &d.Reservation)
			}
			return !d.Reservation.Unchecked
		})
		if got := numbers(d.Snapshot); got != "4+1" {
			t.Fatalf("the store's first decision was made at %s, want 4+1", got)
		}
	}
}

// A gateway that dies in an outage, or during the replay, leaves its journal to the next one,
// which counts each entry once.
func TestJournalIsReplayedByNextProcess(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	dir := t.TempDir()
	o := r.options
	o.Journal = openJournal(t, dir)
	first := open(t, o)
	r.beginOutage()
	const users, each = 20, 5
	for i := range users {
		for range each {
			d, err := first.Reserve(ctx, request(fmt.Sprint("user-", i), five))
			if err != nil || !d.Admitted {
				t.Fatal(d.Admitted, err)
			}
			if _, err := first.Commit(ctx, &d.Reservation); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A crash would leave the file as it is now.
	image, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	r.endOutage()
	testkit.EventuallyWithin(t, time.Minute, "the first has replayed some", func() bool { return first.Stats().Replayed > 0 })
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journal.db"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Journal = openJournal(t, dir)
	second := open(t, o)
	testkit.EventuallyWithin(t, time.Minute, "both are done", func() bool { return first.Stats().Backlog == 0 && second.Stats().Backlog == 0 })
	if n := second.Stats().Replayed; n != users*each {
		t.Errorf("the second replayed %d, want %d", n, users*each)
	}
	for i := range users {
		s, err := second.Read(ctx, fmt.Sprint("user-", i), five.OnlyChoice())
		if err != nil || numbers(s) != "5+0" {
			t.Errorf("user-%d: %s, error %v; want 5+0", i, numbers(s), err)
		}
	}
	// Entries that were removed stay removed.
	second.Close()
	third := openJournal(t, dir)
	o.Journal = third
	if n := open(t, o).Stats().Backlog; n != 0 {
		t.Errorf("%d entries are left in the file", n)
	}
}

// A count of which no window is kept any more is dropped, and reported as dropped.
func TestReplayDropsCountsNoLongerKept(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	perMinute := quotatest.NewPlan("minute", quota.Limit{Amount: 5, Period: quota.Minute})
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	r.use(1, "u", perMinute)
	r.beginOutage()
	r.use(2, "u", perMinute)
	r.use(1, "v", five)
	r.endOutageAfter(3*time.Hour, clock) // minutes are kept for two hours
	r.waitForReplay()
	if st := r.Stats(); st.Dropped != 2 || st.Replayed != 1 {
		t.Errorf("%d dropped, %d replayed; want 2 and 1", st.Dropped, st.Replayed)
	}
	r.wantState("v", five, "1+0")
}

// Close does not wait for a long backlog, which is in the file.
func TestCloseDoesNotWaitForBacklog(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.beginOutage()
	for i := range 100 {
		r.use(1, fmt.Sprint("user-", i), five)
	}
	r.endOutage()
	r.faultProxy.DelayReplies(300 * time.Millisecond)
	began := time.Now()
	r.Close()
	if took := time.Since(began); took > 15*time.Second { // one after the other they would take 30 s
		t.Errorf("Close took %v", took)
	}
}

// Without a journal, Commit returns an error if the store does not take the count: it is lost
// if the process dies. If it does not die, it is counted.
func TestCommitWithoutJournalReturnsError(t *testing.T) {
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	backend := &overloadedStore{Store: local}
	s := open(t, guard.Options{Backend: backend, Timeout: time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	d, err := s.Reserve(ctx, request("u", five))
	if err != nil {
		t.Fatal(err)
	}
	backend.overloaded.Store(true)
	if _, err := s.Commit(ctx, &d.Reservation); err == nil || s.Stats().JournalErrors != 1 {
		t.Errorf("error %v, %+v; want an error and one journal error", err, s.Stats())
	}
	backend.overloaded.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "it is counted", func() bool { s, err := s.Read(ctx, "u", five.OnlyChoice()); return err == nil && numbers(s) == "1+0" })
}

func TestOpenJournalRefusesUnusableFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "anew")
	j := openJournal(t, dir)
	if _, err := guard.OpenJournal(dir); !errors.Is(err, guard.ErrInUse) {
		t.Errorf("a second OpenJournal: error %v, want %v", err, guard.ErrInUse)
	}
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	open(t, guard.Options{Backend: local, Journal: j, Timeout: time.Second, Calendar: quota.NewCalendar(nil), Keep: time.Hour}).Close()
	openJournal(t, dir) // free again

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.OpenJournal(file); err == nil {
		t.Error("a file was taken for a folder")
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "journal.db"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.OpenJournal(filepath.Dir(file)); err == nil {
		t.Error("a file of something else was taken for a journal")
	}
}
