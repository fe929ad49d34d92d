package boltstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// killedFile returns a folder with the files that a gateway leaves that is killed now.
func killedFile(t *testing.T, s *Store) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, path := range []string{s.db.Path(), s.db.Path() + "-log"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func formatOf(t *testing.T, path string) (format string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error { format = string(tx.Bucket(metaBucket).Get(formatKey)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return format
}

// Counts that are only in the log survive a kill, and are no fault of the file. Until they are in the file, an older
// release cannot open it.
func TestCountsInTheLogSurviveAKill(t *testing.T) {
	p, now := plan(1000), func() time.Time { return noon }
	s := open(t, t.TempDir(), Options{Now: now})
	for i := range 30 {
		count(t, s, admit(t, s, request(fmt.Sprint("user-", i%3), p)))
	}
	if info, err := os.Stat(s.db.Path() + "-log"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log has mode %v, error %v", info.Mode(), err)
	}
	dir := killedFile(t, s)
	file := filepath.Join(dir, FileName)
	if got := formatOf(t, file); got != format+loggedSuffix {
		t.Errorf("a killed gateway leaves format %q, want one that no older release knows", got)
	}
	if faults, err := Examine(file); len(faults) > 0 || err != nil {
		t.Errorf("faults %v, error %v", faults, err)
	}
	if _, _, err := CompactFile(file); err != nil {
		t.Errorf("CompactFile: %v", err)
	}
	r := open(t, dir, Options{Now: now})
	for i := range 3 {
		wantUsage(t, r, fmt.Sprint("user-", i), p, 10, 0)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := formatOf(t, file); got != format {
		t.Errorf("after Close the format is %q, want %q", got, format)
	}

	log, err := os.ReadFile(s.db.Path() + "-log")
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	o := open(t, other, Options{Now: now})
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, FileName+"-log"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	faults, err := Examine(filepath.Join(other, FileName))
	if err != nil || len(faults) != 1 || !strings.Contains(faults[0].What, "usage.db-log does not belong to this usage.db") {
		t.Errorf("with another log: faults %v, error %v", faults, err)
	}
	if _, err := Open(other, Options{}); err == nil || !strings.Contains(err.Error(), "if you restored usage.db from a backup, move ") {
		t.Errorf("Open with another log: %v", err)
	}
}

// Every kind of write is in the log: a sequence that is forgotten would make two entries share a key.
func TestChangesInTheLogSurviveAKill(t *testing.T) {
	now := func() time.Time { return noon }
	s := open(t, t.TempDir(), Options{Now: now, HistoryDays: 30, BillingHours: 48})
	count(t, s, admit(t, s, request("u", childPlan)))
	for i := range 3 {
		applyChange(t, s, "u", childPlan, quota.Change{Action: quota.ActionGrant, Requests: 5, ID: fmt.Sprint(i)})
		count(t, s, admit(t, s, request("u", childPlan)))
	}
	r := open(t, killedFile(t, s), Options{Now: now, HistoryDays: 30, BillingHours: 48})
	for i, s := range []*Store{s, r} {
		applyChange(t, s, "u", childPlan, quota.Change{Action: quota.ActionGrant, Requests: 1})
		count(t, s, admit(t, s, request("u", childPlan)))
		wantUsage(t, s, "u", childPlan, 5, 0)
		snap, err := s.Read(ctx, "u", childPlan.OnlyChoice())
		if err != nil || snap.Limits[0].Granted != 16 {
			t.Errorf("store %d: %d granted, error %v, want 16", i, snap.Limits[0].Granted, err)
		}
		if log, err := s.AuditLog(ctx, "u"); err != nil || len(log) != 4 {
			t.Errorf("store %d: %d entries in the audit log, error %v, want 4", i, len(log), err)
		}
		if crossings, err := s.CrossingsOf(ctx, "u"); err != nil || len(crossings) != 5 {
			t.Errorf("store %d: %d crossings, error %v, want 5", i, len(crossings), err)
		}
		if got := usedEach(t, s, "u", 1); got != "[{5 5}]" {
			t.Errorf("store %d: the history is %s", i, got)
		}
		if billed, err := scanOpenBills(s); err != nil || billed["u"] != 5 {
			t.Errorf("store %d: %d billed, error %v, want 5", i, billed["u"], err)
		}
	}
}
