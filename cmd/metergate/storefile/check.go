package storefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"metergate/quota/boltstore"
	"metergate/quota/guard"
)

// A Checked says what was found in a file.
type Checked struct {
	File    string
	Bytes   int64
	Faults  []boltstore.Fault // in the order in which they were found; none: it is sound
	Journal bool              // it is a journal, with so many Entries that wait
	Entries int
}

// Check looks for faults in a file of a gateway, or in those of a folder, and changes nothing. An error means that it cannot say: a
// gateway has a file open, or the disk fails.
func Check(path string) (checked []Checked, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		files = nil
		for _, name := range []string{boltstore.FileName, guard.JournalName} {
			file := filepath.Join(path, name)
			if _, err := os.Stat(file); err == nil {
				files = append(files, file)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s has neither %s nor %s; name the folder of store.url or store.journal, or a file", path, boltstore.FileName, guard.JournalName)
		}
	}
	for _, file := range files {
		c := Checked{File: file, Journal: filepath.Base(file) == guard.JournalName || guard.IsJournal(file)}
		if info, err = os.Stat(file); err != nil {
			return checked, err
		}
		c.Bytes = info.Size()
		if c.Journal {
			c.Faults, c.Entries, err = guard.ExamineJournal(file)
		} else {
			c.Faults, err = boltstore.Examine(file)
		}
		switch {
		case errors.Is(err, boltstore.ErrInUse):
			return checked, fmt.Errorf("%s is open in a running gateway; stop it first, or check a backup, which \"metergate backup\" makes while it runs", file)
		case errors.Is(err, guard.ErrInUse):
			return checked, fmt.Errorf("%s is open in a running gateway; stop it first", file)
		case err != nil:
			return checked, err
		}
		checked = append(checked, c)
	}
	return checked, nil
}

// Compact writes usage.db in a folder again, without the space that is free in it, and returns its size before and after.
func Compact(dir string) (file string, before, after int64, err error) {
	file = filepath.Join(dir, boltstore.FileName)
	if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
		file = dir
	}
	if _, err := os.Stat(file); err != nil {
		return file, 0, 0, err
	}
	before, after, err = boltstore.CompactFile(file)
	if errors.Is(err, boltstore.ErrInUse) {
		err = fmt.Errorf("%s is open in a running gateway, which compacts it by itself when a quarter of it is free; stop the gateway to compact it now", file)
	}
	return file, before, after, err
}
