package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/script"
)

// A mark identifies the data of one slot, which stands for all data of a master. It is a hash in
// Redis, see readMarks. The zero value means that there is none.
type mark struct {
	ID string `json:"id"` // random
	// Beat is a number that all gateways count up every checkDataEvery, and BeatAt when this was
	// done last. Data with a lower Beat than one that was seen before are older.
	Beat   int64     `json:"beat"`
	BeatAt time.Time `json:"beat_at"`
	// Outdated, of a mark that a gateway remembers: the data with this ID have been found older
	// than before. Since Beat grows again, only data with another ID are good.
	Outdated bool `json:"outdated,omitempty"`
	// replaces are the IDs in whose place an administrator has accepted this one.
	replaces []string
}

// A loss is what is wrong with data.
type loss int

const (
	noLoss loss = iota
	lossOfAll
	otherData
	olderData
)

// compare says what has happened to data with the mark m when they have the mark seen.
func (m mark) compare(seen mark) loss {
	switch {
	case seen.ID == "":
		return lossOfAll
	case seen.ID != m.ID && !slices.Contains(seen.replaces, m.ID):
		return otherData
	case seen.ID == m.ID && (m.Outdated || seen.Beat < m.Beat):
		return olderData
	}
	return noLoss
}

// maxReplaced bounds the IDs that a mark replaces.
const maxReplaced = 16

// successor is the mark with an ID that replaces m, the mark of what was known before.
func (m mark) successor(id, known string) mark {
	next := mark{ID: id, Beat: m.Beat, BeatAt: m.BeatAt, replaces: slices.Clone(m.replaces)}
	for _, old := range []string{m.ID, known} {
		if old != "" && !slices.Contains(next.replaces, old) {
			next.replaces = append(next.replaces, old)
		}
	}
	next.replaces = next.replaces[max(0, len(next.replaces)-maxReplaced):]
	return next
}

// A DataLostError reports that Redis no longer has the data that it had before.
type DataLostError struct {
	At   time.Time // when the gateway noticed
	what string
	// refuses: metered requests are refused until the data are back, or accepted.
	refuses bool
}

func newDataLostError(kind loss, known, seen mark, at time.Time, part string, refuses bool) *DataLostError {
	e := &DataLostError{At: at, refuses: refuses}
	switch kind {
	case lossOfAll:
		e.what = "Redis" + part + " has lost all counts: it was emptied, it restarted without its data, or an empty one took its place"
	case otherData:
		e.what = "Redis" + part + " has other data than before: it was emptied and counts anew, or another one took its place"
	case olderData:
		e.what = fmt.Sprintf("Redis%s has older data than before, of %s instead of %s: a backup was restored, or a replica that was behind took over",
			part, seen.BeatAt.UTC().Format(time.RFC3339), known.BeatAt.UTC().Format(time.RFC3339))
	}
	return e
}

func (e *DataLostError) Error() string {
	at := e.At.UTC().Format(time.RFC3339)
	if e.refuses {
		return e.what + "; noticed at " + at + "; metered requests get 503 until the data are back, or until you accept what is there with: metergate accept-data"
	}
	return e.what + "; noticed at " + at + "; users go on with the counts that are there"
}

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
