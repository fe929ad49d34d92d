package main

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleFor is how long files must be left alone after a change: an editor
	// truncates, writes, renames.
	settleFor = 100 * time.Millisecond
	// pollEvery finds what the system did not tell: file systems on a network, a
	// folder that was replaced.
	pollEvery = 30 * time.Second
)

// watchFiles calls changed when the content of a file is another one than hash says,
// until stop is closed. files names them anew each time. It watches their folders:
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
	seen := "" // the content that changed was called for
	for {
		names, hash := files()
		if err == nil {
			for _, name := range names {
				watcher.Add(filepath.Dir(name)) // again: the folder may be another one; an error leaves the poll
			}
		}
		select {
		case <-stop:
			return
		case <-watcher.Events:
			quiet.Reset(settleFor)
			continue
		case <-watcher.Errors: // an overflow: something has happened
			quiet.Reset(settleFor)
			continue
		case <-quiet.C:
		case <-poll.C:
		}
		if now := hashFiles(names); now != hash && now != seen {
			seen = now
			changed()
		}
	}
}
