package boltfile

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/blocking"
	"metergate/quota/internal/redolog"
)

// For a commit, bbolt writes some seven pages and calls fdatasync twice. A file with a log makes most writes durable with
// one page and one fdatasync, and commits many of them at once:
//
//  1. Append makes a write in a transaction of bbolt, which stays open for the writes that follow. Append notes each key that
//     is set or deleted, and appends them to the log, FILE-log, as one record with the number of the write. Then the
//     write is durable.
//  2. A commit brings all of them to the file, with the number of the last one: once a second (Check), when the log is
//     full, and before anything reads all of the file or takes its place. Then the log begins again.
//  3. Latest also sees what is not committed yet, View does not. So Latest may see a write whose record is on its way to
//     the disk, and may still fail. Its number tells: no other write gets it. Latest does not wait until a commit is on disk: during a
//     commit it reads the commit before, and over it what was appended since, see Reader.
//
// The file has an ID and the number of its last write, see stamp. After a crash, Open repeats those writes of the log that
// have higher numbers. That sets keys to values, so it does not matter how many of them the file has already. If the last
// record is not whole, its write was not acknowledged, unless the disk has damaged it since.
//
// When a write fails half-way, or the log cannot be written, the open transaction is given up. The next one begins with the
// same writes again, which are also kept in memory. Since nobody knows what a failed write has left on disk, the write
// that follows is committed, with a number that the failed one did not have, and the log begins again.
//
// While the log may have what the file has not, Mark has changed the file: a release that does not know the log refuses
// it, and this one refuses it without the log. The mark is on disk before the first record of a log. A file that was
// opened is not marked before the first Append.

// LogOptions say how a file has a log.
type LogOptions struct {
	// Bucket has the stamp, under the key "log". The function prepare of Open creates it.
	Bucket []byte
	// Mark notes in the file whether the log may have writes that the file has not, and IsMarked reads that.
	Mark     func(tx Tx, marked bool) error
	IsMarked func(tx *bolt.Tx) bool
	// Sync brings a log to disk; nil: fdatasync.
	Sync func(*os.File) error
	// Spare is how many bytes of the disk stay free when a log is created; 0: 64 MiB.
	Spare int64
}

var stampKey = []byte("log")

// A stamp tells which records of a log a file has.
type stamp struct {
	id     uint64 // of the file, random; 0: it has never had a log
	number int64  // of the last write
}

// stampOf reads the stamp.
func (f *File) stampOf(tx *bolt.Tx) stamp { return stampIn(tx, f.Log.Bucket) }

func stampIn(tx *bolt.Tx, bucket []byte) (s stamp) {
	if b := tx.Bucket(bucket); b != nil {
		if v := b.Get(stampKey); len(v) == 16 {
			s.id, s.number = binary.BigEndian.Uint64(v), int64(binary.BigEndian.Uint64(v[8:]))
		}
	}
	return s
}

func (s stamp) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.id), uint64(s.number))
}

// logging is what a File knows about its log.
type logging struct {
	// These are guarded by File.writing.
	log        *redolog.Log // nil until it is created
	retryLogAt time.Time    // no try to create it before then
	tried      int64        // the highest number of a write that failed: a reader, or the log, may have it, so no other write gets it
	mustCommit bool         // the next write is committed: nobody knows what the last one has left on disk
	mark       markState    // of the file on disk

	// pending: there are appended writes, which View does not see. It is set with txMu held.
	pending atomic.Bool
	txMu    sync.Mutex // guards what follows; taken after File.writing
	tx      *bolt.Tx   // has the appended writes, and perhaps one that is under way; nil: none was begun
	stamp   stamp      // of tx
	// committing has the appended writes while tx is being committed. Then only the writer may use tx.
	committing *overlay
	// appended are the writes in the log, their content is in changes.
	appended []appendedWrite
	changes  changeList
	isShared bool // a Reader may have the changes
}

// A markState is whether a file is marked.
type markState int

const (
	unknownMark markState = iota // a write that would have changed it has failed
	noMark
	hasMark
)

// An appendedWrite is a write in the log.
type appendedWrite struct {
	number   int64
	from, to int // in the changes
}

// logSuffix is added to the path of a file to get that of its log.
const logSuffix = "-log" // what deletes or truncates *.log leaves it alone

// retryLogAfter is how long each write is committed after a log could not be created.
const retryLogAfter = time.Minute

func (f *File) logPath() string { return f.Path() + logSuffix }

// Append is Update for a file with a log: the write is durable, Latest sees it, and View does once it is committed.
func (f *File) Append(fn func(Tx) error) error { return f.write(fn, f.Log == nil) }

// logWrite makes a write to a file with a log. If it appends that to the log, it returns looks that were taken after that, else
// nil. The caller holds f.writing.
func (f *File) logWrite(fn func(Tx) error, commit bool) (looks []blocking.Look, err error) {
	if d := f.damage.Load(); d != nil {
		return nil, d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	commit = commit || !f.isLogReady()
	if !commit && f.mark != hasMark {
		return nil, f.writeMark(hasMark, fn)
	}
	w, committed, err := f.makeWrite(fn, commit)
	if err != nil || committed {
		return nil, err
	}
	looks = f.looks()
	err = f.log.Append(f.stamp.id, w.number, f.changes.bytes[w.from:w.to], looks)
	f.txMu.Lock()
	defer f.txMu.Unlock()
	if err != nil {
		f.mustCommit, f.tried = true, w.number
		f.giveUp()
		return nil, err
	}
	f.appended = append(f.appended, w)
	f.pending.Store(true)
	return looks, nil
}

// makeWrite makes a write in the open transaction, and commits that if it must or cannot do without. After an error the
// transaction was given up.
func (f *File) makeWrite(fn func(Tx) error, commit bool) (w appendedWrite, committed bool, err error) {
	f.txMu.Lock()
	defer f.txMu.Unlock()
	if err := f.begin(); err != nil {
		return w, false, err
	}
	f.stamp.number = max(f.stamp.number, f.tried) + 1
	w = appendedWrite{number: f.stamp.number, from: len(f.changes.bytes)}
	tx := Tx{Tx: f.tx, changed: f.changed, file: f}
	if !commit {
		f.changes.unlogged = false
		tx.changes = &f.changes
	}
	err = fn(tx)
	w.to = len(f.changes.bytes)
	if committed = commit || f.changes.unlogged || !f.log.Fits(w.to-w.from); committed && err == nil {
		err = f.commit()
	}
	if err != nil {
		f.giveUp()
	}
	return w, committed, err
}

// begin begins the open transaction, unless there is one. The caller holds f.txMu.
func (f *File) begin() error {
	if f.tx != nil {
		return nil
	}
	tx, err := f.current.Load().db.Begin(true)
	if err != nil {
		return err
	}
	f.tx = tx
	f.stamp = f.stampOf(tx)
	for _, w := range f.appended {
		if w.number <= f.stamp.number {
			continue // a commit that failed can be seen nevertheless
		}
		if err := applyChanges(tx, f.changes.bytes[w.from:w.to]); err != nil {
			f.giveUp()
			return err
		}
		f.stamp.number = w.number
	}
	return nil
}

// giveUp gives up the open transaction. The next one has the appended writes again. The caller holds f.txMu.
func (f *File) giveUp() {
	if f.tx != nil {
		_ = f.tx.Rollback() // or a commit that failed has done that
		f.tx = nil
	}
	end := 0
	if n := len(f.appended); n > 0 {
		end = f.appended[n-1].to
	}
	f.changes.bytes = f.changes.bytes[:end]
}

// commit commits the open transaction. The caller holds f.writing and f.txMu, and gives it up after an error. Others may
// read meanwhile, see Latest.
func (f *File) commit() error {
	f.stamp.number = max(f.stamp.number, f.tried)
	if err := (Tx{Tx: f.tx, changed: f.changed, file: f}).Bucket(f.Log.Bucket).Put(stampKey, f.stamp.encode()); err != nil {
		return err
	}
	f.current.Load().written = f.tx.Size()
	if err := f.commitOpen(); err != nil {
		f.mustCommit, f.tried = true, f.stamp.number
		return err
	}
	f.tx, f.appended, f.changes.bytes, f.mustCommit = nil, f.appended[:0], f.changes.bytes[:0], false
	if f.isShared || cap(f.changes.bytes) > 2*redolog.Size { // the latter after a write that was too large for the log
		f.changes.bytes, f.isShared = nil, false
	}
	f.pending.Store(false)
	if f.log != nil {
		f.log.Restart()
	}
	return nil
}

// commitOpen commits the open transaction without holding f.txMu, which the caller holds.
func (f *File) commitOpen() error {
	f.committing = &overlay{}
	if n := len(f.appended); n > 0 {
		f.committing.number, f.committing.changes = f.appended[n-1].number, f.changes.bytes[:f.appended[n-1].to]
	}
	defer func() { f.committing = nil }()
	f.txMu.Unlock()
	defer f.txMu.Lock() // also if bbolt panics
	return f.tx.Commit()
}

// commitAppended commits what was appended. The caller holds f.writing. Without an error there is no open transaction
// then.
func (f *File) commitAppended() (err error) {
	if !f.pending.Load() {
		return nil
	}
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	f.txMu.Lock()
	defer f.txMu.Unlock()
	if err = f.begin(); err == nil {
		err = f.commit()
	}
	if err != nil {
		f.giveUp()
	}
	return err
}

// writeMark makes a write and commits it, with the mark of the file. The caller holds f.writing.
func (f *File) writeMark(mark markState, fn func(Tx) error) error {
	f.mark = unknownMark
	_, err := f.logWrite(func(tx Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return f.Log.Mark(tx, mark == hasMark)
	}, true)
	if err == nil {
		f.mark = mark
	}
	return err
}

// commitAll commits what was appended, and takes the mark away: the file does not need its log. The caller holds
// f.writing.
func (f *File) commitAll() error {
	if f.Log == nil || f.mark == noMark && !f.pending.Load() {
		return nil
	}
	return f.writeMark(noMark, func(Tx) error { return nil })
}

// isLogReady reports whether a write can be appended to the log. It creates the log if necessary. The caller holds
// f.writing.
func (f *File) isLogReady() bool {
	if f.log != nil || f.mustCommit || time.Now().Before(f.retryLogAt) {
		return f.log != nil && !f.mustCommit
	}
	_ = os.Remove(f.logPath()) // the file already has all writes
	var err error
	if f.log, err = f.createLog(); err != nil {
		f.retryLogAt = time.Now().Add(retryLogAfter)
		return false // without a log each write is committed
	}
	syncFolder(filepath.Dir(f.logPath()))
	return true
}

// createLog creates the log, unless it would take the last space of the disk: the file itself may need that.
func (f *File) createLog() (*redolog.Log, error) {
	spare := f.Log.Spare
	if spare == 0 {
		spare = spareSpace
	}
	if free, ok := freeSpace(f.Path()); ok && free < redolog.Size+spare {
		return nil, ErrNoSpace
	}
	file, err := openOrCreate(f.logPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	log, err := redolog.Create(file, f.Log.Sync)
	if err != nil {
		_ = os.Remove(f.logPath()) // part of it may be there
	}
	return log, err
}

// checkLog reads the look at the path of the log, if there is one. If the log is not there, what was appended is committed, and
// the log is created again. The caller holds f.writing.
func (f *File) checkLog(looks []blocking.Look) error {
	if f.log == nil || len(looks) == 0 || redolog.IsThere(looks[0]) {
		return nil
	}
	return f.closeLog()
}

// closeLog commits what was appended, and closes the log. It removes what is at its path: the file does not need it.
func (f *File) closeLog() error {
	if f.log == nil {
		return nil
	}
	if err := f.commitAll(); err != nil {
		f.mustCommit = true
		return err
	}
	_ = f.log.Close()
	f.log = nil
	_ = os.Remove(f.logPath())
	return nil
}

// recover repeats the writes in the log of a killed process. It is part of the first write after Open, after which the
// file has everything.
func (f *File) recover(tx *bolt.Tx) error {
	s, records, err := readLog(tx, *f.Log, f.Path())
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := applyChanges(tx, r.Content); err != nil {
			return fmt.Errorf("%s: record %d: %w", f.logPath(), r.Number, err)
		}
		s.number = r.Number
	}
	for s.id == 0 {
		var random [8]byte
		rand.Read(random[:]) // never fails
		s.id = binary.BigEndian.Uint64(random[:])
	}
	s.number++
	f.stamp = s
	return f.Log.Mark(Tx{Tx: tx}, false)
}

// readLog reads the stamp of a file, and the records of its log that the file does not have.
func readLog(tx *bolt.Tx, o LogOptions, path string) (stamp, []redolog.Record, error) {
	s := stampIn(tx, o.Bucket)
	records, err := redolog.ReadFile(path+logSuffix, s.id, s.number)
	if !o.IsMarked(tx) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, redolog.ErrCut)) {
		err = nil // the file needs no log, or a process was killed while creating it
	}
	return s, records, explainLog(path, err)
}

// explainLog says what the operator can do about the log of a file.
func explainLog(path string, err error) error {
	log, name := path+logSuffix, filepath.Base(path)
	goOn := fmt.Sprintf("to go on without the last second before the crash, run \"echo %s >%s\"", redolog.Lost, log)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing, and %s lacks what is in it: put it back; %s", log, name, goOn)
	case errors.Is(err, redolog.ErrForeign), errors.Is(err, redolog.ErrGap):
		return fmt.Errorf("%s does not belong to this %s: %w; if you restored %s from a backup, move %s away, otherwise put back the %s that was beside it", log, name, err, name, log, name)
	case errors.Is(err, redolog.ErrDamaged), errors.Is(err, redolog.ErrCut):
		return fmt.Errorf("%s: %w; restore %s from a backup, and move the log away; or, %s", log, err, name, goOn)
	case errors.Is(err, redolog.ErrNotLog):
		return fmt.Errorf("%s: %w; move it away", log, err)
	}
	return err
}

// endLog commits everything in the last write to the file, which no longer needs its log then. The caller holds
// f.writing.
func (f *File) endLog() error {
	err := f.commitAll()
	if err != nil {
		f.txMu.Lock()
		f.giveUp() // the log has it
		f.txMu.Unlock()
	}
	if f.log == nil {
		return err
	}
	looks := f.looks()
	blocking.LookAt(looks)
	if err == nil && (f.untold || redolog.IsThere(looks[1])) {
		_ = os.Remove(f.logPath()) // one that stays has nothing new
	}
	_ = f.log.Close()
	f.log = nil
	return err
}
