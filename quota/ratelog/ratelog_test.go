package ratelog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A buffer has what was logged.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// takeLines returns the lines since the last call.
func (b *buffer) takeLines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(b.text.String()), "\n")
	b.text.Reset()
	return lines
}

// newLog returns a log without times.
func newLog() (*slog.Logger, *buffer) {
	b := new(buffer)
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})), b
}

const every = time.Second

func TestLineIsLoggedOnceASecondWithACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, written := newLog()
		line := New(log, slog.LevelError, "no room")
		want := func(when string, lines ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(lines, written.takeLines()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		line.Log("n", 1)
		want("the first", `level=ERROR msg="no room" n=1`)
		for n := range 999 {
			line.Log("n", n+2)
		}
		time.Sleep(every - time.Millisecond)
		want("within the second", "")
		time.Sleep(time.Millisecond)
		want("after the second", `level=ERROR msg="no room" n=1000 count=999`)
		line.Log("n", 1001)
		time.Sleep(every)
		want("the second after that", `level=ERROR msg="no room" n=1001 count=1`)
		time.Sleep(every)
		want("a second without any", "")
		line.Log("n", 1002)
		want("the next", `level=ERROR msg="no room" n=1002`)
		time.Sleep(every)
		want("nothing is left", "")
	})
}

// TestLineCountsEveryEvent adds the counts of all lines up.
func TestLineCountsEveryEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, written := newLog()
		line := New(log, slog.LevelWarn, "fault")
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				for range 100 {
					line.Log()
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		wait.Wait()
		time.Sleep(2 * every)
		total, lines := 0, written.takeLines()
		for _, text := range lines {
			n := 1
			if _, count, ok := strings.Cut(text, "count="); ok {
				fmt.Sscan(count, &n)
			}
			total += n
		}
		if total != 5000 || len(lines) > 8 {
			t.Errorf("%d lines that stand for %d events, want at most 8 for 5000", len(lines), total)
		}
	})
}
