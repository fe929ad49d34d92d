// Package redolog is a log of numbered records in a file of a fixed size. Package boltfile keeps in it what was written
// since the last commit of its database.
//
// A record begins on a page of its own, so that no write touches a page of a record before it: a disk that fails, or
// loses its power, in the middle of a write can damage only the record that is being written. The file is written whole
// when it is created. From then on a record needs one write and one fdatasync, and no change of the file's meta data.
//
//	checksum (4 bytes, CRC-32C of all that follows), length of the content (4), ID of the database (8), number (8), content
//
// Numbers are big-endian. Each record has the number after that of the record before it. After Restart the next one is at
// the beginning again; what follows it are records with lower numbers, which a reader recognises by that.
package redolog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"metergate/quota/blocking"
)

const (
	// Size is how many bytes a log has.
	Size       = 1 << 20
	pageSize   = 4096
	headerSize = 24
	// Lost is all that is in a file that an operator puts in place of a log that is lost: it has no records.
	Lost = "lost"
)

// Errors of Read.
var (
	// ErrForeign: the records belong to another database.
	ErrForeign = errors.New("its records belong to another database")
	// ErrGap: records are missing between the state of the database and the first one.
	ErrGap = errors.New("its records continue a later state of the database")
	// ErrDamaged: a record is missing or damaged, and another one follows it.
	ErrDamaged = errors.New("a record in it is damaged")
	// ErrCut: the file is smaller than a log. Only ReadFile returns it.
	ErrCut = errors.New("it was cut, or not created whole")
	// ErrNotLog: it is not a file, or larger than a log. Only ReadFile returns it.
	ErrNotLog = errors.New("it is not a log")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Log is a log that is open for writing. It is not safe for concurrent use.
type Log struct {
	file *os.File
	info os.FileInfo
	next int64                // where the next record goes
	page []byte               // that is written
	sync func(*os.File) error // nil: fdatasync
}

// Create makes a log in a file that was opened for reading and writing, and brings its size to disk. It closes the file
// after an error. What is written is brought to disk with sync; nil: fdatasync.
func Create(file *os.File, sync func(*os.File) error) (l *Log, err error) {
	l = &Log{file: file, sync: sync}
	err = l.write(make([]byte, Size), 0, nil)
	if err == nil {
		l.info, err = file.Stat()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// Fits reports whether there is room for a record of so many bytes.
func (l *Log) Fits(content int) bool { return l.next+pages(content) <= Size }

// pages is the size of the pages of a record, in bytes.
func pages(content int) int64 {
	return (int64(content) + headerSize + pageSize - 1) / pageSize * pageSize
}

// Append writes a record, which must fit, and returns when it is on disk. After that it takes the looks. After an error the
// record may be there or not; the next one takes its place.
func (l *Log) Append(database uint64, number int64, content []byte, looks []blocking.Look) error {
	b := append(l.page[:0], make([]byte, headerSize)...)
	binary.BigEndian.PutUint32(b[4:], uint32(len(content)))
	binary.BigEndian.PutUint64(b[8:], database)
	binary.BigEndian.PutUint64(b[16:], uint64(number))
	b = append(b, content...)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	b = append(b, make([]byte, pages(len(content))-int64(len(b)))...)
	l.page = b
	if err := l.write(b, l.next, looks); err != nil {
		return err
	}
	l.next += int64(len(b))
	return nil
}

// write returns when p is on disk and the looks are taken.
func (l *Log) write(p []byte, at int64, looks []blocking.Look) error {
	if l.sync == nil {
		return blocking.WriteAndSync(l.file, p, at, looks)
	}
	_, err := l.file.WriteAt(p, at)
	if err == nil {
		err = l.sync(l.file)
	}
	if err == nil {
		blocking.LookAt(looks)
	}
	return err
}

// Restart makes the next record the first one. All others must be in the database by then, on disk.
func (l *Log) Restart() { l.next = 0 }

// Look returns a look at a path that should lead to the log.
func (l *Log) Look(path string) blocking.Look { return blocking.Look{Path: path, File: l.info} }

// IsThere reports whether a look has found the log, and nothing has cut it. It is true if that could not be found out.
func IsThere(look blocking.Look) bool {
	if look.Err != nil {
		return !errors.Is(look.Err, os.ErrNotExist)
	}
	return look.Leads && look.Size >= Size
}

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }

// A Record is one that was read.
type Record struct {
	Number  int64
	Content []byte
}

// ReadFile is Read of a file. It also returns ErrCut, ErrNotLog, and the errors of the system.
func ReadFile(path string, database uint64, after int64) ([]Record, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > Size {
		return nil, fmt.Errorf("%w: a log is a file of %d bytes", ErrNotLog, Size)
	}
	data, err := os.ReadFile(path)
	switch {
	case err != nil:
		return nil, err
	case string(bytes.TrimSpace(data)) == Lost:
		return nil, nil
	case len(data) < Size:
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrCut, len(data), Size)
	}
	return Read(data, database, after)
}

// Read returns the records that a database, whose last write has the number after, does not have yet. It leaves out a last
// record that is not whole: as a rule nobody was told that it is on disk. One that was damaged later looks the same. Errors are ErrForeign, ErrGap and ErrDamaged.
func Read(log []byte, database uint64, after int64) (records []Record, err error) {
	last, from := after, 0
	for from < len(log) {
		r, id, size := readRecord(log[from:])
		if size == 0 {
			break
		}
		switch {
		case id != database:
			return nil, ErrForeign
		case from == 0 && r.Number > after+1:
			return nil, fmt.Errorf("%w: the first is %d, and the last write of the database is %d", ErrGap, r.Number, after)
		case from == 0:
			last = r.Number - 1
		}
		if r.Number != last+1 {
			break // it is from before a Restart
		}
		if last = r.Number; last > after {
			records = append(records, r)
		}
		from += size
	}
	// What follows are older records, or none. A newer one means that one before it was on disk and is damaged.
	for last = max(last, after); from < len(log); from += pageSize {
		if r, id, size := readRecord(log[from:]); size > 0 && id == database && r.Number > last {
			return nil, fmt.Errorf("%w: record %d follows it", ErrDamaged, r.Number)
		}
	}
	return records, nil
}

// readRecord reads the record with which a log begins. The size is that of its pages; 0: there is no whole record.
func readRecord(log []byte) (r Record, database uint64, size int) {
	if len(log) < headerSize {
		return r, 0, 0
	}
	length := int64(binary.BigEndian.Uint32(log[4:]))
	if length > int64(len(log)-headerSize) || pages(int(length)) > int64(len(log)) {
		return r, 0, 0
	}
	whole := log[:headerSize+length]
	if binary.BigEndian.Uint32(whole) != crc32.Checksum(whole[4:], castagnoli) {
		return r, 0, 0
	}
	r = Record{Number: int64(binary.BigEndian.Uint64(whole[16:])), Content: whole[headerSize:]}
	return r, binary.BigEndian.Uint64(whole[8:]), int(pages(int(length)))
}
