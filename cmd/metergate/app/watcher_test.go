package app

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"metergate/quota/testkit"
)

func writeFile(t *testing.T, name, text string, changed time.Time) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, changed, changed); err != nil {
		t.Fatal(err)
	}
}

// A file is hashed if it looks another one, and otherwise only when the look is to be thorough.
func TestSnapshotHashesFilesThatLookDifferent(t *testing.T) {
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name, c := range map[string]struct {
		before   time.Time
		change   func(t *testing.T, name string)
		thorough bool
		want     bool
	}{
		"nothing":                 {long, func(*testing.T, string) {}, false, false},
		"nothing, looked at well": {long, func(*testing.T, string) {}, true, false},
		"only the time":           {long, func(t *testing.T, name string) { writeFile(t, name, "one", time.Now()) }, false, false},
		"the time":                {long, func(t *testing.T, name string) { writeFile(t, name, "two", time.Now()) }, false, true},
		"the size":                {long, func(t *testing.T, name string) { writeFile(t, name, "three", long) }, false, true},
		"neither":                 {long, func(t *testing.T, name string) { writeFile(t, name, "two", long) }, false, false}, // not read
		"neither, looked at well": {long, func(t *testing.T, name string) { writeFile(t, name, "two", long) }, true, true},
		// On a busy machine the look may come late.
		"neither, just written to": {time.Now().Add(time.Minute), func(t *testing.T, name string) {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, name, "two", info.ModTime())
		}, false, true},
		"the file": {long, func(t *testing.T, name string) {
			writeFile(t, name+".new", "two", long)
			if err := os.Rename(name+".new", name); err != nil {
				t.Fatal(err)
			}
		}, false, true},
		"removed": {long, func(t *testing.T, name string) { os.Remove(name) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys.yaml")
			names := []string{file}
			writeFile(t, file, "one", c.before)
			hash := hashFiles(names)
			var s snapshot
			if s.differs(names, hash, false) {
				t.Fatal("differs from the start")
			}
			c.change(t, file)
			if got := s.differs(names, hash, c.thorough); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if c.want && !s.differs(names, hash, false) {
				t.Error("the difference is forgotten")
			}
		})
	}
}

// watched starts a watcher on a file and returns when each change was noticed.
func watched(t *testing.T, name string) <-chan time.Time {
	t.Helper()
	noticed := make(chan time.Time, 100)
	hash := hashFiles([]string{name})
	looked := make(chan struct{}, 1)
	var w fileWatcher
	w.start(func() ([]string, string) {
		select {
		case looked <- struct{}{}:
		default:
		}
		return []string{name}, hash
	}, func() {
		hash = hashFiles([]string{name}) // on the goroutine that asks for it
		noticed <- time.Now()
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(w.wait)
	<-looked
	time.Sleep(300 * time.Millisecond) // the watch has begun, and the first look is over
	return noticed
}

// wantNoticedWithin makes changes until one is noticed within a time. Where the machine is busy the first may
// take longer; where the watcher is wrong each does.
func wantNoticedWithin(t *testing.T, bound time.Duration, noticed <-chan time.Time, change func(text string)) {
	t.Helper()
	var took time.Duration
	for i := range 10 {
		saved := time.Now()
		change(fmt.Sprint("n", i, "x")) // as long as "one"
		for took = -1; took < 0; {      // before that, one before may have been noticed once more
			took = testkit.Receive(t, "the change is noticed", noticed).Sub(saved)
		}
		if took <= bound {
			return
		}
	}
	t.Errorf("the tenth change was noticed after %v, want %v at most", took, bound)
}

// A log in the same folder, which is written to all the time, does not hide a change for long.
func TestWatcherNoticesAChangeInABusyFolder(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "keys.yaml")
	writeFile(t, name, "one", time.Now().Add(-time.Hour))
	noticed := watched(t, name)
	stop := make(chan struct{})
	var logging sync.WaitGroup
	defer logging.Wait()
	defer close(stop)
	logging.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				os.WriteFile(filepath.Join(dir, "access.log"), []byte(time.Now().String()), 0o600)
			}
		}
	})
	wantNoticedWithin(t, 850*time.Millisecond, noticed, func(text string) { writeFile(t, name, text, time.Now()) })
}

// A change is noticed at once however it is made, also if the file looks as before.
func TestWatcherNoticesEachWayToChangeAFile(t *testing.T) {
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	for way, change := range map[string]func(t *testing.T, dir, text string){
		"written, with the same time": func(t *testing.T, dir, text string) { writeFile(t, filepath.Join(dir, "v1", "keys.yaml"), text, long) },
		"a ConfigMap": func(t *testing.T, dir, text string) {
			os.Mkdir(filepath.Join(dir, text), 0o700)
			writeFile(t, filepath.Join(dir, text, "keys.yaml"), text, long)
			if err := os.Symlink(text, filepath.Join(dir, "..data_tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(way, func(t *testing.T) {
			dir := t.TempDir()
			os.Mkdir(filepath.Join(dir, "v1"), 0o700)
			name := filepath.Join(dir, "v1", "keys.yaml")
			writeFile(t, name, "one", long)
			if way == "a ConfigMap" {
				name = filepath.Join(dir, "keys.yaml")
				for link, target := range map[string]string{"..data": "v1", "keys.yaml": "..data/keys.yaml"} {
					if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
						t.Fatal(err)
					}
				}
			}
			wantNoticedWithin(t, time.Second, watched(t, name), func(text string) { change(t, dir, text) })
		})
	}
}
