package guard

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/testkit"
)

func TestOpenJournalRefusesUnknownFormat(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, journalFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("3")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	const want = `the journal has format "3"; this version of the program reads only "1" and "2"`
	if _, err := OpenJournal(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

func TestDecodeEntryReadsEncodedEntry(t *testing.T) {
	now := time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC)
	want := quota.Reservation{
		Request: quota.Request{ID: quota.NewID(), User: "ü {x}", Endpoint: "report"},
		Windows: quota.NewCalendar(nil).WindowsAt([]quota.Period{quota.Minute, quota.Month, quota.Year}, now),
	}
	text, err := encodeEntry(&settlement{Reservation: want})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := decodeEntry(entryKey(want.User, want.ID), text, false)
	if !ok || got.User != want.User || got.ID != want.ID || got.Endpoint != want.Endpoint || len(got.Windows) != len(want.Windows) {
		t.Fatalf("read back as %+v, want %+v", got, want)
	}
	for i, w := range want.Windows {
		if g := got.Windows[i]; g.Period != w.Period || g.ID != w.ID || !g.Start.Equal(w.Start) || !g.End.Equal(w.End) {
			t.Errorf("window %d is read back as %+v, want %+v", i, g, w)
		}
	}
	for _, key := range []string{"", "user", "user\x00id"} {
		if _, ok := decodeEntry([]byte(key), []byte("no JSON"), false); ok {
			t.Errorf("an entry %q that encodeEntry did not make is read", key)
		}
	}
}

// An entry of a rest is read back, and none of a request is taken for one.
func TestDecodeEntryReadsEncodedRest(t *testing.T) {
	want := settlement{isRest: true, Reservation: quota.Reservation{
		Request: quota.Request{ID: quota.NewID(), User: quota.MemberAccount("acme", "a"), Endpoint: "report", Units: 9},
		Unused:  8, Rest: 7, RestCharged: 3,
		Windows:     quota.NewCalendar(nil).WindowsAt([]quota.Period{quota.Month}, time.Now()),
		PoolWindows: quota.NewCalendar(nil).WindowsAt([]quota.Period{quota.Day}, time.Now()),
	}}
	for _, charged := range []int64{0, 1, 3, 7} {
		want.RestCharged = charged
		text, err := encodeEntry(&want)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := decodeEntry(entryKey(want.User, want.ID), text, true)
		if !ok || got.journalKey() != want.journalKey() || got.Endpoint != want.Endpoint || got.RestUnits() != 7 || got.ChargedRest() != charged ||
			len(got.Windows) != 1 || len(got.PoolWindows) != 1 {
			t.Errorf("%s is read back as %+v (%v), want %+v", text, got, ok, want)
		}
	}
	key := entryKey("u", "id")
	for _, text := range []string{`{"endpoint":"report","windows":null}`, `{"endpoint":"report","units":8,"rest":7}`, `{"units":-1,"rest":7}`, `{"units":1,"rest":1000000001}`} {
		if got, ok := decodeEntry(key, []byte(text), true); ok {
			t.Errorf("%s is read as %+v", text, got)
		}
	}
	// Nothing is held of a request whose process has died.
	request := settlement{Reservation: want.Reservation}
	text, err := encodeEntry(&request)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := decodeEntry(key, text, false); !ok || got.ChargedUnits() != 1 || got.RestUnits() != 0 {
		t.Errorf("%s is read back as %+v (%v)", text, got, ok)
	}
}

// journalFormat is what the file of a journal says.
func journalFormat(t *testing.T, j *Journal) (is string) {
	t.Helper()
	err := j.db.View(func(tx *bolt.Tx) error {
		is = string(tx.Bucket(metaBucket).Get(formatKey))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// A release that knows no rests can open a journal without any, and refuses one that has some: it would
// leave them.
func TestFormatTellsOfRests(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := func(format string) {
		t.Helper()
		if is := journalFormat(t, j); is != format {
			t.Errorf("the journal has format %q, want %q", is, format)
		}
	}
	entry := func(isRest bool) *settlement {
		return &settlement{isRest: isRest, Reservation: quota.Reservation{Request: quota.Request{ID: quota.NewID(), User: "u", Endpoint: "report", Units: 9}, Unused: 8, Rest: 8}}
	}
	add := func(s *settlement) *settlement {
		t.Helper()
		if err := j.add(s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	remove := func(s *settlement) {
		t.Helper()
		j.remove([]settlement{*s})
		testkit.Eventually(t, "the removal is on disk", func() bool { return j.isRemoved(s) })
	}
	want("1")
	request := add(entry(false))
	want("1")
	one, two := add(entry(true)), add(entry(true))
	want("2")
	remove(one)
	want("2")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = OpenJournal(dir); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	want("2")
	if ss, err := j.userEntries("u", 10); err != nil || len(ss) != 2 || ss[0].isRest || !ss[1].isRest {
		t.Errorf("the entries are %+v, error %v; want a request and a rest", ss, err)
	}
	remove(two)
	want("1")
	add(two)
	want("2")
	// A journal that is written again in another file leaves the old one empty.
	if err := j.db.Update(func(tx boltfile.Tx) error { return removeEntries(tx.Tx) }); err != nil {
		t.Fatal(err)
	}
	want("1")
	if ss, err := j.userEntries("u", 10); err != nil || len(ss) != 0 {
		t.Errorf("the entries are %+v, error %v; want none (not even %s)", ss, err, request.ID)
	}
}

// damageJournal overwrites all pages of a journal but the first two, as a bad disk may.
func damageJournal(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, journalFile)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := 2 * os.Getpagesize()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, int(info.Size())-begin), int64(begin)); err != nil {
		t.Fatal(err)
	}
}

// A journal that is damaged while it is in use takes no entries, and nothing panics. It cannot
// be opened again: the error names the file and the cure.
func TestDamagedJournalIsAnError(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := settlement{Reservation: quota.Reservation{Request: quota.Request{ID: quota.NewID(), User: "u", Endpoint: "report"}}}
	if err := j.add(&r); err != nil {
		t.Fatal(err)
	}
	damageJournal(t, dir)
	wantDamaged := func(what string, err error) {
		t.Helper()
		var damaged *boltfile.DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("%s: error %v, want a *boltfile.DamagedError", what, err)
		}
	}
	_, err = j.userEntries("u", 10)
	wantDamaged("reading", err)
	wantDamaged("adding", j.add(&r))
	wantDamaged("reading all", j.forEach(func(*settlement) {}))
	j.remove([]settlement{r})
	wantDamaged("closing", j.Close())

	dir = t.TempDir()
	if j, err = OpenJournal(dir); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	damageJournal(t, dir)
	_, err = OpenJournal(dir)
	wantDamaged("opening", err)
	if err != nil && !strings.Contains(err.Error(), filepath.Join(dir, journalFile)+" is damaged") || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("error %q, want the file and the cure in it", err)
	}
}

// After an outage with many counts the journal's file becomes smaller, and keeps what has not been
// counted yet.
func TestJournalShrinksAfterReplay(t *testing.T) {
	j, err := OpenJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	user := strings.Repeat("u", 250)
	rs := make([]settlement, 50_000)
	for i := range rs {
		rs[i].User, rs[i].ID, rs[i].Endpoint = user, quota.NewID(), "analyze"
		rs[i].Windows = []quota.Window{quota.NewCalendar(nil).WindowAt(quota.Month, time.Now())}
	}
	if err := j.addAll(rs); err != nil {
		t.Fatal(err)
	}
	full, _ := j.db.Space()
	const left = 10
	j.remove(rs[left:])
	testkit.Eventually(t, "the counts are removed", func() bool { return j.isRemoved(&rs[left]) })

	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		j.db.Watch(done, slog.New(slog.DiscardHandler), j.tryWrite, func(error) {})
	}()
	testkit.Eventually(t, "the file is smaller", func() bool { size, _ := j.db.Space(); return size < full/2 })
	close(done)
	<-stopped
	if got, err := j.userEntries(user, left+1); err != nil || len(got) != left {
		t.Errorf("%d counts are left, error %v, want %d", len(got), err, left)
	}
}
