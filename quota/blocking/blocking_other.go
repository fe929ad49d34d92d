//go:build !linux

package blocking

import "os"

// Write is file.Write.
func Write(file *os.File, p []byte) (int, error) { return file.Write(p) }

// Sync brings what was written to the disk.
func Sync(file *os.File) error { return file.Sync() }
