//go:build linux || darwin

package boltfile

import (
	"path/filepath"
	"syscall"
)

// freeSpace returns how many bytes can still be written to the disk that a file is on; false: it cannot be
// found out.
func freeSpace(path string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
