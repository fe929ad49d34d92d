package boltfile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"metergate/quota/testkit"
)

// slowCommit makes the next commit of a file wait, see testkit.SlowDisk, and begins it. It returns once the commit waits.
func slowCommit(t *testing.T, f *File) (release func() error) {
	t.Helper()
	var waits <-chan struct{}
	var end func()
	must(t, f.Append(func(tx Tx) error { waits, end = testkit.SlowDisk(t, tx.DB()); return nil }))
	t.Cleanup(func() { end() })
	committed := make(chan error, 1)
	go func() { committed <- f.Check() }()
	testkit.Receive(t, "the commit waits for the disk", waits)
	return func() error { end(); return testkit.Receive(t, "the commit has ended", committed) }
}

// inTime calls a read that must not wait for the disk.
func inTime(t *testing.T, what string, read func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); read() }()
	testkit.Receive(t, what, done)
}

// While a commit waits for the disk, readers see all writes, with the number of the last one, and none of them waits.
func TestLatestDoesNotWaitForACommit(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	f, want := open(t, t.TempDir()), map[string]string{}
	t.Cleanup(func() { f.Close() }) // after that of slowCommit
	for round := range 30 {
		for i := range random.IntN(40) {
			key := fmt.Sprint(random.IntN(30))
			if want[key] = fmt.Sprint(round, i); i%3 > 0 {
				must(t, appendKey(f, key, want[key]))
				continue
			}
			delete(want, key)
			must(t, f.Append(func(tx Tx) error { return tx.Bucket(numbers).Delete([]byte(key)) }))
		}
		release := slowCommit(t, f)
		inTime(t, "a read during a commit", func() {
			if got := latest(t, f); !maps.Equal(got, want) {
				t.Errorf("round %d: during a commit there is %v, want %v", round, got, want)
			}
			must(t, f.Latest(func(tx Reader) error {
				if tx.Number != f.stamp.number {
					t.Errorf("round %d: a read sees write %d, want %d", round, tx.Number, f.stamp.number)
				}
				bucket := tx.Bucket(numbers)
				for n := range 30 {
					key := fmt.Sprint(n)
					if got, ok := want[key]; string(bucket.Get([]byte(key))) != got || ok != (bucket.Get([]byte(key)) != nil) {
						t.Errorf("round %d: during a commit %s is %q, want %q", round, key, bucket.Get([]byte(key)), got)
					}
				}
				keys, cursor := slices.Sorted(maps.Keys(want)), bucket.Cursor()
				from := fmt.Sprint(random.IntN(30), random.IntN(2))
				i, _ := slices.BinarySearch(keys, from)
				for k, _ := cursor.Seek([]byte(from)); k != nil; k, _ = cursor.Next() {
					if i == len(keys) || keys[i] != string(k) {
						t.Errorf("round %d: from %s on there is %q at place %d of %v", round, from, k, i, keys)
						break
					}
					i++
				}
				return nil
			}))
		})
		must(t, release())
		if !maps.Equal(content(t, f), want) || !maps.Equal(latest(t, f), want) {
			t.Errorf("round %d: after the commit there is %v, want %v", round, content(t, f), want)
		}
	}
}

// Whatever a reader meets, it sees whole writes, and none that it has seen is gone in its next read.
func TestReadersSeeWholeWritesInOrder(t *testing.T) {
	const writes = 300
	f := open(t, t.TempDir())
	defer f.Close()
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for last, lastNumber := 0, int64(0); last < writes; {
				must(t, f.Latest(func(tx Reader) error {
					bucket := tx.Bucket(numbers)
					one, _ := strconv.Atoi(string(bucket.Get([]byte("one"))))
					other, _ := strconv.Atoi(string(bucket.Get([]byte("other"))))
					if one != other || one < last || tx.Number < lastNumber {
						t.Errorf("write %d has %d and %d, after %d with %d", tx.Number, one, other, lastNumber, last)
					}
					last, lastNumber = one, tx.Number
					return nil
				}))
			}
		})
	}
	for i := range writes {
		write := f.Append
		if i%10 == 9 {
			write = f.Update
		}
		must(t, write(func(tx Tx) error {
			value := []byte(fmt.Sprint(i + 1))
			must(t, tx.Bucket(numbers).Put([]byte("one"), value))
			return tx.Bucket(numbers).Put([]byte("other"), value)
		}))
		if i%7 == 0 {
			must(t, f.Check())
		}
	}
	readers.Wait()
}
