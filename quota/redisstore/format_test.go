package redisstore

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// TestUnknownFormatIsRefused checks that every call refuses a hash of a later format with an
// error that says so, that none changes it, and that other users are served.
func TestUnknownFormatIsRefused(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	held, other := mustReserve(t, s, "u"), mustReserve(t, s, "other")
	settled := mustReserve(t, s, "u")
	if _, err := s.Commit(ctx, &settled); err != nil {
		t.Fatal(err)
	}
	if err := commands(s).HSet(ctx, key(s, "u"), "format", "2", "sweep", "see format").Err(); err != nil {
		t.Fatal(err)
	}
	before, rest := userHash(t, s, "u"), held
	rest.Unused, rest.Rest = 1, 1
	for name, call := range map[string]func() error{
		"reserve":     func() error { _, err := s.Reserve(ctx, newRequest("u")); return err },
		"commit":      func() error { _, err := s.Commit(ctx, &held); return err },
		"commit rest": func() error { _, err := s.CommitRest(ctx, &rest); return err },
		"keep": func() error {
			own := script.KeepArgs{Rests: []*quota.Reservation{&rest}}
			return s.ask(ctx, &query{script: script.Keep, user: "u", appendArgs: func(args *resp.Args, _ *quota.Plan, _ *layout) { own.AppendTo(args) }}, new(outcome))
		},
		"release":      func() error { _, err := s.Release(ctx, &held); return err },
		"replay":       func() error { return s.Replay(ctx, "u", []quota.Reservation{held}, nil) },
		"read":         func() error { _, err := s.Read(ctx, "u", plan.OnlyChoice()); return err },
		"read at":      func() error { _, err := s.ReadAt(ctx, "u", plan.OnlyChoice(), time.Now()); return err },
		"audit log":    func() error { _, err := s.AuditLog(ctx, "u"); return err },
		"claimed plan": func() error { _, err := s.ClaimedPlan(ctx, "u"); return err },
		"scan": func() error {
			return s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: time.Now()}, func(quota.UserUsage) error { return nil })
		},
		"reset": func() error {
			_, err := s.ApplyChange(ctx, "u", plan.OnlyChoice(), quota.Change{Action: quota.ActionReset})
			return err
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "has format 2, this version of the gateway knows only format 1") {
			t.Errorf("%s: error %v, want that the format is unknown", name, err)
		} else if quota.StoreResponded(err) {
			t.Errorf("%s: error %v is taken for a decision of the store", name, err)
		}
	}
	if after := userHash(t, s, "u"); !maps.Equal(before, after) {
		t.Errorf("the data of a later format was changed from %v to %v", before, after)
	}
	if _, err := s.Commit(ctx, &other); err != nil {
		t.Errorf("a user with the known format: %v", err)
	}
	wantState(t, s, "other", 1, 0)
}

// TestFormatIsNotWritten checks that the data of this version has no field that release 0.1.0
// did not have, so that gateways of both can share a Redis.
func TestFormatIsNotWritten(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	settleUnits(t, s, "u", 2)
	for _, change := range []quota.Change{
		{Action: quota.ActionGrant, Requests: 5, ID: "one"}, {Action: quota.ActionReset}, {Action: quota.ActionSetPlan, Plan: "free"},
	} {
		if _, err := s.ApplyChange(ctx, "u", plan.OnlyChoice(), change); err != nil {
			t.Fatal(err)
		}
	}
	known := []string{"user", "claimed", "used", "held", "lease", "done", "grant", "grants", "plan", "audit", "once", "retain", "sweep", "attempts"}
	for field := range userHash(t, s, "u") {
		if name, _, _ := strings.Cut(field, "/"); !slices.Contains(known, name) {
			t.Errorf("release 0.1.0 does not know the field %s", field)
		}
	}
}
