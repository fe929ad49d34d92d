package boltstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// saveBackup writes a backup of a store to the file of a new one in dir.
func saveBackup(t testing.TB, s *Store, dir string) {
	t.Helper()
	copied, err := s.Backup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	file, err := os.Create(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, copied); err != nil {
		t.Fatal(err)
	}
}

// Twenty clients count for two users each, in turn. Each backup that is made meanwhile has a moment of all of them:
// neither fewer than were counted before it, nor more than were begun when it had ended, nor the second user ahead of the
// first. The audit log goes on where it was.
func TestBackupIsOneState(t *testing.T) {
	dir := t.TempDir()
	s, p := open(t, dir, Options{}), plan(quota.MaxAmount)
	counts := map[string]int64{}
	for i := range quota.MaxCountsPerChange {
		counts[fmt.Sprintf("an-endpoint-with-a-long-name-%d", i)] = 1
	}
	var filling sync.WaitGroup
	for i := range 20 { // so that a copy takes as long as many writes
		filling.Go(func() {
			applyChange(t, s, fmt.Sprintf("m-%d", i), p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: counts})
		})
	}
	filling.Wait()
	type client struct{ begun, counted atomic.Int64 }
	clients, stop := make([]client, 20), make(chan struct{})
	user := func(i int, n int64) string { return fmt.Sprintf("%c-%d", "az"[n%2], i) } // at both ends of the file
	var counting sync.WaitGroup
	for i := range clients {
		counting.Go(func() {
			for n := int64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				clients[i].begun.Add(1)
				count(t, s, admit(t, s, request(user(i, n), p)))
				clients[i].counted.Add(1)
			}
		})
	}
	for range 3 {
		var least, most [20]int64
		for i := range clients {
			least[i] = clients[i].counted.Load()
		}
		restored := t.TempDir()
		saveBackup(t, s, restored)
		for i := range clients {
			most[i] = clients[i].begun.Load()
		}
		if faults, err := Examine(filepath.Join(restored, fileName)); len(faults) > 0 || err != nil {
			t.Errorf("faults %v, error %v", faults, err)
		}
		r := open(t, restored, Options{})
		for i := range clients {
			var used [2]int64
			for n := range used {
				snap, err := r.Read(ctx, user(i, int64(n)), p.OnlyChoice())
				if err != nil {
					t.Fatal(err)
				}
				used[n] = snap.Total.Used
			}
			if sum, ahead := used[0]+used[1], used[0]-used[1]; sum < least[i] || sum > most[i] || ahead < 0 || ahead > 1 {
				t.Errorf("client %d has used %d and %d, of %d to %d", i, used[0], used[1], least[i], most[i])
			}
		}
		applyChange(t, r, "m-0", p, quota.Change{Action: quota.ActionReset})
		if log, err := r.AuditLog(ctx, "m-0"); err != nil || len(log) != 2 || log[0].Action != quota.ActionReset {
			t.Errorf("the audit log has %d entries, error %v; want the one before and the new one", len(log), err)
		}
	}
	close(stop)
	counting.Wait()
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 2 {
		t.Errorf("the folder has %v, error %v; want usage.db and its log alone", left, err)
	}
}

// A file with a fault of each kind is told from one without.
func TestExamineFindsFaults(t *testing.T) {
	p := plan(10)
	fresh := func() string {
		dir := t.TempDir()
		s := open(t, dir, Options{HistoryDays: 35, BillingHours: 48})
		count(t, s, admit(t, s, request("u-17", p)))
		applyChange(t, s, "u-17", p, quota.Change{Action: quota.ActionGrant, Requests: 5, ID: "once"})
		applyChange(t, s, "u-17", p, quota.Change{Action: quota.ActionSetPlan, Plan: "pro"})
		if _, err := Examine(filepath.Join(dir, fileName)); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a file in use: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, fileName)
	}
	if faults, err := Examine(fresh()); len(faults) > 0 || err != nil {
		t.Fatalf("a good file: faults %v, error %v", faults, err)
	}
	for _, damage := range []struct {
		bucket, key, value string
		want               string
	}{
		{"later", "", "", "bucket later: it is unknown"},
		{"meta", "format", "9", `meta format: it is "9"`},
		{"used", "u-17\x002026-11\x00", "\x00\x00\x00\x00\x00\x00\x00\x07", "all together 7 and 7"},
		{"used", "u-17\x002026-11\x00drill", "\x01", "the value has 1 bytes"},
		{"used", "u-18\x002026-11\x00drill", "\xff\xff\xff\xff\xff\xff\xff\xff", "the count is negative"},
		{"grants", "u-17", "\x00\x00\x00\x00\x00\x00\x00\x07", "the key is too short"},
		{"terms", "u-17", "nonsense", "the terms"},
		{"audit", "u-17\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x09", "{", "unexpected end of JSON"},
		{"ends", "?23456789key", "", "it is of no known kind"},
		{"claimed", "\x01", "pro", "the key names no user"},
	} {
		file := fresh()
		edit(t, file, func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(damage.bucket))
			if err == nil && damage.key != "" {
				err = b.Put([]byte(damage.key), []byte(damage.value))
			}
			return err
		})
		faults, err := Examine(file)
		if err != nil || !strings.Contains(fmt.Sprint(faults), damage.want) {
			t.Errorf("%s %q: faults %v, error %v; want %q", damage.bucket, damage.key, faults, err, damage.want)
		}
	}
	whole, err := os.ReadFile(fresh())
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole); at += 4096 {
		for what, data := range map[string][]byte{"cut": whole[:at], "damaged": append(append(append([]byte{}, whole[:at]...), make([]byte, 4096)...), whole[at+4096:]...)} {
			file := filepath.Join(t.TempDir(), fileName)
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Examine(file); err != nil { // nothing panics; one of two pages of meta data may be missing
				t.Errorf("%s at %d: %v", what, at, err)
			}
		}
	}
}

// CompactFile makes a file smaller and changes nothing in it. One that is in use, or has faults, stays as it is.
func TestCompactFile(t *testing.T) {
	dir, p := t.TempDir(), plan(10)
	file := filepath.Join(dir, fileName)
	s := open(t, dir, Options{})
	counts := map[string]int64{}
	for i := range quota.MaxCountsPerChange {
		counts[fmt.Sprintf("an-endpoint-with-a-long-name-%d", i)] = 1
	}
	for i := range 40 {
		applyChange(t, s, fmt.Sprint("gone-", i), p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: counts})
	}
	for i := range 40 {
		applyChange(t, s, fmt.Sprint("gone-", i), p, quota.Change{Action: quota.ActionReset})
	}
	count(t, s, admit(t, s, request("u-17", p)))
	if _, _, err := CompactFile(file); !errors.Is(err, ErrInUse) {
		t.Errorf("a file in use: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, after, err := CompactFile(file)
	if err != nil || after >= before {
		t.Errorf("%d bytes, were %d; error %v", after, before, err)
	}
	if faults, err := Examine(file); len(faults) > 0 || err != nil {
		t.Errorf("faults %v, error %v", faults, err)
	}
	s = open(t, dir, Options{})
	wantUsage(t, s, "u-17", p, 1, 0)
	applyChange(t, s, "gone-0", p, quota.Change{Action: quota.ActionReset})
	if log, err := s.AuditLog(ctx, "gone-0"); err != nil || len(log) != 3 {
		t.Errorf("the audit log has %d entries, error %v; want 3", len(log), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, file, func(tx *bolt.Tx) error { return tx.Bucket(usedBucket).Put([]byte("x"), nil) })
	size, _ := os.Stat(file)
	if _, _, err := CompactFile(file); err == nil || !strings.Contains(err.Error(), `1 faults, the first is: used "x"`) {
		t.Errorf("a file with a fault: %v", err)
	}
	if now, err := os.Stat(file); err != nil || !os.SameFile(size, now) {
		t.Errorf("the file with a fault was replaced; error %v", err)
	}
}
