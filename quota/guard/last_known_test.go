package guard

import (
	"testing"
	"time"

	"metergate/quota"
)

// A fall is less use than before in the same window, as a later answer says.
func TestRecordSnapshotReportsFall(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	snapshot := func(second int, window string, used int64) *quota.Snapshot {
		return &quota.Snapshot{At: start.Add(time.Duration(second) * time.Second), Total: quota.Count{Window: quota.Window{ID: window}, Used: used}}
	}
	var c lastKnownCache
	for _, step := range []struct {
		*quota.Snapshot
		fell bool
	}{
		{snapshot(0, "2026-11", 5), false},
		{snapshot(2, "2026-11", 7), false},
		{snapshot(1, "2026-11", 6), false}, // an answer that was overtaken
		{snapshot(3, "2026-11", 7), false},
		{snapshot(4, "2026-11", 3), true},
		{snapshot(5, "2026-11", 3), false},
		{snapshot(6, "2026-12", 0), false}, // another month
	} {
		if fell := c.recordSnapshot("u", step.Snapshot); fell != step.fell {
			t.Errorf("at %v, with %d used: fell %v, want %v", step.At.Sub(start), step.Total.Used, fell, step.fell)
		}
	}
}
