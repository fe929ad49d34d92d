package redisstore

import (
	"testing"

	"metergate/quota/redisstore/redistest"
)

func TestProbeFailsWhereAReserveWould(t *testing.T) {
	redis := redistest.Start(t)
	s := openStore(t, redis.URL())
	if err := s.Probe(ctx, "u"); err != nil {
		t.Errorf("a Redis that works: %v", err)
	}
	for name, commandsOf := range map[string]struct{ begin, end []any }{
		"no memory": {[]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		"a replica": {[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
	} {
		if err := commands(s).Do(ctx, commandsOf.begin...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Probe(ctx, "u"); err == nil {
			t.Errorf("%s: the probe succeeds, but a reserve would not", name)
		}
		if err := commands(s).Do(ctx, commandsOf.end...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Probe(ctx, "u"); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}
