package boltstore

import (
	"context"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/quotatest"
)

var (
	noon = time.Date(2026, time.November, 17, 12, 0, 30, 0, time.UTC)
	ctx  = context.Background()
)

// open opens a store that is closed at the end of the test, if it was not closed before.
func open(t testing.TB, dir string, opt Options) *Store {
	t.Helper()
	s, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// plan allows so many requests a month.
func plan(requests int64) *quota.Plan {
	return quotatest.NewPlan("plan", quota.Limit{Amount: requests, Period: quota.Month})
}

func request(user string, p *quota.Plan) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute}
}

func admit(t testing.TB, s *Store, r quota.Request) quota.Reservation {
	t.Helper()
	d, err := s.Reserve(ctx, r)
	if err != nil || !d.Admitted {
		t.Fatalf("Reserve: admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

func count(t testing.TB, s *Store, r quota.Reservation) {
	t.Helper()
	if _, err := s.Commit(ctx, &r); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// wantUsage checks what a user has used and holds over the plan's report period.
func wantUsage(t testing.TB, s *Store, user string, p *quota.Plan, used, held int64) {
	t.Helper()
	snap, err := s.Read(ctx, user, p.OnlyChoice())
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if snap.Total.Used != used || snap.Total.Held != held {
		t.Errorf("used %d and held %d, want %d and %d", snap.Total.Used, snap.Total.Held, used, held)
	}
}

// countWrites is the number of writes that the file has seen.
func countWrites(t testing.TB, s *Store) (n int) {
	t.Helper()
	if err := s.db.Latest(func(tx boltfile.Reader) error { n = int(tx.Number); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func edit(t *testing.T, path string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
}

// countKeys returns how many keys a bucket has.
func countKeys(t testing.TB, s *Store, bucket []byte) (n int) {
	t.Helper()
	err := s.db.Latest(func(tx boltfile.Reader) error {
		cursor := tx.Bucket(bucket).Cursor()
		for k, _ := cursor.Seek(nil); k != nil; k, _ = cursor.Next() {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func applyChange(t testing.TB, s *Store, user string, p *quota.Plan, c quota.Change) quota.Snapshot {
	t.Helper()
	snap, err := s.ApplyChange(ctx, user, p.OnlyChoice(), c)
	if err != nil {
		t.Fatalf("ApplyChange %+v: %v", c, err)
	}
	return snap
}

// dropCache makes the next call of s read the file.
func dropCache(s *Store) { s.cacheGeneration.Add(1) }

// slowDisk makes each write of s announce itself on writing and wait for a value from disk: an
// error to fail with, or nil to succeed.
func slowDisk(s *Store) (writing <-chan struct{}, disk chan<- error) {
	w, d := make(chan struct{}), make(chan error)
	update := s.dbUpdate
	s.dbUpdate = func(fn func(boltfile.Tx) error) error {
		w <- struct{}{}
		if err := <-d; err != nil {
			return update(func(tx boltfile.Tx) error { fn(tx); return err })
		}
		return update(fn)
	}
	return w, d
}
