package guard

import "errors"

// watchJournal looks after the journal's file until the Store is closed.
func (s *Store) watchJournal() {
	times := int64(0)
	s.journal.db.Watch(s.closing, s.log, s.journal.tryWrite, func(err error) {
		if n := s.journal.db.TimesReplaced(); n != times {
			times = n
			s.stats.journalErrors.Add(max(1, s.stats.backlog.Load())) // so many were not on disk for a while
		}
		if err == nil {
			s.journalOutbox()
			s.takeOverJournal()
		}
	})
}

// journalOutbox moves the commits that no journal took to the journal.
func (s *Store) journalOutbox() {
	for _, user := range s.outbox.usersWithCommits() {
		_, err, _ := s.replays.Do(user, func() (any, error) { // not while they are sent
			for {
				ws := s.outbox.userCommits(user)
				if len(ws) == 0 {
					return nil, nil
				}
				if err := s.journal.addAll(ws); err != nil {
					return nil, err
				}
				s.outbox.removeCommits(user, len(ws))
				s.stats.journaled.Add(int64(len(ws)))
			}
		})
		if err != nil {
			return // the next time
		}
	}
}

// takeOverJournal adds the counts of another process that has had the same folder, once it has ended.
func (s *Store) takeOverJournal() {
	added, err := s.journal.takeOver()
	switch {
	case errors.Is(err, ErrInUse):
	case err != nil:
		s.leftBehind.Do(func() {
			s.log.Error("the journal of the process before cannot be taken over; the counts in it wait until the gateway starts with a good one", "error", err)
		})
	case len(added) > 0:
		s.log.Info("the journal of the process before was taken over", "counts", len(added))
	}
	for i := range added {
		s.noteUnsent(&added[i])
		s.notify(added[i].User)
	}
	if len(added) > 0 {
		s.outbox.signal()
	}
}

// JournalNotes returns what the journal keeps for the next process; nil: there is no journal, or it cannot be
// read.
func (s *Store) JournalNotes() map[string][]byte {
	if s.journal == nil {
		return nil
	}
	notes, err := s.journal.Notes()
	if err != nil {
		return nil
	}
	return notes
}

// JournalFault returns why the journal does not take counts, or that its file was deleted or
// replaced in the last hour and written again; nil: all is well, or there is no journal.
func (s *Store) JournalFault() error {
	if s.journal == nil {
		return nil
	}
	return s.journal.db.Fault()
}
