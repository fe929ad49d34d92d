package jsonlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// A heldWriter takes a write only when it is told to, and keeps what was written.
type heldWriter struct {
	t    *testing.T
	busy sync.Mutex
	next chan error // what the next write returns
	done []string   // each write
}

func (w *heldWriter) Write(p []byte) (int, error) {
	if !w.busy.TryLock() {
		w.t.Error("two writes at once")
		return 0, nil
	}
	defer w.busy.Unlock()
	err := <-w.next
	if err != nil {
		return 0, err
	}
	w.done = append(w.done, string(p))
	return len(p), nil
}

func (w *heldWriter) let(n int) {
	for range n {
		w.next <- nil
		synctest.Wait()
	}
}

func heldLog(t *testing.T) (*slog.Logger, *heldWriter) {
	w := &heldWriter{t: t, next: make(chan error)}
	return slog.New(New(w, slog.LevelInfo)), w
}

// messages are those of the lines of some writes.
func messages(t *testing.T, writes []string) (m []string) {
	for _, write := range writes {
		if !strings.HasSuffix(write, "}\n") {
			t.Errorf("a write does not end with a line: %q", write)
		}
		for line := range strings.Lines(write) {
			_, after, _ := strings.Cut(line, `"msg":"`)
			message, _, _ := strings.Cut(after, `"`)
			m = append(m, message)
		}
	}
	return m
}

func TestLinesThatComeTogetherAreOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		Log(log, slog.LevelInfo, "1", nil)
		synctest.Wait() // it is being written
		for _, message := range []string{"2", "3", "4"} {
			Log(log, slog.LevelInfo, message, nil)
		}
		w.let(2)
		if got := messages(t, w.done); len(w.done) != 2 || fmt.Sprint(got) != "[1 2 3 4]" {
			t.Errorf("%d writes of the lines %v, want 2 of 1 to 4", len(w.done), got)
		}
		Log(log, slog.LevelInfo, "5", nil)
		w.let(1)
		if got := messages(t, w.done); fmt.Sprint(got) != "[1 2 3 4 5]" {
			t.Errorf("the lines are %v: a line after a pause is missing", got)
		}
	})
}

func TestOtherLinesAreWrittenAfterThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		returned := false
		Log(log, slog.LevelInfo, "1", nil)
		synctest.Wait()
		Log(log, slog.LevelInfo, "2", nil)
		go func() {
			log.With("gateway", 1).Info("3")
			returned = true
		}()
		synctest.Wait()
		if returned {
			t.Error("a line that is not of a request was not waited for")
		}
		for !returned {
			w.let(1)
		}
		if got := messages(t, w.done); fmt.Sprint(got) != "[1 2 3]" {
			t.Errorf("the lines are %v, want 1 to 3", got)
		}
	})
}

func TestFlushWaitsForAllLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		flushed := false
		for i := range 20 {
			Log(log, slog.LevelInfo, fmt.Sprint(i), nil)
		}
		go func() {
			Flush(log)
			flushed = true
		}()
		synctest.Wait()
		if flushed {
			t.Error("Flush has not waited")
		}
		for !flushed {
			w.let(1)
		}
		if got := messages(t, w.done); len(got) != 20 {
			t.Errorf("%d of 20 lines were written", len(got))
		}
	})
}

// What two processes write to one pipe is mixed if a write has more than 4096 bytes.
func TestWritesOfSeveralLinesAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		Log(log, slog.LevelInfo, "first", nil)
		synctest.Wait()
		long := strings.Repeat("x", maxWrite)
		for i := range 100 {
			Log(log, slog.LevelInfo, fmt.Sprintf("%d %s", i, long[:i*9]), nil)
			if i == 50 {
				Log(log, slog.LevelInfo, long, nil)
			}
		}
		close(w.next)
		synctest.Wait()
		got := messages(t, w.done)
		if len(got) != 102 || got[52] != long {
			t.Errorf("%d lines were written, want 102, with the long one after half of them", len(got))
		}
		for _, write := range w.done {
			if len(write) > maxWrite && strings.Count(write, "\n") > 1 {
				t.Errorf("a write of several lines has %d bytes", len(write))
			}
		}
		if len(w.done) > 40 {
			t.Errorf("there were %d writes of 102 lines", len(w.done))
		}
	})
}

// A log that nobody reads slows down the requests. It does not fill the memory, and loses nothing.
func TestLinesThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		const requests = 500
		text, ended := strings.Repeat("x", 1000), 0
		var mu sync.Mutex
		Log(log, slog.LevelInfo, "first", nil)
		synctest.Wait() // it is being written
		for range requests {
			go func() {
				Log(log, slog.LevelInfo, text, nil)
				mu.Lock()
				ended++
				mu.Unlock()
			}()
		}
		synctest.Wait()
		if bytes := ended * len(text); bytes > maxPending || bytes < maxPending/2 {
			t.Errorf("%d requests have gone on, with %d bytes; %d may wait", ended, bytes, maxPending)
		}
		close(w.next)
		synctest.Wait()
		if got := messages(t, w.done); ended != requests || len(got) != requests+1 {
			t.Errorf("%d of %d requests have gone on, and %d lines were written, the first among them", ended, requests, len(got))
		}
	})
}

// Otherwise those that wait would be overtaken again and again, and a few would wait for seconds.
func TestNoLineOvertakesOneThatWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		Log(log, slog.LevelInfo, "first", nil)
		synctest.Wait() // it is being written
		full := strings.Repeat("x", maxPending-100)
		Log(log, slog.LevelInfo, full, nil)
		synctest.Wait()
		go Log(log, slog.LevelInfo, "waits", nil)
		synctest.Wait()
		w.let(1) // now all that was pending is being written
		go Log(log, slog.LevelInfo, "later", nil)
		synctest.Wait()
		close(w.next)
		synctest.Wait()
		if got := messages(t, w.done); len(got) != 4 || fmt.Sprint(got[2:]) != "[waits later]" {
			t.Errorf("%d lines were written, the last ones are %.100q, want waits and later", len(got), got[2:])
		}
		Log(log, slog.LevelInfo, "soon", nil) // and does not wait any more
		synctest.Wait()
		if got := messages(t, w.done); got[len(got)-1] != "soon" {
			t.Error("a line after that is not written")
		}
	})
}

func TestLinesAfterAFailedWriteAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, w := heldLog(t)
		Log(log, slog.LevelInfo, "1", nil)
		synctest.Wait()
		Log(log, slog.LevelInfo, "2 "+strings.Repeat("x", maxWrite), nil)
		Log(log, slog.LevelInfo, "3", nil)
		w.let(1)
		w.next <- errors.New("no space left on device")
		w.let(1)
		if got := messages(t, w.done); fmt.Sprint(got) != "[1 3]" {
			t.Errorf("the lines are %v, want 1 and 3", got)
		}
	})
}

func TestLinesOfManyAreWholeAndInOrder(t *testing.T) {
	var all bytes.Buffer // only one writes at a time, or the race detector says so
	log := slog.New(New(&all, slog.LevelInfo))
	const writers, each = 4, 500
	var running sync.WaitGroup
	for writer := range writers {
		running.Go(func() {
			for i := range each {
				if i%3 == 0 {
					log.Info(fmt.Sprintf("%d %d", writer, i))
				} else {
					Log(log, slog.LevelInfo, fmt.Sprintf("%d %d", writer, i), nil)
				}
			}
		})
	}
	running.Wait()
	Flush(log)
	next := make([]int, writers)
	for _, message := range messages(t, []string{all.String()}) {
		var writer, i int
		if _, err := fmt.Sscanf(message, "%d %d", &writer, &i); err != nil || i != next[writer] {
			t.Fatalf("the line %q is not whole, or not in its place", message)
		}
		next[writer]++
	}
	for writer, n := range next {
		if n != each {
			t.Errorf("writer %d has %d of %d lines", writer, n, each)
		}
	}
}
