// Package blocking makes system calls that wait for a disk or a reader, and tells Go's scheduler so at once.
//
// Of any other system call, the scheduler's monitor thread (sysmon) finds out after some 20 µs that it blocks. Then it hands the
// processor to another thread. For that it wakes every 20 µs, and it wakes more rarely only if it has had
// nothing to do for a while. With many such calls it takes a tenth of the processor time.
// docs/performance-notes.md says what is saved.
//
// On other systems than Linux, the calls are those of package os.
package blocking
