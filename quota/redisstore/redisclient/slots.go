package redisclient

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// slots is the number of hash slots of a Redis Cluster. A master has some of them.
const slots = 16384

// partitions is into how many ranges of slots a cluster is cut: masters fail one by one,
// and each has a range.
const partitions = 16

// Partitions returns how many parts of the data may fail by themselves: 1, or 16 ranges of
// slots of a cluster.
func (c *Client) Partitions() int {
	if c.IsCluster() {
		return partitions
	}
	return 1
}

// Partition returns the part that has a key, 0 to Partitions()-1. The key must have a hash
// tag, as Slot says.
func (c *Client) Partition(key string) int {
	if c.Partitions() == 1 {
		return 0
	}
	return int(Slot(key)) / (slots / partitions)
}

// Slot returns the slot of a key with a hash tag, 0 to 16383: the CRC16 of what stands
// between the first { and the } after it (the Redis Cluster specification, "Key
// distribution model"). A key without a tag panics.
func Slot(key string) uint16 {
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

// tags has the results of TagForSlot, of which each takes about a millisecond.
var tags sync.Map

// TagForSlot returns what to put between { and } to make a key of a slot: the lowest number for
// which that is so.
func TagForSlot(slot uint16) string {
	if tag, ok := tags.Load(slot); ok {
		return tag.(string)
	}
	for n := 0; ; n++ {
		if tag := strconv.Itoa(n); Slot("{"+tag+"}") == slot {
			tags.Store(slot, tag)
			return tag
		}
	}
}

// FirstSlots returns the first slot of each master of a cluster, in order; of a single Redis,
// which has all slots, it is 0.
func (c *Client) FirstSlots(ctx context.Context) (first []uint16, err error) {
	if !c.IsCluster() {
		return []uint16{0}, nil
	}
	var ranges []redis.ClusterSlot
	err = c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		got, err := r.(*redis.ClusterClient).ClusterSlots(ctx).Result()
		if err == nil && len(got) == 0 {
			err = errors.New("no node of the cluster has any slots")
		}
		ranges = got
		return err
	})
	if err != nil {
		return nil, err // the call may still be under way, and write to ranges
	}
	lowest := map[string]int{} // by the master's ID
	for _, r := range ranges {
		if len(r.Nodes) == 0 {
			continue
		}
		master := r.Nodes[0].ID + r.Nodes[0].Addr
		if slot, known := lowest[master]; !known || r.Start < slot {
			lowest[master] = r.Start
		}
	}
	for _, slot := range lowest {
		first = append(first, uint16(slot))
	}
	slices.Sort(first)
	return first, nil
}
