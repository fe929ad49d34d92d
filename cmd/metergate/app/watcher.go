package app

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quietPeriod is how long a folder must be left alone after a change before the files
	// are read: an editor truncates, writes and renames. In a folder that is never quiet,
	// they are read after maxQuietWait.
	quietPeriod  = 100 * time.Millisecond
	maxQuietWait = time.Second
	// pollInterval is for what the system does not report: file systems on a network, a file
	// that is mounted or linked from another folder, a folder that was replaced or that may be
	// passed through but not read.
	pollInterval = 2 * time.Second
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
	var firstEvent time.Time // since the files were last read; zero: none
	for {
		if err == nil {
			names, _ := files()
			for _, name := range names {
				// Each time, for the folder may have been replaced. Where this fails, the poll
				// remains.
				watcher.Add(filepath.Dir(name))
			}
		}
		select {
		case <-w.ended:
			return
		case <-watcher.Events:
		case <-watcher.Errors: // an overflow: events were lost
		case <-quiet.C:
			firstEvent = time.Time{}
			if names, hash := files(); hashFiles(names) != hash {
				changed()
			}
			continue
		case <-poll.C:
		}
		if firstEvent.IsZero() {
			firstEvent = time.Now()
		}
		if time.Since(firstEvent) < maxQuietWait {
			quiet.Reset(quietPeriod)
		}
	}
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
