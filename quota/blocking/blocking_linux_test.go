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
func TestSyncReturnsWhatTheSystemSays(t *testing.T) {
	file := createFile(t)
	_, end := createPipe(t)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 20 {
				if err := blocking.Sync(file); err != nil {
					t.Errorf("a file: %v", err)
				}
				if err := blocking.Sync(end); !errors.Is(err, syscall.EINVAL) {
					t.Errorf("a pipe, which cannot be synced: %v", err)
				}
				runtime.GC()
			}
		})
	}
	callers.Wait()
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
