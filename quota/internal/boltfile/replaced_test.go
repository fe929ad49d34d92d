package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// keys counts the keys of a file, and returns the number of the last write.
func keys(t testing.TB, f *File) (n int, write int64) {
	t.Helper()
	if err := f.View(func(tx *bolt.Tx) error {
		n, write = tx.Bucket(numbers).Stats().KeyN, f.Number(tx)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n, write
}

// reopen closes a file and opens it from its path.
func reopen(t testing.TB, f *File) *File {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, filepath.Dir(f.Path()))
	t.Cleanup(func() { again.Close() })
	return again
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFileIsWrittenAgain takes an open file away. The next write, or the next look at the path,
// writes it again with all that was in it, and says so.
func TestFileIsWrittenAgain(t *testing.T) {
	for what, takeAway := range map[string]func(path string) error{
		"the file is deleted":   os.Remove,
		"the folder is deleted": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"the file is renamed":   func(path string) error { return os.Rename(path, path+".old") },
		"the folder is renamed": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old") },
		"another file takes its place": func(path string) error {
			return errors.Join(os.WriteFile(path+".other", []byte("of the operator"), 0o600), os.Rename(path+".other", path))
		},
	} {
		for how, next := range map[string]func(*File) error{
			"a write": func(f *File) error { return put(f, 300) },
			"a look":  (*File).Check,
		} {
			t.Run(what+", then "+how, func(t *testing.T) {
				f := open(t, filepath.Join(t.TempDir(), "data"))
				must(t, put(f, 300))
				_, before := keys(t, f)
				must(t, takeAway(f.Path()))
				must(t, next(f))
				if n, write := keys(t, f); n != 300 || write < before {
					t.Errorf("%d keys, write %d; want 300, and no write before %d", n, write, before)
				}
				var replaced *ReplacedError
				if err := f.Fault(); !errors.As(err, &replaced) || !strings.Contains(err.Error(), f.Path()) || f.TimesReplaced() != 1 {
					t.Fatalf("fault %v, replaced %d times", err, f.TimesReplaced())
				}
				if strings.HasPrefix(what, "another") {
					if data, err := os.ReadFile(replaced.Aside); string(data) != "of the operator" {
						t.Errorf("the other file is not kept: %q, %v", data, err)
					}
				}
				if _, err := tryOpen(filepath.Dir(f.Path())); !errors.Is(err, errInUse) {
					t.Errorf("the new file is not locked: %v", err)
				}
				must(t, put(f, 400))
				if f.TimesReplaced() != 1 {
					t.Errorf("replaced %d times, want once", f.TimesReplaced())
				}
				if n, _ := keys(t, reopen(t, f)); n != 400 {
					t.Errorf("%d keys on disk, want 400", n)
				}
			})
		}
	}
}

// TestSupersedeChangesTheOldFile checks what a file that was renamed has in it afterwards.
func TestSupersedeChangesTheOldFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f, err := Open(dir, name, Options{InUse: errInUse, Cure: cure, Supersede: func(tx *bolt.Tx) error {
		return errors.Join(tx.DeleteBucket(numbers), prepare(tx))
	}}, prepare)
	must(t, err)
	must(t, put(f, 100))
	must(t, os.Rename(dir, dir+".old"))
	must(t, f.Check())
	if n, _ := keys(t, reopen(t, f)); n != 100 {
		t.Errorf("%d keys, want 100", n)
	}
	old := open(t, dir+".old")
	defer old.Close()
	if n, _ := keys(t, old); n != 0 {
		t.Errorf("%d keys in the old file, want none", n)
	}
}

// TestFileThatCannotBeWrittenAgain checks that writes fail as long as the path does not lead to
// the file, and that nothing of them is lost afterwards.
func TestFileThatCannotBeWrittenAgain(t *testing.T) {
	for what, block := range map[string]func(t *testing.T, dir string) (want error, unblock func()){
		"a file in place of the folder": func(t *testing.T, dir string) (error, func()) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil, 0o600))
			return syscall.ENOTDIR, func() { must(t, os.Remove(dir)) }
		},
		"a file that is in use": func(t *testing.T, dir string) (error, func()) {
			must(t, os.RemoveAll(dir))
			other := open(t, dir)
			return errInUse, func() { must(t, other.Close()) }
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := open(t, filepath.Join(t.TempDir(), "data"))
			want, unblock := block(t, filepath.Dir(f.Path()))
			for n := 100; n <= 300; n += 100 {
				if err := put(f, n); !errors.Is(err, want) || !strings.Contains(err.Error(), f.Path()) {
					t.Fatalf("error %v, want %v with the name of the file", err, want)
				}
			}
			if f.Fault() == nil || f.Check() == nil {
				t.Error("no fault is reported")
			}
			unblock()
			f.retryAt = f.retryAt.Add(-checkEvery)
			must(t, put(f, 400))
			if replaced := (*ReplacedError)(nil); !errors.As(f.Fault(), &replaced) {
				t.Errorf("fault %v", f.Fault())
			}
			if n, _ := keys(t, reopen(t, f)); n != 400 {
				t.Errorf("%d keys, want 400", n)
			}
		})
	}
}

// TestCloseOfAFileThatIsGone checks that Close tries to write a file again, and says if it cannot.
func TestCloseOfAFileThatIsGone(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "data"))
	must(t, put(f, 100))
	must(t, os.RemoveAll(filepath.Dir(f.Path())))
	if n, _ := keys(t, reopen(t, f)); n != 100 {
		t.Errorf("%d keys, want 100", n)
	}
	f = open(t, filepath.Join(t.TempDir(), "data"))
	must(t, os.RemoveAll(filepath.Dir(f.Path())))
	must(t, os.WriteFile(filepath.Dir(f.Path()), nil, 0o600))
	if err := f.Close(); err == nil || !strings.Contains(err.Error(), "cannot be written again") {
		t.Errorf("Close: %v", err)
	}
}

// TestFileIsWrittenAgainInUse takes a file away again and again while it is read and written.
func TestFileIsWrittenAgainInUse(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "data"))
	stop := make(chan struct{})
	var using sync.WaitGroup
	for i := range 4 {
		using.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Appendf(nil, "%d/%08d", i, n)
				if err := f.Update(func(tx Tx) error { return tx.Bucket(numbers).Put(key, key) }); err != nil {
					t.Error(err)
					return
				}
				if err := f.View(func(tx *bolt.Tx) error {
					if tx.Bucket(numbers).Get(key) == nil {
						return fmt.Errorf("%s is lost", key)
					}
					return readAll(tx)
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for f.TimesReplaced() < 30 && !t.Failed() {
		if err := os.Remove(f.Path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	close(stop)
	using.Wait()
	n, _ := keys(t, f)
	if got, _ := keys(t, reopen(t, f)); got != n || n == 0 {
		t.Errorf("%d keys on disk, want %d", got, n)
	}
}

// TestCutFileIsNoticed cuts an open file behind all that is read: only its size shows it.
func TestCutFileIsNoticed(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	must(t, put(f, 5000))
	must(t, f.Update(func(tx Tx) error { return errors.Join(tx.DeleteBucket(numbers), prepare(tx.Tx)) }))
	must(t, f.Check())
	must(t, os.Truncate(f.Path(), int64(16*os.Getpagesize())))
	wantDamaged(t, "Check", dir, f.Check())
	wantDamaged(t, "Update", dir, put(f, 1))
	wantDamaged(t, "Close", dir, f.Close())
}
