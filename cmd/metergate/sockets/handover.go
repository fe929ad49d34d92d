package sockets

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A process hands its sockets over to its successor, which it starts itself: the same program as it is on
// disk now, with the same arguments. Both then have the same sockets of the kernel, so a client that
// connects is served by one of them, or waits in the socket's queue until one accepts it.
//
// They talk in lines. The successor says one of
//
//	prepared   it will serve once it has the store, which the first process must close
//	ready      it serves
//
// and the first process answers "prepared" with "go". A process that dies closes its end of the pipes.

// handoverVariable tells a successor what it is given.
const handoverVariable = "METERGATE_HANDOVER"

// A handover is the value of handoverVariable, as JSON.
type handover struct {
	Sockets map[string]givenSocket `json:"sockets"` // by setting
	Say     int                    `json:"say"`     // the pipe to the first process
	Hear    int                    `json:"hear"`    // the pipe from it
	PID     int                    `json:"pid"`     // of the first process
	Given   Given                  `json:"given"`
}

// Given is what a successor has to know of the process before.
type Given struct {
	// StoreFolder is the folder of the embedded store that the process has open; empty: it has none.
	StoreFolder string `json:"store_folder,omitempty"`
	// JournalNotes are the notes of its journal.
	JournalNotes map[string][]byte `json:"journal_notes,omitempty"`
}

// A givenSocket is one that the process has from the one before, or keeps for one that will follow.
type givenSocket struct {
	Address string `json:"address"` // by the configuration
	FD      int    `json:"fd"`
	file    *os.File
}

// The words of a successor.
const (
	Prepared = "prepared"
	Ready    = "ready"
)

// A Successor is a process that takes over from this one.
type Successor struct {
	PID   int
	words chan string
	tell  *os.File
	cmd   *exec.Cmd
	ended chan struct{}
}

// KeepOpen keeps what is listened on when the listeners are closed: for a successor, or to be opened again.
// Release ends that.
func (s *Set) KeepOpen() error {
	for setting, socket := range s.open {
		file, err := duplicate(socket.Listener, setting)
		if err != nil {
			s.Release()
			return fmt.Errorf("%s: %w", setting, err)
		}
		s.given[setting] = givenSocket{Address: socket.address, file: file}
	}
	return nil
}

// KeepFiles leaves the files of Unix sockets where they are when the listeners are closed: they belong to a
// successor now.
func (s *Set) KeepFiles() {
	for _, socket := range s.open {
		socket.kept.Store(true)
	}
}

// Release closes what KeepOpen has kept, and what the process before has given and nobody has opened.
func (s *Set) Release() {
	for setting, g := range s.given {
		g.file.Close()
		delete(s.given, setting)
	}
}

// StartSuccessor starts a program with the sockets that KeepOpen has kept.
func (s *Set) StartSuccessor(program string, args []string, given Given) (*Successor, error) {
	hears, say, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer say.Close()
	hear, tells, err := os.Pipe()
	if err != nil {
		hears.Close()
		return nil, err
	}
	defer hear.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	add := func(f *os.File) int {
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		return firstPassed + len(cmd.ExtraFiles) - 1
	}
	h := handover{Sockets: map[string]givenSocket{}, Say: add(say), Hear: add(hear), PID: os.Getpid(), Given: given}
	for setting, g := range s.given {
		h.Sockets[setting] = givenSocket{Address: g.Address, FD: add(g.file)}
	}
	text, err := json.Marshal(h)
	if err == nil {
		cmd.Env = append(os.Environ(), handoverVariable+"="+string(text))
		err = cmd.Start()
	}
	if err != nil {
		hears.Close()
		tells.Close()
		return nil, err
	}
	n := &Successor{PID: cmd.Process.Pid, words: make(chan string, 2), tell: tells, cmd: cmd, ended: make(chan struct{})}
	go func() {
		for lines := bufio.NewScanner(hears); lines.Scan(); {
			n.words <- lines.Text()
		}
		hears.Close()
		close(n.words)
	}()
	go func() {
		cmd.Wait()
		close(n.ended)
	}()
	return n, nil
}

// Words has what the successor says. It is closed when the successor has ended.
func (n *Successor) Words() <-chan string { return n.words }

// Go tells the successor that the store is closed.
func (n *Successor) Go() { n.tell.Write([]byte("go\n")) } // if it has ended, Words tells

// Kill ends the successor, and returns when it has ended.
func (n *Successor) Kill() {
	n.cmd.Process.Kill()
	n.Wait()
}

// Wait waits for the end of the successor and says how it was.
func (n *Successor) Wait() string {
	<-n.ended
	n.tell.Close()
	return n.cmd.ProcessState.String()
}

// Leave lets the successor go on alone.
func (n *Successor) Leave() { n.tell.Close() }

// A Predecessor is the process that this one takes over from.
type Predecessor struct {
	Given
	PID       int
	say, hear *os.File
}

// Runs reports whether the process has not ended: it is then the parent of this one.
func (p *Predecessor) Runs() bool { return os.Getppid() == p.PID }

// readHandover takes what the process before has given.
func (s *Set) readHandover() {
	text := os.Getenv(handoverVariable)
	os.Unsetenv(handoverVariable)
	var h handover
	if text == "" || json.Unmarshal([]byte(text), &h) != nil {
		return
	}
	file := func(fd int, name string) *os.File {
		closeOnExec(uintptr(fd))
		return os.NewFile(uintptr(fd), name)
	}
	for setting, g := range h.Sockets {
		setNonblock(uintptr(g.FD)) // the process before still accepts connections on it
		g.file = file(g.FD, setting)
		s.given[setting] = g
	}
	s.before = &Predecessor{h.Given, h.PID, file(h.Say, "pipe"), file(h.Hear, "pipe")}
}

// Predecessor is the process before, or nil.
func (s *Set) Predecessor() *Predecessor { return s.before }

// Uses reports whether the process before has the embedded store in a folder open.
func (p *Predecessor) Uses(folder string) bool {
	if p.StoreFolder == "" {
		return false
	}
	a, errA := os.Stat(p.StoreFolder)
	b, errB := os.Stat(folder)
	if errA == nil && errB == nil {
		return os.SameFile(a, b)
	}
	return filepath.Clean(p.StoreFolder) == filepath.Clean(folder)
}

// AwaitStore says that this process is prepared, and returns when the one before has closed the store, or
// has died.
func (p *Predecessor) AwaitStore() {
	p.tell(Prepared)
	bufio.NewReader(p.hear).ReadString('\n')
}

// Ready says that this process serves.
func (p *Predecessor) Ready() {
	p.tell(Ready)
	p.say.Close()
	p.hear.Close()
}

// tell says a word. If the process before has died, there is nobody to hear it.
func (p *Predecessor) tell(word string) { p.say.Write([]byte(word + "\n")) }

// fromGiven opens a socket that the process before has given, or that KeepOpen has kept, if it is for the
// same address.
func (s *Set) fromGiven(setting, address string) (net.Listener, error) {
	g, ok := s.given[setting]
	if !ok || g.Address != address {
		return nil, errNotGiven
	}
	delete(s.given, setting)
	defer g.file.Close() // the listener has its own descriptor
	return listenerOf(g.file)
}

var errNotGiven = errors.New("there is no such socket")

// Program is the path by which this process was started. It does not follow links, so that a link that
// leads to another version by now counts.
func Program() (string, error) {
	path := os.Args[0]
	if !strings.ContainsRune(path, os.PathSeparator) {
		var err error
		if path, err = exec.LookPath(path); err != nil {
			return "", err
		}
	}
	return filepath.Abs(path)
}

// SuccessorTimeout is how long a successor may take until it says that it is prepared or ready, and from
// "go" until it is ready.
const SuccessorTimeout = time.Minute
