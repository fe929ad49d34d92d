package guard_test

import (
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
)

func BenchmarkStore(b *testing.B) {
	local, err := boltstore.Open(b.TempDir(), boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer local.Close()
	s, err := guard.New(guard.Options{Backend: local, Timeout: time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	quotatest.Benchmark(b, s)
}
