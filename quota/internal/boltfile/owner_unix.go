//go:build unix

package boltfile

import (
	"os"
	"syscall"
)

// giveOwner makes the owner and group of a file those of another one, or of a folder.
func giveOwner(file *os.File, like os.FileInfo) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	want, wantOK := like.Sys().(*syscall.Stat_t)
	if !ok || !wantOK || is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return file.Chown(int(want.Uid), int(want.Gid))
}
