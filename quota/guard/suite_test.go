package guard_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

// A guarded store passes the same suite as the store behind it.
func TestSuite(t *testing.T) {
	onBothStores(t, quotatest.Run)
}

func TestCrossingsSuite(t *testing.T) { onBothStores(t, quotatest.RunCrossings) }

// onBothStores runs a suite for guarded stores on Redis and on a file.
func onBothStores(t *testing.T, run func(*testing.T, quotatest.Open)) {
	url := redistest.Start(t).URL()
	guarded := func(t testing.TB, backend guard.Backend, calendar *quota.Calendar) quota.Store {
		j, err := guard.OpenJournal(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s, err := guard.New(guard.Options{Backend: backend, Journal: j, AllowOnFailure: true, Timeout: 20 * time.Second,
			Calendar: calendar, Keep: 400 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if st := s.Stats(); st.Journaled != 0 || st.Unchecked != 0 {
				t.Errorf("the journal was used without an outage: %+v", st)
			}
			s.Close()
		})
		return s
	}
	t.Run("redis", func(t *testing.T) {
		run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			backend, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "test-" + quota.NewID(), Timeout: 20 * time.Second,
				Calendar: calendar, Now: clock.Now, Offset: clock.Offset})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { backend.Close() })
			return guarded(t, backend, calendar)
		})
	})
	t.Run("bolt", func(t *testing.T) {
		run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			backend, err := boltstore.Open(t.TempDir(), boltstore.Options{Calendar: calendar, Now: clock.Now})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { backend.Close() })
			return guarded(t, backend, calendar)
		})
	})
}

// A closingStore is a guarded store that closes its backend as well.
type closingStore struct {
	*guard.Store
	backend interface{ Close() error }
}

func (s closingStore) Close() error { return errors.Join(s.Store.Close(), s.backend.Close()) }

func TestHistorySuite(t *testing.T) {
	dir := t.TempDir()
	quotatest.RunHistory(t, func(t testing.TB, s quotatest.HistorySetup) quota.Store {
		backend, err := boltstore.Open(filepath.Join(dir, s.Data), boltstore.Options{Calendar: s.Calendar, Now: s.Clock.Now, Keep: s.Keep, HistoryDays: s.HistoryDays})
		if err != nil {
			t.Fatal(err)
		}
		store, err := guard.New(guard.Options{Backend: backend, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true, Timeout: 20 * time.Second,
			Calendar: s.Calendar, Keep: s.Keep, HistoryDays: s.HistoryDays})
		if err != nil {
			t.Fatal(err)
		}
		closing := closingStore{store, backend}
		t.Cleanup(func() { closing.Close() })
		return closing
	})
}

func TestBillsSuite(t *testing.T) {
	dir := t.TempDir()
	quotatest.RunBills(t, func(t testing.TB, s quotatest.BillsSetup) quota.Store {
		backend, err := boltstore.Open(filepath.Join(dir, s.Data), boltstore.Options{Now: s.Clock.Now, Keep: s.Keep, BillingHours: s.BillingHours, HistoryDays: s.HistoryDays})
		if err != nil {
			t.Fatal(err)
		}
		store, err := guard.New(guard.Options{Backend: backend, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true, Timeout: 20 * time.Second,
			Calendar: quota.NewCalendar(nil), Keep: s.Keep, HistoryDays: s.HistoryDays, BillingHours: s.BillingHours})
		if err != nil {
			t.Fatal(err)
		}
		closing := closingStore{store, backend}
		t.Cleanup(func() { closing.Close() })
		return closing
	})
}
