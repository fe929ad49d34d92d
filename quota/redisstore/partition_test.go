package redisstore

import (
	"fmt"
	"testing"

	"metergate/quota/redisstore/redistest"
)

// Redis knows best in which slot a key is.
func TestSlot(t *testing.T) {
	s := openStore(t, redistest.Start(t, "--cluster-enabled", "yes").URL())
	for i := range 100 {
		key := s.key(fmt.Sprint("user-", i))
		want, err := s.client.Do(ctx, "CLUSTER", "KEYSLOT", key).Int()
		if got := int(slotOf(key)); err != nil || got != want {
			t.Fatalf("slot of %s is %d, Redis says %d (error %v)", key, got, want, err)
		}
		if beside, _ := s.client.Do(ctx, "CLUSTER", "KEYSLOT", key+":probe").Int(); beside != want {
			t.Errorf("the probe's key is in slot %d, not %d", beside, want)
		}
	}
}

func TestProbe(t *testing.T) {
	redis := redistest.Start(t)
	s := openStore(t, redis.URL())
	if err := s.Probe(ctx, "u"); err != nil {
		t.Errorf("a Redis that works: %v", err)
	}
	for name, commands := range map[string][2][]any{
		"no memory": {{"CONFIG", "SET", "maxmemory", "1"}, {"CONFIG", "SET", "maxmemory", "0"}},
		"a replica": {{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}},
	} {
		if err := s.client.Do(ctx, commands[0]...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Probe(ctx, "u"); err == nil {
			t.Errorf("%s: the probe succeeds, a reserve would not", name)
		}
		if err := s.client.Do(ctx, commands[1]...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Probe(ctx, "u"); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}
