package operating

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// fillOldDay makes a file of the embedded store with some 40 MB of counts, of a day that is no
// longer kept.
func fillOldDay(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().AddDate(-2, 0, 0)
	s, err := boltstore.Open(dir, boltstore.Options{Now: func() time.Time { return old }})
	if err != nil {
		t.Fatal(err)
	}
	plan := quotatest.NewPlan("free", quota.Limit{Amount: 100, Period: quota.Month})
	counts := map[string]int64{}
	for i := range quota.MaxCountsPerChange {
		counts[fmt.Sprintf("an-endpoint-with-a-long-name-%d", i)] = 1
	}
	var filling sync.WaitGroup
	for w := range 8 {
		filling.Go(func() {
			for i := range 200 {
				_, err := s.ApplyChange(context.Background(), fmt.Sprintf("user-%d-%d", w, i), plan.OnlyChoice(),
					quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: counts})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	filling.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// usage.db becomes smaller while the gateway serves. A gateway that is killed in the middle of
// this has lost no count, and its file becomes smaller the next time.
func TestUsageFileShrinksWhileServing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fillOldDay(t, dir)
	file := filepath.Join(dir, "usage.db")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	c := startCounted(t, "embedded:"+dir)
	bytes := func(name string) int64 {
		n, _ := strconv.ParseFloat(gatewaytest.Metric(c.Process, name+`{file="usage.db"}`), 64)
		return int64(n)
	}
	if n := bytes("metergate_file_bytes"); n != before.Size() {
		t.Errorf("metergate_file_bytes is %d, the file has %d bytes", n, before.Size())
	}
	testkit.EventuallyWithin(t, 3*time.Minute, "the gateway begins to compact the file", func() bool {
		c.post(10)
		_, err := os.Stat(file + ".compact")
		return err == nil || strings.Contains(c.Output(), "a file was compacted")
	})
	c.Kill()
	c.Process = c.Restart()
	if _, err := os.Stat(file + ".compact"); !os.IsNotExist(err) {
		t.Errorf("after the restart, a part of a copy is left: %v", err)
	}
	c.wantCounted()
	testkit.EventuallyWithin(t, 3*time.Minute, "the file is less than half as large", func() bool {
		c.post(10)
		after, err := os.Stat(file)
		return err == nil && after.Size() < before.Size()/2
	})
	c.wantCounted()
	testkit.Eventually(t, "the metrics say so", func() bool {
		n := bytes("metergate_file_bytes")
		return n > 0 && n < before.Size()/2 && bytes("metergate_file_free_bytes") < n
	})
	c.Kill()
	c.Process = c.Restart()
	c.wantCounted()
}
