package app

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
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
		"neither, just written to": {time.Now(), func(t *testing.T, name string) {
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

// A log in the same folder, which is written to all the time, does not hide a change for long.
func TestWatcherNoticesAChangeInABusyFolder(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "keys.yaml")
	writeFile(t, name, "one", time.Now().Add(-time.Hour))
	noticed := watched(t, name)
	saved := time.Now()
	writeFile(t, name, "two", saved)
	for {
		select {
		case at := <-noticed:
			if took := at.Sub(saved); took > 850*time.Millisecond {
				t.Errorf("noticed after %v", took)
			}
			return
		case <-time.After(20 * time.Millisecond):
			writeFile(t, filepath.Join(dir, "access.log"), "x", time.Now())
		}
	}
}

// A change is noticed at once however it is made, also if the file looks as before.
func TestWatcherNoticesEachWayToChangeAFile(t *testing.T) {
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	for way, change := range map[string]func(t *testing.T, dir string){
		"written, with the same time": func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "v1", "keys.yaml"), "two", long) },
		"a ConfigMap": func(t *testing.T, dir string) {
			os.Mkdir(filepath.Join(dir, "v2"), 0o700)
			writeFile(t, filepath.Join(dir, "v2", "keys.yaml"), "two", long)
			if err := os.Symlink("v2", filepath.Join(dir, "..data_tmp")); err != nil {
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
			noticed := watched(t, name)
			saved := time.Now()
			change(t, dir)
			select {
			case at := <-noticed:
				if took := at.Sub(saved); took > time.Second {
					t.Errorf("noticed after %v", took)
				}
			case <-time.After(5 * time.Second):
				t.Error("not noticed")
			}
		})
	}
}
