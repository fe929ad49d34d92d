package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/script"
)

// The fields of a mark's hash.
const (
	fieldID       = "id"
	fieldReplaces = "replaces" // IDs, with spaces between
	fieldBeat     = "beat"
	fieldBeatAt   = "beat_at" // in ms since 1970
)

// doForMarks is Do for a function that returns marks. With an error, there may be some.
func (s *Store) doForMarks(fn func(context.Context, redis.UniversalClient) (map[uint16]mark, error)) (map[uint16]mark, error) {
	type result struct {
		marks map[uint16]mark
		err   error
	}
	results := make(chan result, 1)
	err := s.client.Do(context.Background(), func(ctx context.Context, r redis.UniversalClient) error {
		marks, err := fn(ctx, r)
		results <- result{marks, err}
		return nil
	})
	if err != nil {
		return nil, err
	}
	got := <-results
	return got.marks, got.err
}

func (s *Store) markKey(slot uint16) string {
	return script.IdentityKey(s.prefix, redisclient.TagForSlot(slot))
}

// readMarks reads the marks of some slots. With an error, there are those that could be read.
func (s *Store) readMarks(ctx context.Context, r redis.Cmdable, slots []uint16) (map[uint16]mark, error) {
	replies := make([]*redis.SliceCmd, len(slots))
	_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, slot := range slots {
			replies[i] = p.HMGet(ctx, s.markKey(slot), fieldID, fieldReplaces, fieldBeat, fieldBeatAt)
		}
		return nil
	})
	marks := map[uint16]mark{}
	for i, slot := range slots {
		values, err := replies[i].Result()
		if err != nil || len(values) != 4 {
			continue
		}
		text := func(i int) string { v, _ := values[i].(string); return v }
		m := mark{ID: text(0), replaces: strings.Fields(text(1))}
		m.Beat, _ = strconv.ParseInt(text(2), 10, 64)
		ms, _ := strconv.ParseInt(text(3), 10, 64)
		m.BeatAt = time.UnixMilli(ms)
		marks[slot] = m
	}
	return marks, err
}

// makeMarks makes the marks of some slots, unless another gateway does so at the same time.
func (s *Store) makeMarks(ctx context.Context, r redis.Cmdable, slots []uint16) error {
	_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, slot := range slots {
			p.HSetNX(ctx, s.markKey(slot), fieldID, quota.NewID())
		}
		return nil
	})
	return err
}

// countBeats counts the beats of some marks up, and returns them.
func (s *Store) countBeats(ctx context.Context, r redis.Cmdable, marks map[uint16]mark) (map[uint16]mark, error) {
	now := time.UnixMilli(s.Now().UnixMilli())
	beats := map[uint16]*redis.IntCmd{}
	_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		for slot := range marks {
			beats[slot] = p.HIncrBy(ctx, s.markKey(slot), fieldBeat, 1)
			p.HSet(ctx, s.markKey(slot), fieldBeatAt, now.UnixMilli())
		}
		return nil
	})
	counted := map[uint16]mark{}
	for slot, m := range marks {
		if beat, err := beats[slot].Result(); err == nil {
			m.Beat, m.BeatAt = beat, now
			counted[slot] = m
		}
	}
	return counted, err
}
