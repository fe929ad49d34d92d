package boltstore

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/testkit"
)

// On a full disk commits and changes fail, and succeed once there is space again.
func TestFullDiskLosesNoCount(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return noon }
	s, p := open(t, dir, Options{Now: now}), plan(10)
	count(t, s, admit(t, s, request("u", p)))
	r := admit(t, s, request("u", p))

	emptyFile, emptyLog := testkit.FillDisk(t, filepath.Join(dir, "usage.db")), testkit.FillDisk(t, filepath.Join(dir, "usage.db-log"))
	for range 2 {
		if _, err := s.Commit(ctx, &r); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Commit: %v, want %v", err, syscall.ENOSPC)
		}
		wantUsage(t, s, "u", p, 1, 1)
	}
	grant := quota.Change{Action: quota.ActionGrant, Requests: 5, ID: "17"}
	if _, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), grant); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("ApplyChange: %v, want %v", err, syscall.ENOSPC)
	}
	if err := s.Check(ctx); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Ping: %v, want %v", err, syscall.ENOSPC)
	}
	other := admit(t, s, request("u", p)) // needs no disk
	emptyFile()
	emptyLog()

	count(t, s, other)
	wantUsage(t, s, "u", p, 2, 1)
	count(t, s, r)
	count(t, s, r)
	wantUsage(t, s, "u", p, 3, 0)
	for range 2 {
		if snap := applyChange(t, s, "u", p, grant); snap.Limits[0].Granted != 5 {
			t.Errorf("%d granted, want 5", snap.Limits[0].Granted)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, open(t, dir, Options{Now: now}), "u", p, 3, 0)
}
