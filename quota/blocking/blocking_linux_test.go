package blocking_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"metergate/quota/blocking"
	"metergate/quota/testkit"
)

func createFile(t *testing.T) *os.File {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func createPipe(t *testing.T) (pipe, end *os.File) {
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close(); end.Close() })
	return pipe, end
}

// createBlockingPipe returns a pipe as a program inherits one: its writes block.
func createBlockingPipe(t *testing.T) (pipe, end *os.File) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pipe, end = os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "end of a pipe")
	t.Cleanup(func() { pipe.Close(); end.Close() })
	return pipe, end
}

// Meanwhile garbage is collected: that looks at the stacks of goroutines that wait for the disk.
func TestWriteAndSyncWhileGarbageIsCollected(t *testing.T) {
	file := createFile(t)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for range 20 {
				if err := blocking.WriteAndSync(file, bytes.Repeat([]byte{'a' + byte(i)}, 100), int64(100*i), nil); err != nil {
					t.Error(err)
				}
				runtime.GC()
			}
		})
	}
	callers.Wait()
	b, err := os.ReadFile(file.Name())
	for i := range 8 {
		if want := bytes.Repeat([]byte{'a' + byte(i)}, 100); len(b) != 800 || !bytes.Equal(b[100*i:100*i+100], want) {
			t.Fatalf("the file has %q: %v", b, err)
		}
	}
}

func TestWriteIsWhole(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // four times what a pipe holds
	for name, create := range map[string]func(*testing.T) (*os.File, *os.File){"a pipe that blocks": createBlockingPipe, "a pipe that does not": createPipe} {
		t.Run(name, func(t *testing.T) {
			pipe, end := create(t)
			read := make(chan []byte)
			go func() {
				b, _ := io.ReadAll(pipe)
				read <- b
			}()
			if n, err := blocking.Write(end, text); n != len(text) || err != nil {
				t.Errorf("%d bytes were written: %v", n, err)
			}
			if n, err := blocking.Write(end, nil); n != 0 || err != nil {
				t.Errorf("%d bytes of nothing were written: %v", n, err)
			}
			end.Close()
			if b := <-read; !bytes.Equal(b, text) {
				t.Errorf("%d bytes came, want %d", len(b), len(text))
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		file := createFile(t)
		for _, part := range [][]byte{text[:10], text[10:]} {
			if n, err := blocking.Write(file, part); n != len(part) || err != nil {
				t.Errorf("%d bytes were written: %v", n, err)
			}
		}
		if b, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(b, text) {
			t.Errorf("the file has %d bytes, want %d: %v", len(b), len(text), err)
		}
	})
}

func TestWriteAndSyncWritesAtItsPlace(t *testing.T) {
	file := createFile(t)
	writes := []struct {
		text string
		at   int64
	}{{"0123456789", 0}, {"abc", 4}, {"", 2}, {"end", 10}, {"far away", 5 << 30}}
	for _, w := range writes {
		if err := blocking.WriteAndSync(file, []byte(w.text), w.at, nil); err != nil {
			t.Errorf("%q at %d: %v", w.text, w.at, err)
		}
	}
	for _, w := range []struct {
		text string
		at   int64
	}{{"0123abc789end", 0}, {"\x00far away", 5<<30 - 1}} {
		b := make([]byte, len(w.text))
		if _, err := file.ReadAt(b, w.at); err != nil || string(b) != w.text {
			t.Errorf("%q at %d, want %q: %v", b, w.at, w.text, err)
		}
	}
	if info, err := file.Stat(); err != nil || info.Size() != 5<<30+8 {
		t.Errorf("the file has %d bytes: %v", info.Size(), err)
	}
}

func TestWriteAndSyncHasTheErrorsOfTheSystem(t *testing.T) {
	closed := createFile(t)
	closed.Close()
	_, pipe := createPipe(t)
	reading, err := os.Open(createFile(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	small, err := unix.MemfdCreate("small", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	sealed := os.NewFile(uintptr(small), "small")
	defer sealed.Close()
	if _, err := unix.FcntlInt(uintptr(small), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	unsynced, err := os.OpenFile("/dev/null", os.O_WRONLY, 0) // takes all, and cannot be synced
	if err != nil {
		t.Fatal(err)
	}
	defer unsynced.Close()
	for name, c := range map[string]struct {
		file *os.File
		want error
	}{
		"closed": {closed, os.ErrClosed}, "a pipe": {pipe, syscall.ESPIPE}, "open for reading": {reading, syscall.EBADF},
		"sealed": {sealed, syscall.EPERM}, "written, not synced": {unsynced, syscall.EINVAL},
	} {
		if err := blocking.WriteAndSync(c.file, []byte("text"), 0, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: the error is %v, want %v", name, err, c.want)
		}
	}
}

// Meanwhile garbage is collected: that looks at the stacks of goroutines that wait for the disk.
func TestLookSaysWhatPackageOsDoes(t *testing.T) {
	file, other := createFile(t), createFile(t)
	for _, f := range []*os.File{file, other} {
		if _, err := f.WriteString("four"); err != nil {
			t.Fatal(err)
		}
	}
	known, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	link, moved, inFile := filepath.Join(folder, "link"), filepath.Join(folder, "moved"), filepath.Join(file.Name(), "x")
	if err := errors.Join(os.Symlink(file.Name(), link), os.Link(file.Name(), moved)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		is   bool
		size int64
		err  error
	}{
		"its path": {file.Name(), true, 4, nil}, "a link": {link, true, 4, nil}, "another name": {moved, true, 4, nil},
		"another file": {other.Name(), false, 4, nil}, "none": {file.Name() + "x", false, 0, os.ErrNotExist},
		"no folder": {inFile, false, 0, syscall.ENOTDIR}, "no path": {"a\x00b", false, 0, syscall.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			var callers sync.WaitGroup
			for range 4 {
				callers.Go(func() {
					for range 10 {
						looks := []blocking.Look{{Path: c.path, File: known}, {Path: c.path, File: known}}
						blocking.LookAt(looks[:1])
						if err := blocking.WriteAndSync(other, []byte("text"), 0, looks[1:]); err != nil {
							t.Error(err)
						}
						for _, l := range looks {
							if l.Leads != c.is || l.Size != c.size || !errors.Is(l.Err, c.err) || (l.Err == nil) != (c.err == nil) {
								t.Errorf("%t, %d bytes, %v, want %t, %d and %v", l.Leads, l.Size, l.Err, c.is, c.size, c.err)
							}
						}
						runtime.GC()
					}
				})
			}
			callers.Wait()
		})
	}
	if err := file.Truncate(1); err != nil {
		t.Fatal(err)
	}
	looks := []blocking.Look{{Path: file.Name(), File: known}}
	if blocking.LookAt(looks); !looks[0].Leads || looks[0].Size != 1 {
		t.Errorf("after a cut: %+v", looks[0])
	}
	if err := os.Rename(other.Name(), file.Name()); err != nil {
		t.Fatal(err)
	}
	looks = []blocking.Look{{Path: file.Name(), File: known}}
	if blocking.LookAt(looks); looks[0].Leads || looks[0].Size != 4 || looks[0].Err != nil {
		t.Errorf("after another file took its place: %+v", looks[0])
	}
}

func TestWriteHasTheErrorsOfTheFile(t *testing.T) {
	closed := createFile(t)
	closed.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	pipe, broken := createBlockingPipe(t)
	pipe.Close()
	for name, c := range map[string]struct {
		file *os.File
		want error
	}{"closed": {closed, os.ErrClosed}, "no space": {full, syscall.ENOSPC}, "nobody reads": {broken, syscall.EPIPE}} {
		n, err := blocking.Write(c.file, []byte("text"))
		if n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes were written, and the error is %v, want %v", name, n, err, c.want)
		}
	}
}

// A collection of garbage has to stop every goroutine. It would wait for one that is in a system call of which the scheduler
// does not know.
func TestNobodyWaitsForAWriteThatBlocks(t *testing.T) {
	pipe, end := createBlockingPipe(t)
	size := 1 << 20
	done := make(chan error)
	go func() {
		_, err := blocking.Write(end, make([]byte, size))
		done <- err
	}()
	one := make([]byte, 1)
	if _, err := io.ReadFull(pipe, one); err != nil { // now the write has begun
		t.Fatal(err)
	}
	for range 3 {
		runtime.GC()
	}
	select {
	case err := <-done:
		t.Fatalf("the write did not block: %v", err)
	default:
	}
	if _, err := io.CopyN(io.Discard, pipe, int64(size-1)); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, "the end of the write", done); err != nil {
		t.Error(err)
	}
}
