package guard_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"metergate/quota/testkit"
)

// While the journal's disk is full, counts are in memory, and the store says so. Once there is room
// they are in the journal, where the next process finds them.
func TestFullDiskOfJournal(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := newGuardedRedis(t, setup{allow: true})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.options.Journal = openJournal(t, dir)
	r.Store = open(t, r.options)
	r.use(1, "u", five)
	r.beginOutage()
	empty := testkit.FillDisk(t, filepath.Join(dir, "journal.db"))
	for range 2 {
		if _, err := r.Commit(ctx, r.admit("u", five)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Commit: %v, want %v", err, syscall.ENOSPC)
		}
	}
	if err := r.JournalFault(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("JournalFault: %v, want %v", err, syscall.ENOSPC)
	}
	if st := r.Stats(); st.JournalErrors != 2 || st.Backlog != 2 || st.Journaled != 0 {
		t.Errorf("on a full disk: %+v", st)
	}
	empty()
	testkit.Eventually(t, "the counts are in the journal", func() bool { return r.Stats().Journaled == 2 })
	if err := r.JournalFault(); err != nil {
		t.Errorf("JournalFault: %v", err)
	}
	if err := r.Close(); err != nil { // Redis does not answer yet
		t.Fatal(err)
	}
	r.endOutage()
	r.options.Journal = openJournal(t, dir)
	r.Store = open(t, r.options)
	r.waitForReplay()
	r.wantState("u", five, "3+0")
}
