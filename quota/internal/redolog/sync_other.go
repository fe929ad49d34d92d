//go:build !linux

package redolog

import "os"

func syncData(file *os.File) error { return file.Sync() }
