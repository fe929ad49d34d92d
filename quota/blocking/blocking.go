// Package blocking makes system calls that may wait for a disk or a reader, and tells Go's scheduler so at once.
//
// Of any other system call, the scheduler's monitor thread (sysmon) finds out after some 20 µs that it blocks. Then it hands the
// processor to another thread. For that it wakes every 20 µs, and it wakes more rarely only if it has had
// nothing to do for a while. With many such calls it takes a tenth of the processor time.
// docs/performance-notes.md says what is saved.
//
// On other systems than Linux, the calls are those of package os.
package blocking

import "os"

// Write is file.Write.
func Write(file *os.File, p []byte) (int, error) {
	n := tryWrite(file, p)
	if n == len(p) && n > 0 {
		return n, nil
	}
	rest, err := file.Write(p[n:]) // waits for a pipe that does not block, and has the error
	return n + rest, err
}

// WriteAndSync is file.WriteAt and file.Sync, but the times of the file may stay as they are on the disk.
func WriteAndSync(file *os.File, p []byte, at int64) error {
	if isWritten, err := tryWriteAndSync(file, p, at); isWritten {
		return err
	}
	if _, err := file.WriteAt(p, at); err != nil {
		return err
	}
	return file.Sync()
}

// LeadsTo reports whether a path leads to a file, and the size of the file it leads to. The errors are those of os.Stat.
func LeadsTo(path string, file os.FileInfo) (is bool, size int64, err error) {
	if size, is := tryStat(path, file); is {
		return true, size, nil
	}
	found, err := os.Stat(path)
	if err != nil {
		return false, 0, err
	}
	return os.SameFile(found, file), found.Size(), nil
}
