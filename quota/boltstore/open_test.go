package boltstore

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// Counts survive a restart, and holds end with it.
func TestOpenReadsCountsOfPreviousProcess(t *testing.T) {
	dir, p := filepath.Join(t.TempDir(), "not", "there", "yet"), plan(5)
	now := func() time.Time { return noon }
	s := open(t, dir, Options{Now: now})
	for range 3 {
		count(t, s, admit(t, s, request("u", p)))
	}
	late := admit(t, s, request("u", p))
	wantUsage(t, s, "u", p, 3, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir, Options{Now: now})
	wantUsage(t, s, "u", p, 3, 0)
	count(t, s, late) // its hold is gone, but its request succeeded
	wantUsage(t, s, "u", p, 4, 0)

	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "usage.db"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("%s has mode %v, want %v", path, got, mode)
		}
	}
}

func TestOpenRefusesUnusableFiles(t *testing.T) {
	for name, test := range map[string]struct {
		file func(t *testing.T, path string)
		opt  Options
		want string
	}{
		"a newer format": {
			file: func(t *testing.T, path string) {
				open(t, filepath.Dir(path), Options{}).Close()
				edit(t, path, func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("4")) })
			},
			want: `usage.db: the file has format "4", this version of the program reads only "1", "2" and "3"`,
		},
		"another program's database": {
			file: func(t *testing.T, path string) {
				edit(t, path, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
			},
			want: "usage.db: this is another program's database",
		},
		"another kind of file": {
			file: func(t *testing.T, path string) {
				if err := os.WriteFile(path, []byte(strings.Repeat("no database\n", 5000)), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "usage.db is damaged (invalid database); restore it from a backup (docs/backup.md says how), or move it away to start with no counts; \"metergate check\" lists what is wrong",
		},
		"a negative time to keep": {
			file: func(*testing.T, string) {},
			opt:  Options{Keep: -time.Hour},
			want: "cannot keep counts for -1h0m0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "usage.db")
			test.file(t, path)
			s, err := Open(filepath.Dir(path), test.opt)
			if err == nil {
				s.Close()
				t.Fatal("Open returned no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q in it", err, test.want)
			}
		})
	}
}

func TestOpenRefusesFileInUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), filepath.Join(dir, "usage.db")+" is in use by another process") {
		t.Errorf("a second Open: error %v, want %v with the path", err, ErrInUse)
	}
	s.Close()
	open(t, dir, Options{})
}

// A file of format 1 is upgraded in place, with everything in it.
func TestOpenUpgradesFormat1(t *testing.T) {
	dir, now := t.TempDir(), func() time.Time { return noon }
	november := quota.NewCalendar(nil).WindowAt(quota.Month, noon)
	edit(t, filepath.Join(dir, fileName), func(tx *bolt.Tx) error {
		buckets := map[string]*bolt.Bucket{}
		for _, name := range []string{"meta", "used", "ends"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			buckets[name] = b
		}
		for _, endpoint := range []string{"", "analyze"} {
			key := "u\x002026-11\x00" + endpoint
			if err := buckets["used"].Put([]byte(key), binary.BigEndian.AppendUint64(nil, 3)); err != nil {
				return err
			}
			end := binary.BigEndian.AppendUint64([]byte{byte(quota.Month)}, uint64(november.End.Unix()))
			if err := buckets["ends"].Put(append(end, key...), nil); err != nil {
				return err
			}
		}
		return buckets["meta"].Put([]byte("format"), []byte("1"))
	})
	p := plan(5)
	s := open(t, dir, Options{Now: now})
	wantUsage(t, s, "u", p, 3, 0)
	count(t, s, admit(t, s, request("u", p)))
	applyChange(t, s, "u", p, quota.Change{Action: quota.ActionGrant, Requests: 2})
	s.Close()
	for range 2 {
		s = open(t, dir, Options{Now: now})
		wantUsage(t, s, "u", p, 4, 0)
		if snap, err := s.Read(ctx, "u", p.OnlyChoice()); err != nil || snap.Limits[0].Granted != 2 {
			t.Errorf("%d granted, error %v; want 2", snap.Limits[0].Granted, err)
		}
		s.Close()
	}
}
