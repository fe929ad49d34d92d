package main

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleFor is how long the folder must be left alone after a change: an editor
	// truncates, writes, renames. In a folder that is never quiet settleMost is enough.
	settleFor  = 100 * time.Millisecond
	settleMost = time.Second
	// pollEvery finds what the system did not tell: file systems on a network, a
	// folder that was replaced.
	pollEvery = 30 * time.Second
)

// watchFiles calls changed when the content of the files is another one than at the
// last attempt to load them, until stop is closed. files says each time which they
// are, and the hash of what they held then. It watches their folders:
// a watch on a file ends with the first rename over it, and Kubernetes swaps a link
// beside it.
func watchFiles(files func() (names []string, hash string), changed func(), log *slog.Logger, stop <-chan struct{}) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("changes of the configuration are seen only every 30 s", "error", err)
		watcher = &fsnotify.Watcher{} // its channels are nil and say nothing
	} else {
		defer watcher.Close()
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var since time.Time // when what is being waited for began; zero: nothing is
	for {
		if err == nil {
			names, _ := files()
			for _, name := range names {
				watcher.Add(filepath.Dir(name)) // again: the folder may be another one; an error leaves the poll
			}
		}
		select {
		case <-stop:
			return
		case <-watcher.Events:
		case <-watcher.Errors: // an overflow: something has happened
		case <-quiet.C:
			since = time.Time{}
			if names, hash := files(); hashFiles(names) != hash {
				changed()
			}
			continue
		case <-poll.C:
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < settleMost {
			quiet.Reset(settleFor)
		}
	}
}
