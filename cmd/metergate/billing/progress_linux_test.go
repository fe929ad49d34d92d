package billing

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// openTerminal returns the two ends of a pseudo terminal: what is written to the second can be read from the
// first.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	var number, unlock int32
	for request, argument := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
			t.Fatal(errno)
		}
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// On a terminal, a line shows how far the run is, and is removed in the end.
func TestProgressOnTerminal(t *testing.T) {
	screen, terminal := openTerminal(t)
	p := NewProgress(terminal)
	p.Looked(3, 1200)
	p.Clear()
	p.Sent(Report{Events: 8, Users: 5})
	p.Clear()
	p.Clear()
	fmt.Fprint(terminal, "sent all")
	got := ""
	for buf := make([]byte, 1000); !strings.Contains(got, "sent all"); {
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got += string(buf[:n])
	}
	want := "\r\x1b[K3 of about 1200 users looked at, 0 events sent\r\x1b[K\r\x1b[K5 of about 1200 users looked at, 8 events sent\r\x1b[Ksent all"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Elsewhere, nothing is shown.
func TestProgressElsewhere(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := NewProgress(file)
	p.Looked(3, 1200)
	p.Clear()
	if text, err := os.ReadFile(file.Name()); err != nil || len(text) > 0 {
		t.Errorf("error %v: %q", err, text)
	}
	var out strings.Builder
	NewProgress(&out).Looked(3, 1200)
	if out.Len() > 0 {
		t.Error(out.String())
	}
}
