package redisclient

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// TestSlotAgreesWithRedis uses the keys of users, and those beside them, which have to be in
// the same slot.
func TestSlotAgreesWithRedis(t *testing.T) {
	c := newClient(t, redistest.Start(t, "--cluster-enabled", "yes").URL(), patient, 32)
	err := c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		for i := range 100 {
			key := script.Key("metergate", fmt.Sprint("user-", i))
			want, err := r.Do(ctx, "CLUSTER", "KEYSLOT", key).Int()
			if got := int(Slot(key)); err != nil || got != want {
				return fmt.Errorf("the slot of %s is %d, Redis says %d (error %v)", key, got, want, err)
			}
			if beside, _ := r.Do(ctx, "CLUSTER", "KEYSLOT", script.CheckKey(key, "gateway")).Int(); beside != want {
				return fmt.Errorf("the key of a check is in slot %d, not %d", beside, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
