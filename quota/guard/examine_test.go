package guard

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// A journal is examined once no gateway has it open. What cannot be read in it is a fault.
func TestExamineJournal(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, journalFile)
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ExamineJournal(file); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a journal in use: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if faults, entries, err := ExamineJournal(file); len(faults) > 0 || entries != 0 || err != nil {
		t.Errorf("faults %v, %d entries, error %v", faults, entries, err)
	}
	db, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(entriesBucket)
		if err := b.Put(entryKey("u-17", "good"), []byte(`{"endpoint":"analyze","windows":[]}`)); err != nil {
			return err
		}
		if err := b.Put(entryKey("u-17", "bad"), []byte(`{`)); err != nil {
			return err
		}
		_, err := tx.CreateBucket([]byte("later"))
		return err
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	faults, entries, err := ExamineJournal(file)
	if text := fmt.Sprint(faults); err != nil || len(faults) != 2 || entries != 2 || !strings.Contains(text, `entries "u-17 bad": unexpected end of JSON`) || !strings.Contains(text, "bucket later: it is unknown") {
		t.Errorf("faults %v, %d entries, error %v", faults, entries, err)
	}
}
