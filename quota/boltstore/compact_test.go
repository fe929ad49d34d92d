package boltstore

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// lockedBuffer has what was logged.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Once the counts of a window are no longer kept, the file becomes smaller while commits go on.
// Nothing else changes.
func TestFileShrinksAfterKeep(t *testing.T) {
	clock, p, log := quotatest.NewClock(noon), plan(quota.MaxAmount), new(lockedBuffer)
	dir := t.TempDir()
	s := open(t, dir, Options{Now: clock.Now, Keep: 24 * time.Hour, Log: slog.New(slog.NewTextHandler(log, nil))})
	// Users with many counts, whose window ends with the day.
	counts := map[string]int64{}
	for i := range quota.MaxCountsPerChange {
		counts[fmt.Sprintf("an-endpoint-with-a-long-name-%d", i)] = 1
	}
	var filling sync.WaitGroup
	for w := range 8 {
		filling.Go(func() {
			for i := range 200 {
				if _, err := s.ApplyChange(ctx, fmt.Sprintf("user-%d-%d", w, i), p.OnlyChoice(), quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: counts}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	filling.Wait()
	kept := quotatest.NewPlan("kept", quota.Limit{Amount: 1000, Period: quota.Year})
	applyChange(t, s, "kept", kept, quota.Change{Action: quota.ActionGrant, Requests: 5})
	count(t, s, admit(t, s, request("kept", kept)))
	full, _ := s.FileSpace()

	clock.Advance(4 * 24 * time.Hour)
	commits := int64(0)
	testkit.EventuallyWithin(t, 3*time.Minute, "the file is compacted", func() bool {
		for range 20 {
			count(t, s, admit(t, s, request("busy", p)))
			commits++
		}
		return strings.Contains(log.String(), "a file was compacted")
	})
	testkit.EventuallyWithin(t, 3*time.Minute, "the file is less than half as large", func() bool { // once more, if it came too early
		count(t, s, admit(t, s, request("busy", p)))
		commits++
		size, _ := s.FileSpace()
		return size < full/2
	})
	for range 2 { // the second time in the file that the next process opens
		wantUsage(t, s, "busy", p, commits, 0)
		wantUsage(t, s, "kept", kept, 1, 0)
		if snap, err := s.Read(ctx, "kept", kept.OnlyChoice()); err != nil || snap.Limits[0].Granted != 5 {
			t.Errorf("%d granted, error %v, want 5", snap.Limits[0].Granted, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{Now: clock.Now, Keep: 24 * time.Hour})
	}
}
