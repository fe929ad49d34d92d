package app

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quietPeriod is how long a folder must be left alone after a change before the files
	// are read: an editor truncates, writes and renames. In a folder that is never quiet,
	// they are read after maxQuietWait: a key must be revoked within a second of the save.
	quietPeriod  = 100 * time.Millisecond
	maxQuietWait = 500 * time.Millisecond
	// pollInterval is for what the system does not report: file systems on a network, a file
	// that is mounted or linked from another folder, a folder that was replaced or that may be
	// passed through but not read.
	pollInterval = 2 * time.Second
	// hashEvery polls the files are hashed although they look the same: every 30 s.
	hashEvery = 15
)

// A fileWatcher notices when the content of files changes. It watches their folders: a
// watch on a file ends with the first rename over it, and Kubernetes swaps a link beside
// the file. The zero value is ready to start, once.
type fileWatcher struct {
	ended   chan struct{}
	endOnce sync.Once
	running sync.WaitGroup
}

// start calls changed whenever the content of the files differs from what it was at the
// last attempt to load them. files returns which files these are, and the hash of what
// they held then.
func (w *fileWatcher) start(files func() (names []string, hash string), changed func(), log *slog.Logger) {
	w.ended = make(chan struct{})
	w.running.Go(func() { w.loop(files, changed, log) })
}

// end ends the watch. It does not wait for a call of changed that is running.
func (w *fileWatcher) end() {
	w.endOnce.Do(func() {
		if w.ended != nil {
			close(w.ended)
		}
	})
}

// wait ends the watch and waits until changed has returned.
func (w *fileWatcher) wait() {
	w.end()
	w.running.Wait()
}

func (w *fileWatcher) loop(files func() (names []string, hash string), changed func(), log *slog.Logger) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("changes of the configuration are noticed up to 2 s late", "error", err)
		watcher = &fsnotify.Watcher{} // its channels are nil and never deliver
	} else {
		defer watcher.Close()
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var (
		firstEvent time.Time // since the files were last read; zero: none
		thorough   bool      // hash the files although they may look the same
		polls      int
		verified   snapshot
	)
	for {
		names, hash := files()
		if err == nil {
			for _, name := range names {
				// Each time, for the folder may have been replaced. Where this fails, the poll
				// remains.
				watcher.Add(filepath.Dir(name))
			}
		}
		select {
		case <-w.ended:
			return
		case event := <-watcher.Events:
			// Other files of the folder, such as a log, may be written to all the time.
			thorough = thorough || slices.ContainsFunc(names, func(name string) bool { return filepath.Clean(name) == filepath.Clean(event.Name) })
		case <-watcher.Errors: // an overflow: events were lost
			thorough = true
		case <-quiet.C:
			names, hash = files()
			if verified.differs(names, hash, thorough) {
				changed()
			}
			firstEvent, thorough = time.Time{}, false
			continue
		case <-poll.C:
			polls++
			thorough = thorough || polls%hashEvery == 0
		}
		if firstEvent.IsZero() {
			firstEvent = time.Now()
		}
		if left := maxQuietWait - time.Since(firstEvent); left > 0 {
			quiet.Reset(min(quietPeriod, left))
		}
	}
}

// A snapshot is how files looked when they had a hash. To hash a large file of API keys at each poll
// would take several per cent of a core. The zero value is of no files.
type snapshot struct {
	hash  string
	files []fileState
}

// A fileState is how a file looked.
type fileState struct {
	name string
	info os.FileInfo // nil: it could not be looked at
	at   time.Time   // when it was looked at
}

// differs reports whether files do not have a hash. It does not read files that look as they did when
// they had it, unless thorough is true.
func (s *snapshot) differs(names []string, hash string, thorough bool) bool {
	states := make([]fileState, len(names)) // from before they are read
	for i, name := range names {
		states[i] = fileState{name: name, at: time.Now()}
		states[i].info, _ = os.Stat(name)
	}
	if !thorough && hash == s.hash && slices.EqualFunc(s.files, states, fileState.looksAs) {
		return false
	}
	*s = snapshot{}
	if hashFiles(names) != hash {
		return true
	}
	*s = snapshot{hash, states}
	return false
}

// coarsestTime is how long a file may be written to without another time of its last change: FAT
// counts in steps of two seconds.
const coarsestTime = 2 * time.Second

// looksAs reports whether a file still looks as before. A file that had only just been written to does
// not, because a later write may have left the same time.
func (before fileState) looksAs(now fileState) bool {
	a, b := before.info, now.info
	return before.name == now.name && a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) &&
		before.at.Sub(a.ModTime()) > coarsestTime
}

// hashFiles returns the SHA-256 of the files' names and contents. If a file cannot be read,
// the reason takes the place of its content.
func hashFiles(files []string) string {
	h := sha256.New()
	for _, name := range files {
		if err := hashFile(h, name); err != nil {
			fmt.Fprintf(h, "%q: %v\n", name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashFile writes the name and the content of a file to w. It does not hold the content in memory:
// a file of API keys may be large.
func hashFile(w io.Writer, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%q %d\n", name, info.Size())
	_, err = io.Copy(w, file)
	return err
}
