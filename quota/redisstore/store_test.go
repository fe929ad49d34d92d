package redisstore_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

// slow is a timeout that no working Redis needs, however busy the machine.
const slow = 20 * time.Second

// open opens a store on a Redis of its own prefix; time is the clock's.
func open(t testing.TB, url string, clock *quotatest.Clock, calendar *quota.Calendar) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(redisstore.Options{
		URL: url, Prefix: "test-" + quota.NewID(), Timeout: slow, Calendar: calendar,
		Now:    clock.Now,
		Offset: func() time.Duration { return clock.Now().Sub(time.Now()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSuite(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quotatest.Store {
		return open(t, url, clock, calendar)
	})
}

// The suite on miniredis needs no server. Its clock does not move by itself, and
// keys do not expire.
func TestSuiteMiniredis(t *testing.T) {
	url := "redis://" + miniredis.RunT(t).Addr()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quotatest.Store {
		return open(t, url, clock, calendar)
	})
}
