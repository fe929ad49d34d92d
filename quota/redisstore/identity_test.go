package redisstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// A testMemory is the disk of one gateway.
type testMemory struct{ notes sync.Map }

func (m *testMemory) LoadNote(name string) ([]byte, error) {
	note, _ := m.notes.Load(name)
	data, _ := note.([]byte)
	return data, nil
}

func (m *testMemory) SaveNote(name string, note []byte) error {
	m.notes.Store(name, bytes.Clone(note))
	return nil
}

// A watchedStore is a store that looks at its data, with its memory and its log.
type watchedStore struct {
	*Store
	memory *testMemory
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.String(), text)
}

// openWatched opens a store and waits until it has seen all marks twice, so that they have beats.
func openWatched(t testing.TB, url string, deny bool, memory *testMemory) *watchedStore {
	t.Helper()
	log := &lockedBuffer{}
	s := openWith(t, Options{URL: url, Timeout: patient, Memory: memory, RefuseDataLoss: deny, Log: slog.New(slog.NewTextHandler(log, nil))})
	w := &watchedStore{s, memory, log}
	testkit.Eventually(t, "the marks are known", func() bool {
		s.CheckData()
		first, err := s.client.FirstSlots(ctx)
		known := s.identity.snapshot()
		for _, slot := range first {
			if known[slot].Beat < 2 && s.DataFault() == nil {
				return false
			}
		}
		return err == nil
	})
	return w
}

// looksAgain waits until the store has looked at all its marks once more.
func (w *watchedStore) looksAgain() {
	for range 3 {
		w.checkData()
	}
}

func (w *watchedStore) wantLosses(t testing.TB, losses int64, refuses bool, fault string) {
	t.Helper()
	testkit.Eventually(t, "the loss is noticed", func() bool { w.CheckData(); return w.DataLosses() >= losses })
	w.looksAgain()
	if n := w.DataLosses(); n != losses || w.log.count("the data in Redis are not what they were") != int(losses) {
		t.Errorf("%d losses, and the log has %d, want %d", n, w.log.count("the data in Redis are not what they were"), losses)
	}
	lost, err := w.DataLost(), w.DataFault()
	if (lost != nil) != refuses {
		t.Errorf("DataLost: %v", lost)
	}
	if err == nil && fault != "" || err != nil && (fault == "" || !strings.Contains(err.Error(), fault)) {
		t.Errorf("DataFault: %v, want %q", err, fault)
	}
}

// losses are ways in which a Redis loses data, which the store reaches through a fault proxy.
var losses = map[string]struct {
	fault string
	lose  func(t *testing.T, redis *redistest.Server, p *redistest.FaultProxy, s ...*watchedStore)
}{
	"flushed, with connections open": {"has lost all counts", func(_ *testing.T, redis *redistest.Server, _ *redistest.FaultProxy, _ ...*watchedStore) {
		redis.Do("FLUSHALL")
	}},
	"restarted without its data": {"has lost all counts", func(_ *testing.T, redis *redistest.Server, _ *redistest.FaultProxy, _ ...*watchedStore) {
		redis.Kill()
		redis.Start()
	}},
	"replaced by an empty one": {"has lost all counts", func(t *testing.T, _ *redistest.Server, p *redistest.FaultProxy, _ ...*watchedStore) {
		p.SwitchTo(redistest.Start(t).Addr)
		p.CutConnections()
	}},
	"replaced by one with data": {"has other data", func(t *testing.T, _ *redistest.Server, p *redistest.FaultProxy, _ ...*watchedStore) {
		other := redistest.Start(t)
		openWatched(t, other.URL(), false, &testMemory{}).Close()
		p.SwitchTo(other.Addr)
		p.CutConnections()
	}},
	"restored from a backup": {"has older data", func(_ *testing.T, redis *redistest.Server, _ *redistest.FaultProxy, s ...*watchedStore) {
		restoreMark(redis, time.Hour, s...)
	}},
}

// restoreMark restores the mark as it was some time ago, before stores that know it have counted it
// up several times.
func restoreMark(redis *redistest.Server, age time.Duration, stores ...*watchedStore) {
	key := stores[0].markKey(0)
	redis.Do("HSET", key, fieldBeatAt, time.Now().Add(-age).UnixMilli())
	backup := redis.Do("DUMP", key)
	for _, s := range stores {
		s.looksAgain()
		s.looksAgain()
	}
	redis.Do("RESTORE", key, 0, backup, "REPLACE")
}

// TestDataLossIsNoticed makes Redis lose data in several ways. Two gateways report each of them
// once and go on, and the next process has nothing to report.
func TestDataLossIsNoticed(t *testing.T) {
	for name, test := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			p := redistest.StartFaultProxy(t, redis.Addr)
			a, b := openWatched(t, p.URL(), false, &testMemory{}), openWatched(t, p.URL(), false, &testMemory{})
			mustReserve(t, a.Store, "u")
			a.wantLosses(t, 0, false, "")
			test.lose(t, redis, p, a, b)
			a.wantLosses(t, 1, false, "has ")
			b.wantLosses(t, 1, false, "has ")
			// The second one may find the mark that the first one has made.
			if said := fmt.Sprint(a.DataFault(), b.DataFault()); !strings.Contains(said, test.fault) {
				t.Errorf("none of them says %q: %s", test.fault, said)
			}
			mustReserve(t, a.Store, "v")
			if n, err := a.AcceptData(ctx); n != 1 || err != nil || a.DataFault() != nil {
				t.Errorf("accepted %d, error %v, then %v", n, err, a.DataFault())
			}
			a.Close()
			openWatched(t, p.URL(), true, a.memory).wantLosses(t, 0, false, "")
		})
	}
}

// TestDataLossIsRefusedUntilAccepted checks that gateways refuse after each loss, also after a
// restart, until an administrator accepts the data on one of them.
func TestDataLossIsRefusedUntilAccepted(t *testing.T) {
	for name, test := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			p := redistest.StartFaultProxy(t, redis.Addr)
			a, b := openWatched(t, p.URL(), true, &testMemory{}), openWatched(t, p.URL(), true, &testMemory{})
			a.saveIdentity() // as it is every 30 seconds
			test.lose(t, redis, p, a, b)
			a.wantLosses(t, 1, true, test.fault)
			b.wantLosses(t, 1, true, "metergate accept-data")
			a.Close()
			again := openWatched(t, p.URL(), true, a.memory)
			again.wantLosses(t, 1, true, test.fault)
			if n, err := b.AcceptData(ctx); n != 1 || err != nil {
				t.Fatalf("accepted %d, error %v", n, err)
			}
			b.wantLosses(t, 1, false, "")
			testkit.Eventually(t, "the other gateway goes on", func() bool { again.CheckData(); return again.DataLost() == nil })
			again.wantLosses(t, 1, false, "")
			again.Close()
			b.Close()
			for _, memory := range []*testMemory{a.memory, b.memory} {
				openWatched(t, p.URL(), true, memory).wantLosses(t, 0, false, "")
			}
		})
	}
}

// TestDataThatAreBackNeedNoAcceptance leads a gateway to another Redis and back.
func TestDataThatAreBackNeedNoAcceptance(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := redistest.StartFaultProxy(t, redis.Addr)
	s := openWatched(t, p.URL(), true, &testMemory{})
	p.SwitchTo(redistest.Start(t).Addr)
	p.CutConnections()
	s.wantLosses(t, 1, true, "has lost all counts")
	p.SwitchTo(redis.Addr)
	p.CutConnections()
	testkit.Eventually(t, "the data are back", func() bool { s.CheckData(); return s.DataLost() == nil })
	s.wantLosses(t, 1, false, "")
}

// TestNewConnectionShowsLoss checks that the loss is known before the first script has run on a
// new connection.
func TestNewConnectionShowsLoss(t *testing.T) {
	t.Parallel()
	p := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	s := openWatched(t, p.URL(), true, &testMemory{})
	mustReserve(t, s.Store, "u")
	other := redistest.Start(t)
	p.SwitchTo(other.Addr)
	p.CutConnections()
	testkit.Eventually(t, "a call reaches the new Redis", func() bool { _, err := s.Reserve(ctx, newRequest("u")); return err == nil })
	if s.DataLost() == nil {
		t.Error("no loss is known")
	}
}

// TestPrefixesHaveMarksOfTheirOwn checks that a store with another prefix, and one without a
// memory, find nothing lost and touch no other mark.
func TestPrefixesHaveMarksOfTheirOwn(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s := openWatched(t, redis.URL(), true, &testMemory{})
	other := openWith(t, Options{URL: redis.URL(), Timeout: patient, Prefix: "other", Memory: s.memory, RefuseDataLoss: true})
	testkit.Eventually(t, "the other one has a mark", func() bool { other.CheckData(); return len(other.identity.snapshot()) == 1 })
	if a, b := s.identity.snapshot()[0].ID, other.identity.snapshot()[0].ID; a == b || other.DataLosses() != 0 {
		t.Errorf("marks %s and %s, %d losses", a, b, other.DataLosses())
	}
	redis.Do("DEL", s.markKey(0))
	plain := openStore(t, redis.URL())
	mustReserve(t, plain, "u")
	if redis.Do("EXISTS", plain.markKey(0)) != int64(0) || plain.DataFault() != nil {
		t.Error("a store without a memory has made a mark")
	}
}

// TestMarksFollowTheirSlots moves the first slot of a master of a cluster, and then empties masters:
// the loss of each is noticed, and the move is none.
func TestMarksFollowTheirSlots(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, false)
	s := openWatched(t, c.URL(), true, &testMemory{})
	var first []uint16
	testkit.Eventually(t, "the masters' first slots are known", func() bool {
		first, _ = s.client.FirstSlots(ctx)
		return len(first) == 3
	})
	slot := first[1]
	move := c.StartSlotMove(int(slot))
	s.looksAgain()
	move.MoveKey(s.markKey(slot))
	s.looksAgain()
	move.Finish()
	testkit.Eventually(t, "the slot after it has a mark", func() bool { s.CheckData(); return s.identity.snapshot()[slot+1].Beat > 1 })
	s.wantLosses(t, 0, false, "")

	c.Master(int(slot + 1)).Do("FLUSHALL")
	s.wantLosses(t, 1, true, "the master of slot")
	if n, err := s.AcceptData(ctx); n != 1 || err != nil {
		t.Errorf("accepted %d, error %v", n, err)
	}
	s.wantLosses(t, 1, false, "")
	for _, node := range c.Nodes {
		node.Do("FLUSHALL")
	}
	s.wantLosses(t, 4, true, "the master of slot")
	if n, err := s.AcceptData(ctx); n != 3 || err != nil {
		t.Errorf("accepted %d, error %v", n, err)
	}
	s.wantLosses(t, 4, false, "")
}

// TestFailoverIsNotRefused checks that metered requests are served after an ordinary failover.
func TestFailoverIsNotRefused(t *testing.T) {
	t.Parallel()
	g := redistest.StartSentinel(t, "")
	s := openWatched(t, g.URL(), true, &testMemory{})
	g.Master().AwaitReplication(s.markKey(0))
	g.Failover()
	s.looksAgain()
	if err := s.DataLost(); err != nil { // it may have lost a second, which is reported
		t.Errorf("requests are refused: %v", err)
	}
}

// TestShortLossIsNotRefused checks that the loss of a few seconds is reported only.
func TestShortLossIsNotRefused(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s := openWatched(t, redis.URL(), true, &testMemory{})
	restoreMark(redis, 5*time.Second, s)
	s.wantLosses(t, 1, false, "has older data")
}

// TestUnreadableMemoryEndsOpen checks that a gateway does not take a loss for a first start because
// its disk fails.
func TestUnreadableMemoryEndsOpen(t *testing.T) {
	want := errors.New("the disk fails")
	if _, err := Open(Options{URL: "redis://127.0.0.1:1", Memory: failingMemory{want}}); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

type failingMemory struct{ err error }

func (m failingMemory) LoadNote(string) ([]byte, error) { return nil, m.err }
func (m failingMemory) SaveNote(string, []byte) error   { return m.err }

// TestTagForSlot checks a tag for each slot that a master may begin with.
func TestTagForSlot(t *testing.T) {
	for slot := 0; slot < 1<<14; slot += 97 {
		key := script.IdentityKey("metergate", redisclient.TagForSlot(uint16(slot)))
		if got := redisclient.Slot(key); got != uint16(slot) {
			t.Errorf("%s is in slot %d, want %d", key, got, slot)
		}
		if _, isUser := script.UserDigest(key); isUser {
			t.Errorf("%s looks like the key of a user", key)
		}
	}
}
