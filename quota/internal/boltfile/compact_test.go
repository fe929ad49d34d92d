package boltfile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// childDir, if set, makes the test binary a process that writes to a file in that folder and
// compacts it, without end.
const childDir = "BOLTFILE_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// openFrom opens a file that is compacted from so many free bytes on.
func openFrom(t testing.TB, dir string, free int64) *File {
	t.Helper()
	f, err := Open(dir, name, Options{InUse: errInUse, Cure: cure, CompactFrom: free, Log: logged}, prepare)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fileSize is the size of the file that the path leads to.
func fileSize(t testing.TB, f *File) int64 {
	t.Helper()
	info, err := os.Stat(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// remove deletes the keys from number first on that put has written.
func remove(f *File, first, n int) error {
	return f.Update(func(tx Tx) error {
		for i := first; i < n; i++ {
			if err := tx.Bucket(numbers).Delete(fmt.Appendf(nil, "%08d", i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// content reads all keys and values of a file.
func content(t testing.TB, f *File) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, f.View(func(tx *bolt.Tx) error {
		return tx.Bucket(numbers).ForEach(func(k, v []byte) error { all[string(k)] = string(v); return nil })
	}))
	return all
}

// A file of which a quarter is free becomes smaller, and has all that it had: at once, and for the
// process that opens it next.
func TestFileIsCompactedWhenAQuarterIsFree(t *testing.T) {
	f := openFrom(t, t.TempDir(), 1<<20)
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	must(t, put(f, 40_000))
	f.compactIfWorth(log)
	f.tasks.Wait()
	if text.Len() > 0 {
		t.Errorf("a full file: %s", &text)
	}
	must(t, remove(f, 1000, 40_000))
	must(t, f.Update(func(tx Tx) error { return tx.Bucket(numbers).SetSequence(17) }))
	want, size := content(t, f), fileSize(t, f)
	_, write := keys(t, f)
	if got, free := f.Space(); got != size || free < size/2 || free > size {
		t.Errorf("Space is %d and %d; the file has %d bytes", got, free, size)
	}
	reader, done := make(chan struct{}), make(chan error)
	go func() { // reads the old file until the new one has taken its place
		done <- f.View(func(tx *bolt.Tx) error {
			reader <- struct{}{}
			<-reader
			if n := f.Number(tx); n != write || tx.Bucket(numbers).Stats().KeyN != 1000 {
				t.Errorf("a reader of the old file sees write %d, want %d", n, write)
			}
			return nil
		})
	}()
	<-reader
	f.compactIfWorth(log)
	for f.compacted.Load() == 0 {
		time.Sleep(time.Millisecond) // polling
	}
	reader <- struct{}{}
	must(t, <-done)
	f.tasks.Wait()
	if !strings.Contains(text.String(), "a file was compacted") {
		t.Errorf("the log says %s", &text)
	}
	if got := fileSize(t, f); got > size/4 {
		t.Errorf("%d bytes of %d are left", got, size)
	}
	if !maps.Equal(content(t, f), want) {
		t.Error("the compacted file has other keys")
	}
	must(t, f.Update(func(tx Tx) error {
		if n := f.Number(tx.Tx); n != write+1 {
			t.Errorf("the next write has the number %d, want %d", n, write+1)
		}
		if n, err := tx.Bucket(numbers).NextSequence(); n != 18 {
			t.Errorf("the next in the sequence is %d, error %v, want 18", n, err)
		}
		return nil
	}))
	text.Reset()
	f.compactIfWorth(log)
	f.tasks.Wait()
	if text.Len() > 0 {
		t.Errorf("compacted again: %s", &text)
	}
	if f = reopen(t, f); !maps.Equal(content(t, f), want) {
		t.Error("the file that is opened next has other keys")
	}
}

// Writes that are made while the file is compacted, again and again, are all in it.
func TestCompactionKeepsWritesUnderWay(t *testing.T) {
	f := open(t, t.TempDir())
	const writers, filled = 8, 10_000
	must(t, f.Update(func(tx Tx) error { // some chunks
		for i := range filled {
			if err := tx.Bucket(numbers).Put(fmt.Appendf(nil, "%08d", i), make([]byte, copyBytes/2000)); err != nil {
				return err
			}
		}
		return nil
	}))
	want := make([]map[string]string, writers)
	var over atomic.Bool
	var writing, reading sync.WaitGroup
	for w := range writers {
		want[w] = map[string]string{}
		random := rand.New(rand.NewPCG(1, uint64(w)))
		writing.Go(func() {
			for n := 0; !over.Load(); n++ {
				// Before, between and after the keys of put.
				key, value := fmt.Sprintf("%08d/%d", random.IntN(filled), w), fmt.Sprint(n)
				write := f.Update
				if w%2 == 1 {
					write = f.Append
				}
				if err := write(func(tx Tx) error {
					if n%4 == 3 {
						return tx.Bucket(numbers).Delete([]byte(key))
					}
					return tx.Bucket(numbers).Put([]byte(key), []byte(value))
				}); err != nil {
					t.Error(err)
					return
				}
				if want[w][key] = value; n%4 == 3 {
					delete(want[w], key)
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for last := int64(0); !over.Load(); {
				if err := f.View(func(tx *bolt.Tx) error {
					if n := f.Number(tx); n < last {
						t.Errorf("write %d can be seen after %d", n, last)
					} else {
						last = n
					}
					if tx.Bucket(numbers).Get([]byte("00000000")) == nil {
						t.Error("a key cannot be seen")
					}
					return nil
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		if _, err := f.compact(); err != nil {
			t.Error(err)
		}
	}
	over.Store(true)
	writing.Wait()
	reading.Wait()
	must(t, f.Check()) // commits the last ones
	got := content(t, f)
	for w := range writers {
		for key, value := range want[w] {
			if got[key] != value {
				t.Fatalf("%s is %q, want %q", key, got[key], value)
			}
		}
		maps.DeleteFunc(got, func(key, _ string) bool { return strings.HasSuffix(key, fmt.Sprint("/", w)) && want[w][key] != "" })
	}
	if len(got) != filled {
		t.Errorf("%d keys are left, want %d: deleted ones have come back, or others are gone", len(got), filled)
	}
	if f = reopen(t, f); len(content(t, f)) == 0 {
		t.Error("the file is empty")
	}
}

// A compaction that cannot be made leaves the file as it is, says so once, and is tried again
// later. One that is under way ends when the file is closed.
func TestCompactionThatFailsLeavesTheFile(t *testing.T) {
	dir := t.TempDir()
	f := openFrom(t, dir, 1<<20)
	must(t, put(f, 40_000))
	must(t, remove(f, 1000, 40_000))
	want := content(t, f)
	inTheWay := filepath.Join(dir, name+".compact", "folder")
	must(t, os.MkdirAll(inTheWay, 0o700))
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	for range 3 {
		f.compactIfWorth(log)
		f.tasks.Wait()
	}
	if n := strings.Count(text.String(), "could not be compacted"); n != 1 {
		t.Errorf("%d lines about it, want 1: %s", n, &text)
	}
	if !maps.Equal(content(t, f), want) {
		t.Error("the file has changed")
	}
	must(t, put(f, 10))
	must(t, os.RemoveAll(filepath.Dir(inTheWay)))
	f.compactAt.Store(0)
	f.compactIfWorth(slog.New(slog.DiscardHandler))
	f = reopen(t, f) // before the compaction has ended
	if _, err := os.Stat(filepath.Join(dir, name+".compact")); !os.IsNotExist(err) {
		t.Errorf("a part of a copy is left: %v", err)
	}
	if !maps.Equal(content(t, f), want) {
		t.Error("the file that is opened next has other keys")
	}
}

// A file that is deleted while it is compacted is written again with all that was in it.
func TestFileDeletedDuringCompaction(t *testing.T) {
	f := open(t, t.TempDir())
	must(t, put(f, 20_000))
	want := content(t, f)
	done := make(chan error)
	go func() { _, err := f.compact(); done <- err }()
	must(t, os.Remove(f.Path()))
	if err := <-done; err != nil {
		t.Error(err)
	}
	must(t, f.Check())
	if n := f.TimesReplaced(); n != 1 {
		t.Errorf("replaced %d times, want 1", n)
	}
	if f = reopen(t, f); !maps.Equal(content(t, f), want) {
		t.Error("the file has other keys")
	}
}

const childCounters = 8

// child adds 1 to each of some counters, and writes the counter's number after each write that
// returned. All the time it compacts the file.
func child(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	f, err := tryOpen(dir)
	fail(err)
	for i := range childCounters {
		go func() {
			for {
				fail(f.Update(func(tx Tx) error {
					b, key := tx.Bucket(numbers), fmt.Appendf(nil, "counter %d", i)
					n, _ := strconv.Atoi(string(b.Get(key)))
					// Keys that come and go, so that there is something to compact.
					old := fmt.Appendf(nil, "%d/%d", i, n-500)
					if err := b.Put(fmt.Appendf(nil, "%d/%d", i, n), make([]byte, 500)); err != nil {
						return err
					}
					if err := b.Delete(old); err != nil {
						return err
					}
					return b.Put(key, fmt.Append(nil, n+1))
				}))
				os.Stdout.WriteString(fmt.Sprintln(i)) // in one write, without a buffer
			}
		}()
	}
	for {
		_, err := f.compact()
		fail(err)
		os.Stdout.WriteString("compacted\n")
	}
}

// A process that is killed while it writes and compacts, at any moment, has lost nothing: each
// write that returned is in the file.
func TestKillDuringCompactionLosesNothing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, acknowledged, compacted := t.TempDir(), [childCounters]int{}, 0
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for life := range 12 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		must(t, cmd.Start())
		lines := bufio.NewReader(out)
		killAt := 20 + random.IntN(400)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break
			}
			line = strings.TrimSpace(line)
			i, notCounter := strconv.Atoi(line)
			if line == "compacted" {
				compacted++
			} else if notCounter != nil || i >= childCounters {
				cmd.Process.Kill()
				t.Fatalf("the child wrote %q", line)
			} else {
				acknowledged[i]++
			}
			if n == killAt {
				must(t, cmd.Process.Kill())
			}
		}
		cmd.Wait() // "signal: killed"

		f := open(t, dir)
		all := content(t, f)
		for i := range childCounters {
			n, _ := strconv.Atoi(all[fmt.Sprintf("counter %d", i)])
			if n < acknowledged[i] || n > acknowledged[i]+1 {
				t.Errorf("life %d: counter %d is %d after %d writes that returned", life, i, n, acknowledged[i])
			}
			acknowledged[i] = n // the next life starts from there
		}
		must(t, f.Close())
	}
	if compacted == 0 {
		t.Error("the file was never compacted")
	}
	entries, err := os.ReadDir(dir)
	if names := slices.Collect(func(yield func(string) bool) {
		for _, e := range entries {
			yield(e.Name())
		}
	}); err != nil || !slices.Equal(names, []string{name}) {
		t.Errorf("files %v, error %v", names, err)
	}
	t.Logf("%d compactions in 12 lives", compacted)
}
