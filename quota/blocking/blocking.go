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

// WriteAndSync is file.WriteAt, file.Sync and LookAt, but the times of the file may stay as they are on the disk.
// After an error, nobody may have looked.
func WriteAndSync(file *os.File, p []byte, at int64, looks []Look) error {
	if isWritten, err := tryWriteAndSync(file, p, at, looks); isWritten {
		finish(looks)
		return err
	}
	if _, err := file.WriteAt(p, at); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	LookAt(looks)
	return nil
}

// A Look is a look at where a path leads. It is taken once.
type Look struct {
	Path string
	File os.FileInfo // that the path should lead to

	// What LookAt has seen:

	Leads bool  // the path leads to the file
	Size  int64 // in bytes, of what the path leads to
	Err   error // of os.Stat
}

// LookAt takes all looks.
func LookAt(looks []Look) {
	tryLooks(looks)
	finish(looks)
}

// finish looks as package os does where no file was seen to be in its place.
func finish(looks []Look) {
	for i := range looks {
		l := &looks[i]
		if l.Leads {
			continue
		}
		found, err := os.Stat(l.Path)
		if err != nil {
			l.Size, l.Err = 0, err
			continue
		}
		l.Leads, l.Size = os.SameFile(found, l.File), found.Size()
	}
}
