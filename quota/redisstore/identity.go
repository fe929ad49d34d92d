package redisstore

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/script"
)

// A Redis may come back without its data: it was emptied, it restarted without persistence, a
// backup was restored, or the address leads to another one. It then serves all calls, and every
// user has a fresh quota. So the gateways leave a mark there, see mark, and look at it on each new
// connection for scripts, every two seconds, and when something else looks odd. The mark is in
// Redis as long as the data are. What a gateway last saw is also kept on its disk.
//
// In a cluster, each master has a mark in the first of its slots. A mark moves with its slot. A
// slot that is the first of no master any more is looked at once more and then forgotten.

const (
	checkDataEvery = 2 * time.Second
	// dataPause is the least time between two looks that something odd has caused.
	dataPause = 200 * time.Millisecond
	// saveBeatsEvery is how often the gateway's memory is brought up to date. Until then a
	// gateway that restarts takes data for good that are as much older.
	saveBeatsEvery = 30 * time.Second
	// toleratedLoss is how much older data may be without being refused: a failover of a master
	// loses what it has not replicated, and that is not much.
	toleratedLoss = 10 * time.Second
	// reportLossFor is how long DataFault reports a loss that nobody has to accept.
	reportLossFor = time.Hour
)

// A Memory keeps some bytes by name for the next process. Package guard's Journal is one.
type Memory interface {
	// LoadNote returns the bytes with a name; nil if there are none.
	LoadNote(name string) ([]byte, error)
	SaveNote(name string, note []byte) error
}

// identity is what a gateway knows about the data in Redis.
type identity struct {
	memory  Memory // nil: nothing is checked
	refuses bool   // metered requests are refused after a loss
	wake    chan struct{}

	saving sync.Mutex // held while the memory is written, so that no older note is the last one

	mu      sync.Mutex
	known   map[uint16]mark           // the good marks that were last seen, by slot
	lost    map[uint16]*DataLostError // by slot
	losses  int64
	savedAt time.Time
	blamed  bool // that the data cannot be checked was logged
	// refusal is one of lost, if refuses is set.
	refusal atomic.Pointer[DataLostError]
}

// memoryName is the name of the note, one for each prefix.
func (s *Store) memoryName() string { return "redis identity of " + s.prefix }

// loadIdentity reads what an earlier process has seen.
func (s *Store) loadIdentity() error {
	w := &s.identity
	w.known, w.lost, w.wake = map[uint16]mark{}, map[uint16]*DataLostError{}, make(chan struct{}, 1)
	if w.memory == nil {
		return nil
	}
	note, err := w.memory.LoadNote(s.memoryName())
	if err != nil || note == nil {
		return err
	}
	if json.Unmarshal(note, &w.known) != nil { // by another release: it begins anew
		w.known = map[uint16]mark{}
	}
	return nil
}

// saveIdentity keeps what is known for the next process. The disk may make it wait, so the caller
// must not hold the lock.
func (s *Store) saveIdentity() {
	w := &s.identity
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	w.savedAt = time.Now()
	note, _ := json.Marshal(w.known)
	w.mu.Unlock()
	_ = w.memory.SaveNote(s.memoryName(), note) // a fault of the disk shows elsewhere
}

// CheckData has the data looked at soon, because something suggests that they are not what they
// were. It does not wait.
func (s *Store) CheckData() {
	select {
	case s.identity.wake <- struct{}{}:
	default:
	}
}

// watchData looks at the data until the store closes.
func (s *Store) watchData() {
	tick := time.NewTicker(checkDataEvery)
	defer tick.Stop()
	for {
		if s.checkData() { // there are new marks: learn them
			s.checkData()
		}
		select {
		case <-time.After(dataPause):
		case <-s.closing:
			return
		}
		select {
		case <-tick.C:
		case <-s.identity.wake:
		case <-s.closing:
			return
		}
	}
}

// checkData looks at all marks, makes those that are missing, and counts their beats up. It reports
// whether it has made any.
func (s *Store) checkData() (made bool) {
	first, err := s.client.FirstSlots(context.Background())
	before := s.identity.snapshot()
	if err != nil {
		first = slices.Collect(maps.Keys(before))
	}
	slots := slices.Clone(first)
	for slot := range before {
		if !slices.Contains(first, slot) {
			slots = append(slots, slot)
		}
	}
	seen, err := s.doForMarks(func(ctx context.Context, r redis.UniversalClient) (map[uint16]mark, error) {
		return s.readMarks(ctx, r, slots)
	})
	s.identity.blame(s, err)
	if len(seen) == 0 {
		return false // Redis does not answer
	}
	s.compareMarks(before, seen)
	missing, good := s.sortMarks(first, seen)
	if len(missing) > 0 {
		_, err := s.doForMarks(func(ctx context.Context, r redis.UniversalClient) (map[uint16]mark, error) {
			return nil, s.makeMarks(ctx, r, missing)
		})
		made = err == nil
	}
	beats, _ := s.doForMarks(func(ctx context.Context, r redis.UniversalClient) (map[uint16]mark, error) {
		return s.countBeats(ctx, r, good)
	})
	s.learnBeats(good, beats)
	return made
}

// snapshot returns the known marks. Only what is read after it may be compared with it.
func (w *identity) snapshot() map[uint16]mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.known)
}

// sortMarks says which marks are to be made, and which are good. It forgets good ones that are not in
// the first slot of a master any more.
func (s *Store) sortMarks(first []uint16, seen map[uint16]mark) (missing []uint16, good map[uint16]mark) {
	w := &s.identity
	w.mu.Lock()
	defer w.mu.Unlock()
	good = map[uint16]mark{}
	for slot, m := range seen {
		known, isKnown := w.known[slot]
		switch isFirst := slices.Contains(first, slot); {
		case !isKnown && isFirst && m.ID == "":
			missing = append(missing, slot)
		case !isKnown || known.ID != m.ID || w.refusesSlot(slot):
		case isFirst:
			good[slot] = m
		default:
			delete(w.known, slot)
		}
	}
	return missing, good
}

// learnBeats notes the beats of good marks, and saves them from time to time.
func (s *Store) learnBeats(good, counted map[uint16]mark) {
	w := &s.identity
	w.mu.Lock()
	for slot, m := range counted {
		if known := w.known[slot]; known.ID == good[slot].ID && known.Beat < m.Beat {
			known.Beat, known.BeatAt = m.Beat, m.BeatAt
			w.known[slot] = known
		}
	}
	due := len(counted) > 0 && time.Since(w.savedAt) >= saveBeatsEvery
	w.mu.Unlock()
	if due {
		s.saveIdentity()
	}
}

// compareMarks compares marks with those that were known before they were read, and notes what is
// lost, what is back, and what is new.
func (s *Store) compareMarks(before, seen map[uint16]mark) {
	w := &s.identity
	w.mu.Lock()
	changed := false
	for slot, m := range seen {
		known, isKnown := before[slot]
		now, isKnownNow := w.known[slot]
		switch {
		case isKnown != isKnownNow || known.ID != now.ID || now.Beat < known.Beat: // another comparison was faster
		case !isKnown && m.ID == "": // not made yet
		case !isKnown:
			w.known[slot], changed = m, true
		default:
			changed = s.compareMark(slot, known, m) || changed
		}
	}
	var refusal *DataLostError
	for _, e := range w.lost {
		if e.refuses {
			refusal = e
		}
	}
	w.refusal.Store(refusal)
	w.mu.Unlock()
	if changed {
		s.saveIdentity()
	}
}

// refusesSlot reports whether the data of a slot are refused. The caller holds the lock.
func (w *identity) refusesSlot(slot uint16) bool { return w.lost[slot] != nil && w.lost[slot].refuses }

// compareMark notes what has become of a mark, and reports whether the memory must be brought up to
// date. The caller holds the lock.
func (s *Store) compareMark(slot uint16, known, m mark) (changed bool) {
	w := &s.identity
	loss := known.compare(m)
	switch {
	case loss == noLoss:
		if w.refusesSlot(slot) {
			delete(w.lost, slot)
			s.log.Info("Redis has the data that it had before, or an administrator has accepted what is there", "id", m.ID)
		}
		if m.ID != known.ID {
			w.known[slot] = m
			return true
		}
		return false
	case w.refusesSlot(slot):
		return false
	}
	part := ""
	if s.client.IsCluster() {
		part = " (the master of slot " + strconv.Itoa(int(slot)) + ")"
	}
	tolerated := loss == olderData && !known.Outdated && known.BeatAt.Sub(m.BeatAt) <= toleratedLoss
	e := newDataLostError(loss, known, m, time.Now(), part, w.refuses && !tolerated)
	w.lost[slot] = e
	w.losses++
	s.log.Error("the data in Redis are not what they were", "error", e)
	switch {
	case e.refuses && loss == olderData:
		known.Outdated = true
		w.known[slot] = known
	case e.refuses:
		return false // the memory stays what it is
	case m.ID == "":
		delete(w.known, slot) // it is made anew
	default:
		w.known[slot] = m
	}
	return true
}

// checkConnection compares the marks behind a new connection, which is the only one of the client.
// The first connection that shows a loss for which requests are refused is an error: the calls that
// wait for it do not know of the loss.
func (s *Store) checkConnection(ctx context.Context, c *redis.Client) error {
	if s.identity.memory == nil {
		return nil
	}
	known := s.DataLost()
	if before := s.identity.snapshot(); len(before) > 0 {
		// In a cluster, the other masters' slots are errors.
		seen, _ := s.readMarks(ctx, c, slices.Collect(maps.Keys(before)))
		s.compareMarks(before, seen)
	}
	s.CheckData()
	if known != nil {
		return nil
	}
	return s.DataLost()
}

// blame logs once that Redis does not let the gateway look at the marks.
func (w *identity) blame(s *Store, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	refused := redis.HasErrorPrefix(err, "NOPERM")
	if refused && !w.blamed {
		s.log.Warn("Redis does not let the gateway see whether it still has its data", "keys", script.IdentityKey(s.prefix, "*"), "error", err)
	}
	w.blamed = refused
}

// DataLost returns why no metered request may be admitted: Redis has lost data,
// Options.RefuseDataLoss is set, and nobody has accepted what is there. nil: they may be.
func (s *Store) DataLost() error {
	if e := s.identity.refusal.Load(); e != nil {
		return e
	}
	return nil
}

// DataFault implements quota.StoreDiagnostics.
func (s *Store) DataFault() error {
	w := &s.identity
	w.mu.Lock()
	defer w.mu.Unlock()
	var last *DataLostError
	for _, e := range w.lost {
		if (e.refuses || time.Since(e.At) < reportLossFor) && (last == nil || e.At.After(last.At)) {
			last = e
		}
	}
	if last == nil {
		return nil
	}
	return last
}

// DataLosses implements quota.StoreDiagnostics.
func (s *Store) DataLosses() int64 {
	s.identity.mu.Lock()
	defer s.identity.mu.Unlock()
	return s.identity.losses
}

// AcceptData accepts the data that Redis has now in place of what it has lost, on all gateways, and
// forgets the losses. It returns how many masters were concerned; 0: nothing was lost.
func (s *Store) AcceptData(ctx context.Context) (masters int, err error) {
	w := &s.identity
	w.mu.Lock()
	lost, known := maps.Clone(w.lost), maps.Clone(w.known)
	w.mu.Unlock()
	for slot, e := range lost {
		if e.refuses {
			if err := s.acceptMark(ctx, slot, known[slot]); err != nil {
				return masters, err
			}
		}
		masters++
		w.mu.Lock()
		delete(w.lost, slot)
		w.mu.Unlock()
	}
	s.compareMarks(nil, nil) // for the refusal
	return masters, nil
}

// acceptMark gives the data of a slot another ID, which replaces the one they had, and the one that
// was known.
func (s *Store) acceptMark(ctx context.Context, slot uint16, known mark) error {
	next, id := make(chan mark, 1), quota.NewID()
	err := s.client.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		marks, err := s.readMarks(ctx, r, []uint16{slot})
		if err != nil {
			return err
		}
		m := marks[slot].successor(id, known.ID)
		err = r.HSet(ctx, s.markKey(slot), fieldID, m.ID, fieldReplaces, strings.Join(m.replaces, " ")).Err()
		next <- m
		return err
	})
	if err != nil {
		return err
	}
	s.identity.mu.Lock()
	s.identity.known[slot] = <-next
	s.identity.mu.Unlock()
	s.saveIdentity()
	return nil
}
