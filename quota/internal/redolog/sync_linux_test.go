package redolog

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// Meanwhile garbage is collected: that looks at the stacks of goroutines that wait for the disk.
func TestSyncDataReturnsWhatTheSystemSays(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer end.Close()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 20 {
				if err := syncData(file); err != nil {
					t.Errorf("a file: %v", err)
				}
				if err := syncData(end); !errors.Is(err, syscall.EINVAL) {
					t.Errorf("a pipe, which cannot be synced: %v", err)
				}
				runtime.GC()
			}
		})
	}
	callers.Wait()
}
