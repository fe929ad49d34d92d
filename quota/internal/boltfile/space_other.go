//go:build !(linux || darwin)

package boltfile

// freeSpace cannot be found out.
func freeSpace(string) (int64, bool) { return 0, false }
