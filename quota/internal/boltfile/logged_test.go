package boltfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/internal/redolog"
)

// crash copies a file and its log as a process that is killed now would leave them, and returns their folder.
func crash(t testing.TB, f *File) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, path := range []string{f.Path(), f.logPath()} {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600))
	}
	return dir
}

// latest returns the keys of the bucket numbers, as of the last write.
func latest(t testing.TB, f *File) map[string]string {
	t.Helper()
	keys := map[string]string{}
	must(t, f.Latest(func(tx Reader) error {
		cursor := tx.Bucket(numbers).Cursor()
		for k, v := cursor.Seek(nil); k != nil; k, v = cursor.Next() {
			keys[string(k)] = string(v)
		}
		return nil
	}))
	return keys
}

func appendKey(f *File, key, value string) error {
	return f.Append(func(tx Tx) error { return tx.Bucket(numbers).Put([]byte(key), []byte(value)) })
}

// wantRecovered opens what a crash would leave, and checks its keys and that its log is gone.
func wantRecovered(t *testing.T, f *File, want map[string]string) {
	t.Helper()
	dir := crash(t, f)
	for range 2 { // the second time after a clean Close
		r := open(t, dir)
		if got := latest(t, r); !maps.Equal(got, want) {
			t.Errorf("after a crash there are %d keys, want %d: %v, want %v", len(got), len(want), got, want)
		}
		if !maps.Equal(content(t, r), latest(t, r)) {
			t.Error("View does not see what was recovered")
		}
		must(t, r.Close())
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("after Close the folder has %v", left)
		}
	}
}

// Whatever happens to the file in between, each write that was acknowledged is there after a crash, and those that failed
// are not.
func TestAppendedWritesSurviveEverything(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f, want, broken := open(t, t.TempDir()), map[string]string{}, errors.New("broken")
	sequence := uint64(0)
	for i := range 300 {
		next := maps.Clone(want)
		change := func(tx Tx) error {
			for range random.IntN(4) {
				key := fmt.Sprint(random.IntN(30))
				if delete(next, key); random.IntN(3) == 0 {
					must(t, tx.Bucket(numbers).Delete([]byte(key)))
					continue
				}
				next[key] = fmt.Sprint(i, strings.Repeat("-", random.IntN(300)))
				must(t, tx.Bucket(numbers).Put([]byte(key), []byte(next[key])))
			}
			return nil
		}
		switch what := random.IntN(20); what {
		case 0:
			must(t, f.Update(change))
		case 1, 2:
			if err := f.Append(func(tx Tx) error { return errors.Join(change(tx), broken) }); !errors.Is(err, broken) {
				t.Errorf("a write that fails half-way: %v", err)
			}
			next = want
		case 3:
			must(t, f.Check())
		case 4:
			must(t, f.Scan(func(*bolt.Tx) error { return nil }))
		case 5:
			_, err := f.compact()
			must(t, err)
		case 6:
			must(t, os.Remove(f.Path()))
			must(t, f.Append(change))
		case 7:
			_ = os.Remove(f.logPath()) // there may be none
			must(t, f.Append(change))
		case 8:
			dir := filepath.Dir(f.Path())
			must(t, f.Close())
			f = open(t, dir)
		case 9:
			if dir := crash(t, f); i%2 == 0 {
				must(t, f.Close())
				f = open(t, dir)
			}
		case 10:
			sequence++
			must(t, f.Append(func(tx Tx) error { _, err := tx.Bucket(numbers).NextSequence(); return errors.Join(err, change(tx)) }))
		case 11:
			must(t, f.Append(func(tx Tx) error {
				created := fmt.Append(nil, "new ", i)
				_, err := tx.CreateBucketIfNotExists(created)
				return errors.Join(err, tx.Bucket(created).Put([]byte("a"), nil), change(tx))
			}))
		default:
			must(t, f.Append(change))
		}
		want = next
		if got := latest(t, f); !maps.Equal(got, want) {
			t.Fatalf("step %d: there are %d keys, want %d", i, len(got), len(want))
		}
		if i%10 == 0 {
			wantRecovered(t, f, want)
		}
	}
	dir := crash(t, f)
	must(t, f.Close())
	r := open(t, dir)
	defer r.Close()
	must(t, r.View(func(tx *bolt.Tx) error {
		if got := tx.Bucket(numbers).Sequence(); got != sequence {
			t.Errorf("the sequence is %d, want %d", got, sequence)
		}
		return nil
	}))
}

// A log that is full makes a write a commit. So does a write that is larger than the log.
func TestFullLogIsCommitted(t *testing.T) {
	f, want := open(t, t.TempDir()), map[string]string{}
	defer f.Close()
	for i := range 10 {
		want[fmt.Sprint(i)] = strings.Repeat("x", redolog.Size/3)
		must(t, appendKey(f, fmt.Sprint(i), want[fmt.Sprint(i)]))
	}
	want["large"] = strings.Repeat("x", redolog.Size+1)
	must(t, appendKey(f, "large", want["large"]))
	want["last"] = ""
	must(t, appendKey(f, "last", ""))
	if info, err := os.Stat(f.logPath()); err != nil || info.Size() != redolog.Size {
		t.Errorf("the log has %d bytes, error %v", info.Size(), err)
	}
	wantRecovered(t, f, want)
}

// A log beside another file, or beside another state of the file, may have what nobody has counted: Open refuses it, and
// says what to do.
func TestOpenRefusesAnotherLog(t *testing.T) {
	f := open(t, t.TempDir())
	must(t, appendKey(f, "a", "1"))
	before := crash(t, f)
	must(t, appendKey(f, "a", "1"))
	must(t, f.Check())
	must(t, appendKey(f, "b", "2"))
	after := crash(t, f)
	backup, err := f.Backup(context.Background())
	must(t, err)
	must(t, f.Close())
	other := open(t, t.TempDir())
	must(t, other.Close())

	log, err := os.ReadFile(filepath.Join(after, name+logSuffix))
	must(t, err)
	whole, err := os.ReadFile(filepath.Join(before, name))
	must(t, err)
	foreign, err := os.ReadFile(other.Path())
	must(t, err)
	two := open(t, t.TempDir())
	for _, key := range []string{"a", "b", "c"} { // the first is committed with the mark
		must(t, appendKey(two, key, ""))
	}
	broken := crash(t, two)
	must(t, two.Close())
	damagedLog, err := os.ReadFile(filepath.Join(broken, name+logSuffix))
	must(t, err)
	damagedLog[30] ^= 1
	brokenFile, err := os.ReadFile(filepath.Join(broken, name))
	must(t, err)

	for what, test := range map[string]struct {
		data, log []byte
		want      string
	}{
		"an older state":  {whole, log, "move "},
		"a backup":        {mustReadAll(t, backup), log, "move "},
		"another file":    {foreign, log, "move "},
		"a damaged log":   {brokenFile, damagedLog, "is damaged"},
		"a file that has": {mustRead(t, f.Path()), log, ""},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, name), test.data, 0o600))
			must(t, os.WriteFile(filepath.Join(dir, name+logSuffix), test.log, 0o600))
			r, err := tryOpen(dir)
			if test.want == "" {
				must(t, err)
				if got := latest(t, r); !maps.Equal(got, map[string]string{"a": "1", "b": "2"}) {
					t.Errorf("with a log of before its Close, it has %v", got)
				}
				must(t, r.Close())
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), filepath.Join(dir, name+logSuffix)) {
				t.Errorf("Open: %v, want %q", err, test.want)
			}
			must(t, os.WriteFile(filepath.Join(dir, name+logSuffix), []byte("lost\n"), 0o600)) // the cure
			r, err = tryOpen(dir)
			must(t, err)
			must(t, r.Close())
		})
	}
}

func mustReadAll(t *testing.T, file *os.File) []byte {
	t.Helper()
	defer file.Close()
	data, err := io.ReadAll(file)
	must(t, err)
	return data
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// A file is marked as long as its log may have something. One that was only opened is not, nor is a backup.
func TestFileIsMarkedWhileItHasALog(t *testing.T) {
	isMarked := func(path string) (marked bool) {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		must(t, err)
		defer db.Close()
		must(t, db.View(func(tx *bolt.Tx) error { marked = logged.IsMarked(tx); return nil }))
		return marked
	}
	f := open(t, t.TempDir())
	if isMarked(filepath.Join(crash(t, f), name)) {
		t.Error("a file that was only opened is marked")
	}
	must(t, appendKey(f, "a", "1"))
	killed := crash(t, f)
	if !isMarked(filepath.Join(killed, name)) {
		t.Error("a file with a log is not marked")
	}
	if isMarked(filepath.Join(crash(t, open(t, killed)), name)) {
		t.Error("a file that has taken in its log is marked")
	}
	backup, err := f.Backup(context.Background())
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, mustReadAll(t, backup), 0o600))
	if isMarked(path) {
		t.Error("a backup is marked")
	}
	must(t, f.Close())
	if isMarked(f.Path()) {
		t.Error("a closed file is marked")
	}
	r := open(t, filepath.Dir(path))
	defer r.Close()
	if got := latest(t, r); got["a"] != "1" {
		t.Errorf("the backup has %v", got)
	}
}

// openSyncing opens a file whose log is brought to disk by sync, and makes the log.
func openSyncing(t *testing.T, sync func(*os.File) error) *File {
	t.Helper()
	o := *logged
	o.Sync = sync
	f, err := Open(t.TempDir(), name, Options{InUse: errInUse, Cure: cure, Log: &o}, prepare)
	must(t, err)
	must(t, appendKey(f, "a", "1"))
	return f
}

// A reader may have seen a write that fails. No later write gets its number, or the reader would take that one for seen.
func TestNumberOfFailedWriteIsNotUsedAgain(t *testing.T) {
	var f *File
	broken, fails, seen := errors.New("broken"), false, int64(0)
	f = openSyncing(t, func(*os.File) error {
		if !fails {
			return nil
		}
		fails = false
		must(t, f.Latest(func(tx Reader) error {
			if tx.Bucket(numbers).Get([]byte("b")) != nil {
				seen = tx.Number
			}
			return nil
		}))
		return broken
	})
	defer f.Close()
	for _, checked := range []bool{false, true} {
		must(t, appendKey(f, "a", "2"))
		fails = true
		if err := appendKey(f, "b", "1"); !errors.Is(err, broken) || seen == 0 {
			t.Fatalf("the write: %v; a reader saw it as number %d", err, seen)
		}
		if checked {
			_ = f.Check() // it commits what was before, and returns why the last write failed
		}
		must(t, f.Append(func(tx Tx) error {
			if n := f.Number(tx.Tx); n <= seen {
				t.Errorf("a write has number %d, after a failed one with number %d", n, seen)
			}
			return nil
		}))
	}
}

// What fdatasync failed to bring to disk may be there nevertheless. It is not taken in after the next commit, and does not
// look like damage to a log that was torn.
func TestFailedRecordIsNotTakenIn(t *testing.T) {
	broken, fails := errors.New("broken"), false
	f := openSyncing(t, func(*os.File) error {
		if fails {
			fails = false
			return broken
		}
		return nil
	})
	defer f.Close()
	must(t, appendKey(f, "b", "1"))
	must(t, appendKey(f, "c", "1"))
	fails = true
	if err := appendKey(f, "d", "1"); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	_ = f.Check() // it returns why the last write failed
	want := map[string]string{"a": "1", "b": "1", "c": "1"}
	wantRecovered(t, f, want)

	must(t, appendKey(f, "e", "1"))
	dir := crash(t, f)
	path := filepath.Join(dir, filepath.Base(f.logPath()))
	log := mustRead(t, path)
	log[30] ^= 1 // what of the record for e is on disk
	must(t, os.WriteFile(path, log, 0o600))
	r, err := tryOpen(dir)
	must(t, err)
	defer r.Close()
	if got := latest(t, r); !maps.Equal(got, want) {
		t.Errorf("with a torn record: %v, want %v", got, want)
	}
}

// A log that cannot be created takes no room from the file, to which each write is committed then. It is not tried again
// with each write.
func TestLogThatCannotBeCreated(t *testing.T) {
	tried := 0
	full := *logged
	full.Sync = func(*os.File) error { tried++; return errors.New("no space left") }
	small := *logged
	small.Spare = 1 << 60
	for what, o := range map[string]*LogOptions{"it cannot be written": &full, "too little is free": &small} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			f, err := Open(dir, name, Options{InUse: errInUse, Cure: cure, Log: o}, prepare)
			must(t, err)
			want := map[string]string{}
			for i := range 3 {
				want[fmt.Sprint(i)] = ""
				must(t, appendKey(f, fmt.Sprint(i), ""))
				if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || !maps.Equal(content(t, f), want) {
					t.Errorf("the folder has %v, the file %v", left, content(t, f))
				}
			}
			if tried > 1 {
				t.Errorf("tried %d times in a second", tried)
			}
			wantRecovered(t, f, want)

			f.Log, f.retryLogAt = logged, f.retryLogAt.Add(-retryLogAfter) // a minute later
			must(t, appendKey(f, "4", ""))
			if _, err := os.Stat(f.logPath()); err != nil {
				t.Error(err)
			}
			must(t, f.Close())
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
				t.Errorf("after Close the folder has %v", left)
			}
		})
	}
}

// A log that another program cuts is given up with the next write, or when Check looks.
func TestLogThatIsCut(t *testing.T) {
	for what, size := range map[string]int64{"empty": 0, "half": redolog.Size / 2} {
		t.Run(what, func(t *testing.T) {
			f := open(t, t.TempDir())
			want := map[string]string{}
			for i := range 4 {
				want[fmt.Sprint(i)] = ""
				must(t, appendKey(f, fmt.Sprint(i), ""))
				must(t, os.Truncate(f.logPath(), size))
				if i%2 == 0 {
					must(t, f.Check())
				} else {
					want[fmt.Sprint(i, " next")] = ""
					must(t, appendKey(f, fmt.Sprint(i, " next"), ""))
				}
				wantRecovered(t, f, want)
			}
			must(t, appendKey(f, "last", ""))
			must(t, os.Truncate(f.logPath(), size))
			must(t, f.Close())
			if _, err := os.Stat(f.logPath()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after Close, the log: %v", err)
			}
		})
	}
}

// Without its log, or with something else in its place, a marked file does not open: it lacks what was in the log. A file
// that is not marked has everything.
func TestOpenNeedsTheLogOfAMarkedFile(t *testing.T) {
	f := open(t, t.TempDir())
	must(t, appendKey(f, "a", "1"))
	marked := mustRead(t, filepath.Join(crash(t, f), name))
	log := mustRead(t, f.logPath())
	must(t, f.Close())
	whole := mustRead(t, f.Path())
	for what, test := range map[string]struct {
		log      []byte // nil: no log
		wantRead string // of a marked file; the error
		isWhole  bool   // a file that is not marked opens beside it
	}{
		"missing":   {nil, "is missing", true},
		"empty":     {[]byte{}, "it was cut", true},
		"cut":       {log[:len(log)/2], "it was cut", true},
		"too large": {append(log[:len(log):len(log)], 0), "it is not a log", false},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name+logSuffix)
			if test.log != nil {
				must(t, os.WriteFile(path, test.log, 0o600))
			}
			must(t, os.WriteFile(filepath.Join(dir, name), marked, 0o600))
			_, err := tryOpen(dir)
			if err == nil || !strings.Contains(err.Error(), test.wantRead) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open: %v, want %q", err, test.wantRead)
			}
			faults, err := Examine(filepath.Join(dir, name), errInUse, func(tx *bolt.Tx, report func(Fault)) {
				ExamineLog(tx, *logged, filepath.Join(dir, name), report)
			})
			if err != nil || len(faults) != 1 || !strings.Contains(faults[0].What, test.wantRead) {
				t.Errorf("Examine: %v, error %v", faults, err)
			}
			if test.isWhole {
				must(t, os.WriteFile(filepath.Join(dir, name), whole, 0o600))
			} else {
				must(t, os.WriteFile(path, []byte("lost\n"), 0o600)) // the cure
			}
			r, err := tryOpen(dir)
			must(t, err)
			must(t, r.Close())
		})
	}
}
