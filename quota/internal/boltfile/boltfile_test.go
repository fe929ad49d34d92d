package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"
)

const (
	name = "test.db"
	cure = "replace it"
)

var (
	errInUse = errors.New("in use")
	numbers  = []byte("numbers")
	meta     = []byte("meta")
)

func prepare(tx *bolt.Tx) error {
	_, err := tx.CreateBucketIfNotExists(numbers)
	if err == nil {
		_, err = tx.CreateBucketIfNotExists(meta)
	}
	return err
}

// logged are the options of a file with a log. While that is needed, the bucket meta has a key "marked".
var logged = &LogOptions{
	Bucket: meta,
	Mark: func(tx Tx, marked bool) error {
		if marked {
			return tx.Bucket(meta).Put([]byte("marked"), nil)
		}
		return tx.Bucket(meta).Delete([]byte("marked"))
	},
	IsMarked: func(tx *bolt.Tx) bool { return tx.Bucket(meta).Get([]byte("marked")) != nil },
}

func tryOpen(dir string) (*File, error) {
	return Open(dir, name, Options{InUse: errInUse, Cure: cure, Log: logged}, prepare)
}

func open(t testing.TB, dir string) *File {
	t.Helper()
	f, err := tryOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// put writes n keys.
func put(f *File, n int) error {
	return f.Update(func(tx Tx) error {
		for i := range n {
			if err := tx.Bucket(numbers).Put(fmt.Appendf(nil, "%08d", i), make([]byte, 40)); err != nil {
				return err
			}
		}
		return nil
	})
}

// wholeFile returns the content of a file with some ten pages, and without the room at its end.
func wholeFile(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	f := open(t, dir)
	for n := 100; n <= 700; n += 150 { // several writes, so that there are free pages, too
		if err := put(f, n); err != nil {
			t.Fatal(err)
		}
	}
	size := int64(0)
	if err := f.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data[:size]
}

// wantDamaged checks that an error is about damage of the file in dir, in one line with the cure.
func wantDamaged(t testing.TB, what, dir string, err error) {
	t.Helper()
	var damaged *DamagedError
	if !errors.As(err, &damaged) {
		t.Errorf("%s: error %v, want a *DamagedError", what, err)
		return
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.HasPrefix(text, filepath.Join(dir, name)+" is damaged (") || !strings.HasSuffix(text, "; "+cure) {
		t.Errorf("%s: error %q, want one line with the file and the cure", what, text)
	}
}

// use opens a file, uses all of it and closes it. It reports the first error.
func use(dir string) error {
	f, err := tryOpen(dir)
	if err != nil {
		return err
	}
	err = errors.Join(f.View(readAll), put(f, 2000), f.View(readAll))
	if closeErr := f.Close(); err != nil {
		return closeErr // the same, once
	}
	return err
}

// TestDamagedFileIsAnError checks files that were cut, and files with a page of zeros or of
// something else: each works, or says that it is damaged.
func TestDamagedFileIsAnError(t *testing.T) {
	whole, page := wholeFile(t), os.Getpagesize()
	pages := len(whole) / page
	damaged := 0
	for _, test := range []struct {
		name   string
		damage func(data []byte, i int) []byte
	}{
		{"cut", func(data []byte, i int) []byte { return data[:i*page+1] }},
		{"zeroed", func(data []byte, i int) []byte { clear(data[i*page : (i+1)*page]); return data }},
		{"another page", func(data []byte, i int) []byte {
			copy(data[i*page:(i+1)*page], whole[((i+1)%pages)*page:])
			return data
		}},
		{"ones", func(data []byte, i int) []byte {
			for j := i * page; j < (i+1)*page; j++ {
				data[j] = 0xff
			}
			return data
		}},
		{"a wrong count", func(data []byte, i int) []byte { data[i*page+10] ^= 0xff; return data }},
		{"a wrong kind", func(data []byte, i int) []byte { data[i*page+8] ^= 0xff; return data }},
	} {
		for i := range pages {
			dir := t.TempDir()
			data := test.damage(append([]byte(nil), whole...), i)
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := use(dir); err != nil {
				damaged++
				wantDamaged(t, fmt.Sprintf("%s at page %d of %d", test.name, i, pages), dir, err)
			}
		}
	}
	if damaged < pages {
		t.Errorf("only %d of %d files show that they are damaged", damaged, 6*pages)
	}
}

// bbolt would follow the page of such a bucket to itself until all memory is taken.
func TestForEachEndsInASmallBucketThatIsZeroed(t *testing.T) {
	data, page := wholeFile(t), os.Getpagesize()
	for p := data; len(p) > 0; p = p[page:] {
		if _, after, found := bytes.Cut(p[:page], meta); found { // a page with buckets has a small one after its name
			clear(after[:48]) // its header, that of its page, and its first element
		}
	}
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, data, 0o600))
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) (err error) {
		defer recoverTo(&err)
		return ForEach(tx.Bucket(meta), func(k, v []byte) error { return nil })
	})
	if err == nil || !strings.Contains(err.Error(), "invalid page type") {
		t.Errorf("the error is %v", err)
	}
}

// TestDamageWhileOpen damages an open file while it is read and written: all calls return, and
// once the damage was found, with this error.
func TestDamageWhileOpen(t *testing.T) {
	for name, damage := range map[string]func(file *os.File, size int64) error{
		"half of it is cut off": func(file *os.File, size int64) error { return file.Truncate(size / 2) },
		"all of it is cut off":  func(file *os.File, size int64) error { return file.Truncate(0) },
		"all of it is zeroed": func(file *os.File, size int64) error {
			_, err := file.WriteAt(make([]byte, size), 0)
			return err
		},
		"all but the beginning is zeroed": func(file *os.File, size int64) error {
			_, err := file.WriteAt(make([]byte, size-8192), 8192)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, dir)
			if err := put(f, 5000); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(f.Path(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			info, err := file.Stat()
			if err != nil {
				t.Fatal(err)
			}
			var using sync.WaitGroup
			useUntilDamaged := func(what string, call func() error) {
				using.Go(func() {
					var err error
					for err == nil {
						err = call()
					}
					wantDamaged(t, what, dir, err)
				})
			}
			for range 4 {
				useUntilDamaged("View", func() error { return f.View(readAll) })
			}
			n := 0
			useUntilDamaged("Update", func() error { n++; return put(f, n%100) })
			if err := damage(file, info.Size()); err != nil {
				t.Fatal(err)
			}
			using.Wait()
			wantDamaged(t, "View afterwards", dir, f.View(readAll))
			wantDamaged(t, "Update afterwards", dir, put(f, 1))
			wantDamaged(t, "Close", dir, f.Close())
		})
	}
}

// TestPanicOfACallerIsDamage checks that what a caller panics on, when it reads something that it
// did not write, ends as an error as well.
func TestPanicOfACallerIsDamage(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	wantDamaged(t, "View", dir, f.View(func(tx *bolt.Tx) error { _ = tx.Bucket([]byte("no such bucket")).Get(nil)[8]; return nil }))
	wantDamaged(t, "Close", dir, f.Close())
}

// TestErrorsThatAreNotDamage checks that the errors of callers and of a file in use stay as they
// are.
func TestErrorsThatAreNotDamage(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	want := errors.New("the caller's own")
	for what, err := range map[string]error{
		"View":   f.View(func(*bolt.Tx) error { return want }),
		"Update": f.Update(func(Tx) error { return want }),
	} {
		if err != want {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	if _, err := tryOpen(dir); !errors.Is(err, errInUse) || !strings.HasPrefix(err.Error(), f.Path()) {
		t.Errorf("the file is open: error %v", err)
	}
	if err := put(f, 10); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
