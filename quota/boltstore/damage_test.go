package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// openDamageable opens a store that is expected to be damaged when it closes.
func openDamageable(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// zeroPages overwrites all pages of a store's file but the first two, as a bad disk may.
func zeroPages(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, fileName)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	begin := int64(2 * os.Getpagesize())
	if _, err := f.WriteAt(make([]byte, info.Size()-begin), begin); err != nil {
		t.Fatal(err)
	}
}

// A file that is damaged while it serves makes each call fail, as a store that does not answer.
// Nothing panics, no caller waits for ever, and Close returns.
func TestDamageWhileServingFailsCalls(t *testing.T) {
	p := plan(1000)
	grant := quota.Change{Action: quota.ActionGrant, Requests: 5}
	calls := map[string]func(*Store, quota.Reservation) error{
		"Reserve": func(s *Store, _ quota.Reservation) error { _, err := s.Reserve(ctx, request("v", p)); return err },
		"Commit":  func(s *Store, r quota.Reservation) error { _, err := s.Commit(ctx, &r); return err },
		"CommitRest": func(s *Store, r quota.Reservation) error {
			r.Unused, r.Rest, r.RestCharged = 1, 1, 1
			_, err := s.CommitRest(ctx, &r)
			return err
		},
		"Release": func(s *Store, r quota.Reservation) error { _, err := s.Release(ctx, &r); return err },
		"Read":    func(s *Store, _ quota.Reservation) error { _, err := s.Read(ctx, "u", p.OnlyChoice()); return err },
		"ApplyChange": func(s *Store, _ quota.Reservation) error {
			_, err := s.ApplyChange(ctx, "u", p.OnlyChoice(), grant)
			return err
		},
		"ClaimedPlan": func(s *Store, _ quota.Reservation) error { _, err := s.ClaimedPlan(ctx, "u"); return err },
		"AuditLog":    func(s *Store, _ quota.Reservation) error { _, err := s.AuditLog(ctx, "u"); return err },
		"ScanUsers": func(s *Store, _ quota.Reservation) error {
			return s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: noon}, func(quota.UserUsage) error { return nil })
		},
		"Replay": func(s *Store, r quota.Reservation) error {
			return s.Replay(context.Background(), r.User, []quota.Reservation{r}, nil)
		},
	}
	for first := range calls { // finds the damage
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			s := openDamageable(t, dir)
			for i := range 50 {
				count(t, s, admit(t, s, request(fmt.Sprint("user-", i), p)))
			}
			held := make(chan quota.Reservation, 20)
			for range cap(held) {
				held <- admit(t, s, request("u", p))
			}
			zeroPages(t, dir)
			wantDamaged := func(what string, err error) {
				t.Helper()
				var damaged *boltfile.DamagedError
				if !errors.As(err, &damaged) || quota.StoreResponded(err) {
					t.Errorf("%s: error %v, want a *boltfile.DamagedError", what, err)
				}
			}
			wantDamaged(first, calls[first](s, <-held))
			for name, call := range calls {
				wantDamaged(name+" afterwards", call(s, <-held))
			}
			wantDamaged("Probe", s.Probe(ctx, "u"))
			wantDamaged("Close", s.Close())
			if _, err := Open(dir, Options{}); err == nil {
				t.Error("a damaged file can be opened")
			}
		})
	}
}
