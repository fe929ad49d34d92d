package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// A journalFolder opens the journals of several processes on one folder.
type journalFolder struct {
	*testing.T
	dir string
}

func (f journalFolder) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f journalFolder) open() *Journal {
	f.Helper()
	j, err := OpenJournal(f.dir)
	f.must(err)
	return j
}

func (f journalFolder) openBeside(notes map[string][]byte) *Journal {
	f.Helper()
	j, err := OpenJournalBeside(f.dir, notes)
	f.must(err)
	return j
}

// add adds an entry, and one of a rest.
func (f journalFolder) add(j *Journal, id string) {
	f.Helper()
	r := quota.Reservation{Request: quota.Request{ID: id, User: "u", Endpoint: "e", Units: 3}}
	f.must(j.add(&settlement{Reservation: r}))
	r.Rest = 2
	f.must(j.add(&settlement{Reservation: r, isRest: true}))
}

// want checks which entries a journal has, requests and rests, and which files are there.
func (f journalFolder) want(j *Journal, ids []string, files ...string) {
	f.Helper()
	var got, want []string
	f.must(j.forEach(func(s *settlement) { got = append(got, fmt.Sprint(s.ID, s.isRest)) }))
	for _, isRest := range []bool{false, true} {
		for _, id := range ids {
			want = append(want, fmt.Sprint(id, isRest))
		}
	}
	if !slices.Equal(got, want) {
		f.Errorf("entries %v, want %v", got, want)
	}
	f.wantFiles(files...)
}

func (f journalFolder) wantFiles(files ...string) {
	f.Helper()
	entries, err := os.ReadDir(f.dir)
	f.must(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, files) {
		f.Errorf("files %v, want %v", got, files)
	}
}

func newJournalFolder(t *testing.T) journalFolder { return journalFolder{t, t.TempDir()} }

// The process that follows takes over what the one before has left, as soon as that has ended, and then has
// the only file. The next one can follow in the same way.
func TestSecondJournalTakesThePlaceOfTheFirst(t *testing.T) {
	f := newJournalFolder(t)
	first := f.open()
	f.must(first.SaveNote("a", []byte("note")))
	f.add(first, "1")
	notes, err := first.Notes()
	f.must(err)
	second := f.openBeside(notes)
	if note, err := second.LoadNote("a"); string(note) != "note" || err != nil {
		t.Errorf("note %q, %v", note, err)
	}
	f.add(second, "3")
	if added, err := second.takeOver(); !errors.Is(err, ErrInUse) || len(added) > 0 {
		t.Errorf("while the first one runs: %v, %v", added, err)
	}
	f.add(first, "2")
	f.must(first.Close())
	if _, err := OpenJournal(f.dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a third process while the second one is about to have the file: %v", err)
	}
	added, err := second.takeOver()
	if err != nil || len(added) != 4 {
		t.Errorf("taken over: %v, %v", added, err)
	}
	f.want(second, []string{"1", "2", "3"}, journalFile)
	if added, err := second.takeOver(); err != nil || len(added) > 0 {
		t.Errorf("again: %v, %v", added, err)
	}
	f.must(second.db.Check())
	if n := second.db.TimesReplaced(); n != 0 {
		t.Errorf("the file counts as replaced %d times", n)
	}
	third := f.openBeside(nil)
	f.add(third, "4")
	f.add(second, "5")
	f.must(second.Close())
	_, err = third.takeOver()
	f.must(err)
	f.want(third, []string{"1", "2", "3", "4", "5"}, journalFile)
	f.must(third.Close())
	last := f.open()
	f.want(last, []string{"1", "2", "3", "4", "5"}, journalFile)
	f.must(last.Close())
}

// Both processes have died. The next one has what both have left, and the notes of the second one, also if
// the second one died in the middle of taking over.
func TestJournalFindsWhatTwoProcessesHaveLeft(t *testing.T) {
	for _, inTheMiddle := range []bool{false, true} {
		f := newJournalFolder(t)
		first := f.open()
		f.must(first.SaveNote("a", []byte("old")))
		f.add(first, "1")
		second := f.openBeside(nil)
		f.must(second.SaveNote("a", []byte("new")))
		f.add(second, "2")
		f.must(first.Close())
		if inTheMiddle {
			_, err := takeFile(f.dir, journalFile, second.db, (*boltfile.File).Close)
			f.must(err)
		}
		f.must(second.Close())
		f.wantFiles(journalFile, besideFile)
		next := f.open()
		f.want(next, []string{"1", "2"}, journalFile)
		if note, err := next.LoadNote("a"); string(note) != "new" || err != nil {
			t.Errorf("note %q, %v", note, err)
		}
		f.must(next.Close())
	}
}

// The process that follows has died, and the one before goes on: it takes over what the other has left.
func TestFirstJournalTakesOverTheSecond(t *testing.T) {
	f := newJournalFolder(t)
	first := f.open()
	f.add(first, "1")
	second := f.openBeside(nil)
	f.add(second, "2")
	if added, err := first.takeOver(); !errors.Is(err, ErrInUse) || len(added) > 0 {
		t.Errorf("while the second one runs: %v, %v", added, err)
	}
	f.must(second.Close())
	added, err := first.takeOver()
	if err != nil || len(added) != 2 {
		t.Errorf("taken over: %v, %v", added, err)
	}
	f.want(first, []string{"1", "2"}, journalFile)
	f.must(first.Close())
}

// A folder that nobody uses is opened as ever, and a damaged second file is an error that names it.
func TestOpenJournalBesideNobody(t *testing.T) {
	f := newJournalFolder(t)
	j := f.openBeside(map[string][]byte{"a": []byte("note")})
	f.wantFiles(journalFile)
	f.must(j.Close())
	f.must(os.WriteFile(filepath.Join(f.dir, besideFile), make([]byte, 100_000), 0o600))
	if _, err := OpenJournal(f.dir); err == nil || !strings.Contains(err.Error(), besideFile) {
		t.Errorf("a damaged file: %v", err)
	}
}
