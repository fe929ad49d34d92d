package guard

import (
	"sync/atomic"
	"time"
)

// Stats are numbers of a Store. All but OpenBreakers, Backlog and BacklogSince count since New.
type Stats struct {
	OpenBreakers int   // circuit breakers that are open now
	Backlog      int64 // counts that wait for the store now
	// BacklogSince is when the first count had to wait after none did; zero: none waits. Counts that a
	// journal had at the start wait since then.
	BacklogSince time.Time
	Journaled    int64 // counts that were written to the journal
	Replayed     int64 // counts that were sent to the store later
	Dropped      int64 // counts that were discarded because their windows are no longer kept
	Unchecked    int64 // requests that were admitted without an answer of the store
	// JournalErrors are counts that no journal took, and counts that were in the journal, at
	// least one, when its file was deleted or replaced.
	JournalErrors int64
	// JournalReplaced is how often the journal's file was deleted or replaced.
	JournalReplaced int64
	// JournalSize and JournalFree are the size of the journal's file in bytes, and how much of
	// that is free; 0: there is no journal.
	JournalSize, JournalFree int64
	// FailedCalls are the calls that the store did not answer, by operation, whatever became of
	// the request. While a circuit breaker is open they are not even sent.
	FailedCalls map[string]int64
}

// An operation is a kind of call to the backend.
type operation int

const (
	opReserve operation = iota
	opCommit
	opCommitRest
	opRelease
	opRead
	opReplay
	opChange
	opScan
	opProbe // also the checks
	operations
)

var operationNames = [operations]string{"reserve", "commit", "commit_rest", "release", "read", "replay", "change", "scan", "probe"}

type stats struct {
	failed                                                          [operations]atomic.Int64
	backlog, journaled, replayed, dropped, unchecked, journalErrors atomic.Int64
	backlogSince                                                    atomic.Int64 // in Unix nanoseconds, if there is a backlog
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	st := Stats{
		Backlog:       s.stats.backlog.Load(),
		Journaled:     s.stats.journaled.Load(),
		Replayed:      s.stats.replayed.Load(),
		Dropped:       s.stats.dropped.Load(),
		Unchecked:     s.stats.unchecked.Load(),
		JournalErrors: s.stats.journalErrors.Load(),
		FailedCalls:   map[string]int64{},
	}
	if since := s.stats.backlogSince.Load(); st.Backlog > 0 && since > 0 {
		st.BacklogSince = time.Unix(0, since)
	}
	for op := range operations {
		st.FailedCalls[operationNames[op]] = s.stats.failed[op].Load()
	}
	if s.journal != nil {
		st.JournalReplaced = s.journal.db.TimesReplaced()
		st.JournalSize, st.JournalFree = s.journal.db.Space()
	}
	for i := range s.breakers {
		if s.breakers[i].openError() != nil {
			st.OpenBreakers++
		}
	}
	return st
}
