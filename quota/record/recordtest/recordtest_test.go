package recordtest_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/quotatest"
	"metergate/quota/record/recordtest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		checks.Value.Set("4") // each opens four stores
	}
	os.Exit(m.Run())
}

func openEmbedded(t *rapid.T, clock *quotatest.Clock, calendar *quota.Calendar) recordtest.Store {
	dir, err := os.MkdirTemp("", "recordtest")
	if err != nil {
		t.Fatal(err)
	}
	s, err := boltstore.Open(dir, boltstore.Options{Calendar: calendar, Keep: recordtest.Keep, HistoryDays: recordtest.HistoryDays, BillingHours: recordtest.BillingHours, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		os.RemoveAll(dir)
	})
	return s
}

func openRedis(url string) recordtest.Open {
	return func(t *rapid.T, clock *quotatest.Clock, calendar *quota.Calendar) recordtest.Store {
		s, err := redisstore.Open(redisstore.Options{URL: url, Prefix: "test-" + quota.NewID(), Timeout: 20 * time.Second, Calendar: calendar, Keep: recordtest.Keep,
			HistoryDays: recordtest.HistoryDays, BillingHours: recordtest.BillingHours, Now: clock.Now, Offset: clock.Offset})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
}

// What was moved answers as before, from the embedded store to Redis and back.
func TestEmbeddedToRedisAndBack(t *testing.T) {
	recordtest.Run(t, openEmbedded, openRedis(redistest.Start(t).URL()))
}

// Likewise from Redis to the embedded store and back.
func TestRedisToEmbeddedAndBack(t *testing.T) {
	recordtest.Run(t, openRedis(redistest.Start(t).URL()), openEmbedded)
}
