package billing

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A Progress shows on a terminal how far a run is, in one line that it writes again and again.
type Progress struct {
	w        io.Writer
	terminal bool

	mu          sync.Mutex
	done, total int64 // accounts that were looked at, of how many
	events      int64
	shown       time.Time
}

// NewProgress returns a Progress that is shown on w, if that is a terminal.
func NewProgress(w io.Writer) *Progress { return &Progress{w: w, terminal: isTerminal(w)} }

// isTerminal reports whether w is a terminal, or at least shows lines as they are written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Looked says how many accounts the gateway has looked at, of how many. It says so now and then: Sent tells what
// was read since.
func (p *Progress) Looked(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total = max(p.done, done), total
	p.show()
}

// Sent says what was sent.
func (p *Progress) Sent(r Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events, p.done = r.Events, max(p.done, r.Users)
	p.show()
}

func (p *Progress) show() {
	if !p.terminal || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown = time.Now()
	of := ""
	if p.total > 0 {
		of = fmt.Sprintf(" of about %d", max(p.total, p.done))
	}
	fmt.Fprintf(p.w, "\r\x1b[K%d%s users looked at, %d events sent", p.done, of, p.events)
}

// Clear removes the line.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = time.Time{}
	}
}
