package boltstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// scanBills returns the bills of all hours that are over, by account.
func scanBills(s *Store) (map[string][]quota.Bill, error) {
	bills := map[string][]quota.Bill{}
	err := s.ScanBills(ctx, quota.BillQuery{Before: quota.BillHourAt(s.Now())}, func(a quota.AccountBills) error {
		bills[a.Account] = a.Bills
		return nil
	})
	return bills, err
}

// wantBills compares the bills of an account with want: requests and revision of each.
func wantBills(t testing.TB, s *Store, account, want string) []quota.Bill {
	t.Helper()
	all, err := scanBills(s)
	text := ""
	for _, b := range all[account] {
		text += fmt.Sprintf("%d#%d ", b.Used.Requests, b.Revision)
	}
	if err != nil || text != want {
		t.Errorf("the bills are %q (error %v), want %q", text, err, want)
	}
	return all[account]
}

func TestNoBillsWithoutBillingHours(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{}), plan(5)
	r := admit(t, s, request("u", p))
	if r.BillHour != 0 {
		t.Errorf("the request counts in the hour %v", r.BillHour)
	}
	r.BillHour = quota.BillHourAt(s.Now()) // the gateway billed before it was started again
	count(t, s, r)
	s.db.Scan(func(tx *bolt.Tx) error {
		if tx.Bucket(billsBucket) != nil || tx.Bucket(revisionsBucket) != nil {
			t.Error("the file has bills")
		}
		return nil
	})
	if _, err := scanBills(s); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("ScanBills: error %v", err)
	}
	for _, hours := range []int{-1, quota.MaxBillingHours + 1} {
		if s, err := Open(t.TempDir(), Options{BillingHours: hours}); err == nil {
			s.Close()
			t.Errorf("%d hours were accepted", hours)
		}
	}
}

// A count and its hour are in one write, and so are all bills of a scan; to end bills is another one.
func TestBillsTakeOneWrite(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s, p := open(t, t.TempDir(), Options{BillingHours: 2, Now: clock.Now}), plan(50)
	r := admit(t, s, request("u", p))
	before := countWrites(t, s)
	wantWrites := func(what string, want int) {
		t.Helper()
		after := countWrites(t, s)
		if after-before != want {
			t.Errorf("%s: %d writes, want %d", what, after-before, want)
		}
		before = after
	}
	for range 3 {
		count(t, s, r)
	}
	wantWrites("a count", 1)
	for i := range 20 {
		count(t, s, admit(t, s, request(fmt.Sprint("user-", i), p)))
	}
	wantWrites("counts", 20)
	clock.Advance(time.Hour)
	bills := wantBills(t, s, "u", "1#1 ")
	wantWrites("a scan", 1)
	wantBills(t, s, "u", "1#1 ")
	wantWrites("another scan", 0)
	if err := s.EndBills(ctx, "u", bills); err != nil {
		t.Error(err)
	}
	wantWrites("the end", 1)
	wantBills(t, s, "u", "")
	wantWrites("a scan without them", 0)
}

// Hours live by BillingHours alone, whatever Keep is, and the last revision for weeks longer.
func TestPruneDeletesOldHours(t *testing.T) {
	for _, keep := range []time.Duration{time.Hour, 0} {
		clock := quotatest.NewClock(noon)
		s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: keep, BillingHours: 10})
		none := quotatest.NewPlan("none")
		for range 40 {
			count(t, s, admit(t, s, request("u", none)))
			clock.Advance(time.Hour)
			if _, err := scanBills(s); err != nil {
				t.Fatal(err)
			}
		}
		if bills, revisions := countKeys(t, s, billsBucket), countKeys(t, s, revisionsBucket); bills != 9 || revisions != 1 {
			t.Errorf("kept for %v: %d bills and %d revisions, want 9 and 1", keep, bills, revisions)
		}
		clock.Advance(revisionLife - time.Hour)
		count(t, s, admit(t, s, request("v", none)))
		if bills, revisions := countKeys(t, s, billsBucket), countKeys(t, s, revisionsBucket); bills != 1 || revisions != 1 {
			t.Errorf("kept for %v: weeks later, %d bills and %d revisions, want 1 and 1", keep, bills, revisions)
		}
		clock.Advance(2 * time.Hour)
		count(t, s, admit(t, s, request("v", none)))
		if revisions := countKeys(t, s, revisionsBucket); revisions != 0 {
			t.Errorf("kept for %v: then, %d revisions, want 0", keep, revisions)
		}
		s.db.Scan(func(tx *bolt.Tx) error {
			return tx.Bucket(endsBucket).ForEach(func(k, _ []byte) error {
				if k[0] == revisionKind {
					t.Errorf("kept for %v: ends has %q", keep, k)
				}
				return nil
			})
		})
	}
}

// A disk that fails makes no bill that is yielded and then gone, and ends none that stays unnoticed.
func TestBillsOnAFailingDisk(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s, p := open(t, t.TempDir(), Options{BillingHours: 5, Now: clock.Now}), plan(50)
	count(t, s, admit(t, s, request("u", p)))
	clock.Advance(time.Hour)
	broken := errors.New("the disk is broken")
	writing, disk := slowDisk(s)
	write := func(result error) {
		<-writing
		disk <- result
	}
	go write(broken)
	if bills, err := scanBills(s); !errors.Is(err, broken) || len(bills) > 0 {
		t.Errorf("making bills: %v, error %v", bills, err)
	}
	go write(nil)
	bills := wantBills(t, s, "u", "1#1 ")
	go write(broken)
	if err := s.EndBills(ctx, "u", bills); !errors.Is(err, broken) {
		t.Errorf("ending bills: error %v", err)
	}
	// Bills that a failed write may have made or ended are brought to disk before they are yielded.
	go write(broken)
	if bills, err := scanBills(s); !errors.Is(err, broken) || len(bills) > 0 {
		t.Errorf("a scan after that: %v, error %v", bills, err)
	}
	go write(nil)
	wantBills(t, s, "u", "1#1 ")
	go write(nil)
	if err := s.EndBills(ctx, "u", bills); err != nil {
		t.Error(err)
	}
	wantBills(t, s, "u", "")
}

func TestBillsOfAClosedStore(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := open(t, t.TempDir(), Options{BillingHours: 5, Now: clock.Now})
	count(t, s, admit(t, s, request("u", plan(50))))
	clock.Advance(time.Hour)
	bills := wantBills(t, s, "u", "1#1 ")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := scanBills(s); !errors.Is(err, ErrClosed) {
		t.Errorf("ScanBills: error %v", err)
	}
	if err := s.EndBills(ctx, "u", bills); !errors.Is(err, ErrClosed) {
		t.Errorf("EndBills: error %v", err)
	}
}

// The file of a release gets the buckets of bills, and keeps its format.
func TestReleaseDataGetsBills(t *testing.T) {
	s, _ := openRelease(t, "0.1.0", 0)
	dir := s.db.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	clock := quotatest.NewClock(time.Date(2026, time.November, 29, 11, 10, 0, 0, time.UTC))
	s = open(t, filepath.Dir(dir), Options{BillingHours: 5, Now: clock.Now})
	free, _ := releasePlans(t)
	count(t, s, admit(t, s, quota.Request{ID: quota.NewID(), User: "anna", Endpoint: "report", Plans: free, Lease: time.Minute}))
	clock.Advance(time.Hour)
	wantBills(t, s, "anna", "1#1 ")
	s.db.Scan(func(tx *bolt.Tx) error {
		if got := tx.Bucket(metaBucket).Get(formatKey); plainFormat(got) != format {
			t.Errorf("the file has format %q, want %q", got, format)
		}
		return nil
	})
}
