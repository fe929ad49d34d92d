package boltstore

import (
	"path/filepath"
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
)

func TestSuite(t *testing.T) {
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, t.TempDir(), Options{Calendar: calendar, Now: clock.Now})
	})
}

func TestHistorySuite(t *testing.T) {
	dir := t.TempDir()
	quotatest.RunHistory(t, func(t testing.TB, s quotatest.HistorySetup) quota.Store {
		return open(t, filepath.Join(dir, s.Data), Options{Calendar: s.Calendar, Keep: s.Keep, HistoryDays: s.HistoryDays, Now: s.Clock.Now})
	})
}

func TestBillsSuite(t *testing.T) {
	dir := t.TempDir()
	quotatest.RunBills(t, func(t testing.TB, s quotatest.BillsSetup) quota.Store {
		return open(t, filepath.Join(dir, s.Data), Options{Keep: s.Keep, BillingHours: s.BillingHours, HistoryDays: s.HistoryDays, Now: s.Clock.Now})
	})
}

func TestCrossingsSuite(t *testing.T) {
	quotatest.RunCrossings(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, t.TempDir(), Options{Calendar: calendar, Now: clock.Now})
	})
}
