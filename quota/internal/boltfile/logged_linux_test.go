package boltfile

import (
	"maps"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/testkit"
)

// When the log cannot be written, the write fails, and the next one is committed. When that cannot be written either,
// nothing that was acknowledged is lost, and Latest sees it.
func TestFullDiskKeepsAppendedWrites(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	f := open(t, dir)
	must(t, appendKey(f, "a", "1"))
	want := map[string]string{"a": "1"}

	mendLog := testkit.FillDisk(t, f.logPath())
	if err := appendKey(f, "b", "2"); err == nil {
		t.Error("a write to a log on a full disk returned no error")
	}
	if got := latest(t, f); !maps.Equal(got, want) {
		t.Errorf("after a failed write: %v, want %v", got, want)
	}
	wantRecovered(t, f, want)
	must(t, appendKey(f, "c", "0")) // it is committed, so it does not need the log
	want["c"] = "0"
	if !maps.Equal(content(t, f), want) {
		t.Error("the write after one that failed was not committed")
	}
	mendLog()
	must(t, appendKey(f, "d", "0"))
	want["d"] = "0"
	wantRecovered(t, f, want)

	mendLog = testkit.FillDisk(t, f.logPath())
	mendFile := testkit.FillDisk(t, f.Path())
	for range 2 {
		if err := appendKey(f, "b", "2"); err == nil {
			t.Error("a write to a full disk returned no error")
		}
		if err := f.Check(); err == nil {
			t.Error("Check of a file on a full disk returned no error")
		}
		if err := f.Scan(func(tx *bolt.Tx) error {
			if tx.Bucket(numbers).Get([]byte("d")) == nil {
				t.Error("Scan does not see an appended write")
			}
			return nil
		}); err != nil {
			t.Errorf("Scan: %v", err)
		}
		if got := latest(t, f); !maps.Equal(got, want) {
			t.Errorf("on a full disk: %v, want %v", got, want)
		}
		wantRecovered(t, f, want)
	}
	mendFile()
	for _, key := range []string{"b", "c", "d"} { // the first is committed
		must(t, appendKey(f, key, "3"))
		want[key] = "3"
		if content(t, f)["b"] == "" {
			t.Error("the write after one that failed was not committed")
		}
		mendLog()
		mendLog = func() {}
		wantRecovered(t, f, want)
	}
	must(t, f.Check())
	must(t, f.Close())
	f = open(t, dir)
	defer f.Close()
	if got := latest(t, f); !maps.Equal(got, want) {
		t.Errorf("after Close: %v, want %v", got, want)
	}
}

// Close of a file that cannot be written leaves the log, which has everything.
func TestCloseOnFullDiskLeavesTheLog(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	f := open(t, dir)
	must(t, appendKey(f, "a", "1"))
	testkit.FillDisk(t, f.Path())
	if err := f.Close(); err == nil {
		t.Error("Close returned no error")
	}
	f = open(t, crash(t, f))
	defer f.Close()
	if got := latest(t, f); got["a"] != "1" {
		t.Errorf("after Close: %v", got)
	}
}

// A pipe in place of the log is refused, and nothing waits for somebody who writes to it.
func TestPipeIsNoLog(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(filepath.Join(dir, name+logSuffix), 0o600))
	if _, err := tryOpen(dir); err == nil || !strings.Contains(err.Error(), "it is not a log") {
		t.Errorf("Open: %v", err)
	}
}
