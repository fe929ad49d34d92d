package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// partitions is into how many ranges of slots a cluster is cut: masters fail one by
// one, and have a range each.
const partitions = 16

// Partitions is how many parts of the store may fail by themselves.
func (s *Store) Partitions() int {
	if _, ok := s.client.(*redis.ClusterClient); ok {
		return partitions
	}
	return 1
}

// Partition says which of them has the user's counts, 0 to Partitions()-1.
func (s *Store) Partition(user string) int {
	if s.Partitions() == 1 {
		return 0
	}
	return int(slotOf(s.key(user))) / (slots / partitions)
}

const slots = 16384

// slotOf is the slot of a key as key makes it, by the CRC16 of what stands between
// its braces (the Redis Cluster specification, "Key distribution model").
func slotOf(key string) uint16 {
	open := 0
	for key[open] != '{' {
		open++
	}
	var crc uint16
	for i := open + 1; key[i] != '}'; i++ {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}

// Probe writes a key of no account beside the user's: it fails where reads would
// still be answered, by a replica or for want of memory.
func (s *Store) Probe(ctx context.Context, user string) error {
	return s.exclusively(ctx, func(ctx context.Context) error {
		return s.client.Set(ctx, s.key(user)+":probe", "", time.Minute).Err()
	})
}

// Now is Redis's time as last seen.
func (s *Store) Now() time.Time { return s.now().Add(time.Duration(s.ahead.Load())) }
