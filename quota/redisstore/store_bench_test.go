package redisstore_test

import (
	"testing"

	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

func BenchmarkStore(b *testing.B) {
	s, err := redisstore.Open(redisstore.Options{URL: redistest.Start(b).URL(), Timeout: patient})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	quotatest.Benchmark(b, s)
}
