//go:build unix

package boltfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// A file that is compacted keeps its mode and, if the user may set it, its owner. A new file that root makes belongs to
// the owner of its folder, as the gateway that will open it does.
func TestFilesKeepTheirOwner(t *testing.T) {
	dir := t.TempDir()
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 65532, 65533
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "test.db")
	check := func(when string, mode os.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != uid || int(s.Gid) != gid || info.Mode() != mode {
			t.Errorf("%s the file belongs to %d:%d with mode %v, want %d:%d and %v", when, s.Uid, s.Gid, info.Mode(), uid, gid, mode)
		}
	}
	f, err := Open(dir, "test.db", Options{InUse: errors.New("in use")}, func(*bolt.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	check("when it is new,", 0o600)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if uid != os.Geteuid() {
		uid++ // not that of the folder
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := CompactFile(path, errors.New("in use")); err != nil {
		t.Fatal(err)
	}
	check("compacted,", 0o640)
}
