//go:build !linux

package blocking

import "os"

func tryWrite(*os.File, []byte) int                         { return 0 }
func tryWriteAndSync(*os.File, []byte, int64) (bool, error) { return false, nil }
func tryStat(string, os.FileInfo) (int64, bool)             { return 0, false }
