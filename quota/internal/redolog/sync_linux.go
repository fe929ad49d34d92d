package redolog

import (
	"os"
	"syscall"
)

// syncData brings what was written to disk. The size does not change, so that fdatasync is enough.
func syncData(file *os.File) error {
	for {
		if err := syscall.Fdatasync(int(file.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
