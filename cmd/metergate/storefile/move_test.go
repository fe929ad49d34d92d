package storefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/guard"
)

// A move from Redis is refused while counts for it wait in the journal, and while a gateway has that open.
func TestCheckJournalFindsWaitingCounts(t *testing.T) {
	dir := t.TempDir()
	p := Place{URL: "redis://127.0.0.1:1", Journal: dir}
	check := func(when, want string) {
		t.Helper()
		if err := p.CheckJournal(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
	}
	check("without a journal", "")
	j, err := guard.OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	check("with one that is open", "stop it first")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	check("with an empty one", "")
	db, err := bolt.Open(filepath.Join(dir, guard.JournalName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("entries")).Put([]byte("u-1\x00id"), []byte(`{"endpoint":"analyze","windows":[]}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "journal-copy.db")
	if err := os.Rename(filepath.Join(dir, guard.JournalName), copied); err != nil {
		t.Fatal(err)
	}
	if found, err := Check(copied); err != nil || len(found) != 1 || !found[0].Journal || found[0].Entries != 1 || len(found[0].Faults) > 0 {
		t.Errorf("under another name: %+v, error %v; want a sound journal with a count", found, err)
	}
	if err := os.Rename(copied, filepath.Join(dir, guard.JournalName)); err != nil {
		t.Fatal(err)
	}
	check("with a count", "start the gateway until metergate_journal_backlog is 0")
}
