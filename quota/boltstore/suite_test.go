package boltstore

import (
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
)

func TestSuite(t *testing.T) {
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, t.TempDir(), Options{Calendar: calendar, Now: clock.Now})
	})
}
