package guard

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

func TestOpenJournalRefusesUnknownFormat(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, journalFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("2")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	const want = `the journal has format "2"; this version of the program reads only "1"`
	if _, err := OpenJournal(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

func TestDecodeEntryReadsEncodedEntry(t *testing.T) {
	now := time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC)
	want := quota.Reservation{
		Request: quota.Request{ID: quota.NewID(), User: "ü {x}", Endpoint: "report"},
		Windows: quota.NewCalendar(nil).WindowsAt([]quota.Period{quota.Minute, quota.Month, quota.Year}, now),
	}
	text, err := encodeEntry(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := decodeEntry(entryKey(want.User, want.ID), text)
	if !ok || got.User != want.User || got.ID != want.ID || got.Endpoint != want.Endpoint || len(got.Windows) != len(want.Windows) {
		t.Fatalf("read back as %+v, want %+v", got, want)
	}
	for i, w := range want.Windows {
		if g := got.Windows[i]; g.Period != w.Period || g.ID != w.ID || !g.Start.Equal(w.Start) || !g.End.Equal(w.End) {
			t.Errorf("window %d is read back as %+v, want %+v", i, g, w)
		}
	}
	for _, key := range []string{"", "user", "user\x00id"} {
		if _, ok := decodeEntry([]byte(key), []byte("no JSON")); ok {
			t.Errorf("an entry %q that encodeEntry did not make is read", key)
		}
	}
}
