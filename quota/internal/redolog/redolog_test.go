package redolog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const database = 0x1234567890abcdef

func create(t testing.TB) (l *Log, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if l, err = Create(file, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

// fill appends records with these numbers. The content of each says its number and has some size.
func fill(t testing.TB, l *Log, from, to int64) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := l.Append(database, n, content(n), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func content(n int64) []byte {
	return append(fmt.Append(nil, n), bytes.Repeat([]byte{byte(n)}, int(n*n*997%9000))...)
}

// numbersOf returns the numbers of records, which must have their content.
func numbersOf(t testing.TB, records []Record) (numbers []int64) {
	t.Helper()
	for _, r := range records {
		if !bytes.Equal(r.Content, content(r.Number)) {
			t.Errorf("record %d has another content", r.Number)
		}
		numbers = append(numbers, r.Number)
	}
	return numbers
}

// wantRecords checks which records a database does not have yet after the write after.
func wantRecords(t testing.TB, log []byte, after int64, want ...int64) {
	t.Helper()
	records, err := Read(log, database, after)
	if got := numbersOf(t, records); err != nil || !slices.Equal(got, want) {
		t.Errorf("after write %d: records %v, error %v; want %v", after, got, err, want)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func TestReadLeavesOutWhatTheDatabaseHas(t *testing.T) {
	l, path := create(t)
	wantRecords(t, readFile(t, path), 6)
	fill(t, l, 7, 12)
	log := readFile(t, path)
	wantRecords(t, log, 6, 7, 8, 9, 10, 11, 12)
	wantRecords(t, log, 9, 10, 11, 12)
	wantRecords(t, log, 12)
	wantRecords(t, log, 100)

	// After a restart, the records from before it are not read, whatever number the database has.
	l.Restart()
	for n := int64(13); n < 16; n++ {
		fill(t, l, n, n)
		log := readFile(t, path)
		wantRecords(t, log, 12, []int64{13, 14, 15}[:n-12]...)
		wantRecords(t, log, n)
	}
	if records, err := ReadFile(filepath.Join(filepath.Dir(path), "none"), database, 6); len(records) > 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %d records, error %v", len(records), err)
	}
}

func TestReadRefusesAnotherLog(t *testing.T) {
	l, path := create(t)
	fill(t, l, 7, 9)
	log := readFile(t, path)
	if _, err := Read(log, database+1, 6); !errors.Is(err, ErrForeign) {
		t.Errorf("another database: %v, want %v", err, ErrForeign)
	}
	if _, err := Read(log, database, 5); !errors.Is(err, ErrGap) {
		t.Errorf("an older state of the database: %v, want %v", err, ErrGap)
	}
}

// A process may be killed, and the power may fail, at every byte of a write: over a page that was never used, and over
// older records.
func TestTornRecordIsLeftOut(t *testing.T) {
	l, path := create(t)
	for round, first := range []int64{7, 12} {
		fill(t, l, first, first+1)
		before := readFile(t, path)[:64<<10]
		fill(t, l, first+2, first+2)
		whole := readFile(t, path)[:64<<10]
		at := 0
		for whole[at] == before[at] {
			at++
		}
		for end := at; end < at+headerSize+len(content(first+2)); end++ {
			torn := append(slices.Clone(whole[:end]), before[end:]...)
			records, err := Read(torn, database, first-1)
			if got := numbersOf(t, records); err != nil || !slices.Equal(got, []int64{first, first + 1}) {
				t.Fatalf("round %d, torn after %d bytes: records %v, error %v", round, end-at, got, err)
			}
		}
		fill(t, l, first+3, first+4)
		l.Restart()
	}
}

// A record that others follow was on disk. If it is damaged, the database must not go on without it.
func TestDamagedRecordIsAnError(t *testing.T) {
	l, path := create(t)
	fill(t, l, 7, 9)
	log := readFile(t, path)[:64<<10]
	second := int(pages(len(content(7))))
	for at := second; at < second+headerSize+len(content(8)); at++ {
		log[at] ^= 0x10
		if _, err := Read(log, database, 6); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v, want %v", at-second, err, ErrDamaged)
		}
		log[at] ^= 0x10
	}
	log[second] ^= 1
	wantRecords(t, log, 9) // the database has them all
}

func TestAppendAfterAnErrorTakesThePlace(t *testing.T) {
	l, path := create(t)
	fill(t, l, 7, 7)
	file, err := os.Open(path) // only for reading
	if err != nil {
		t.Fatal(err)
	}
	writable := l.file
	l.file = file
	if err := l.Append(database, 8, content(8), nil); err == nil {
		t.Error("Append to a file that cannot be written returned no error")
	}
	file.Close()
	l.file = writable
	fill(t, l, 8, 9)
	wantRecords(t, readFile(t, path), 6, 7, 8, 9)
}

func TestFits(t *testing.T) {
	l, path := create(t)
	if l.Fits(Size-headerSize+1) || !l.Fits(Size-headerSize) {
		t.Error("the log has another size")
	}
	n := int64(0)
	for l.Fits(1) {
		n++
		if err := l.Append(database, n, []byte{1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if log := readFile(t, path); n != Size/pageSize || len(log) != Size {
		t.Errorf("%d records fit in a log of %d bytes, want one on each page", n, len(log))
	}
}

// Whatever the bytes are, what is read has the numbers that follow, and is in the log.
func FuzzRead(f *testing.F) {
	l, path := create(f)
	fill(f, l, 7, 9)
	f.Add(readFile(f, path)[:3*pageSize], int64(6))
	l.Restart()
	fill(f, l, 10, 10)
	f.Add(readFile(f, path)[:3*pageSize], int64(9))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, log []byte, after int64) {
		records, err := Read(log, database, after)
		if err != nil && len(records) > 0 {
			t.Errorf("%d records and error %v", len(records), err)
		}
		for i, r := range records {
			if r.Number != after+int64(i)+1 {
				t.Errorf("record %d has the number %d after %d", i, r.Number, after)
			}
			if !bytes.Contains(log, r.Content) {
				t.Errorf("record %d is not in the log", r.Number)
			}
		}
	})
}
