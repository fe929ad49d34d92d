package counterfile

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
)

func mapping(t testing.TB, text string) *Mapping {
	t.Helper()
	m, err := ParseMapping(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// read reads one file.
func read(t testing.TB, file io.Reader, o Options) *Result {
	t.Helper()
	o.Stdin = file
	result, err := Read([]string{"-"}, o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// faults are those of a result, a line for each.
func faults(r *Result) string {
	var b strings.Builder
	for _, f := range r.Faults.List {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func item(user, endpoint, count string) string {
	return fmt.Sprintf(`{"Item":{"user_id":{"S":%q},"endpoint":{"S":%q},"count":{"N":%q}}}`, user, endpoint, count)
}

const usual = "user=user_id,endpoint=endpoint,used=count"

func TestParseMappingRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               `"" is not like user=ATTRIBUTE`,
		"user":                           `"user" is not like user=ATTRIBUTE`,
		"user=,used=b":                   "user has no attribute",
		"user=a,user=b":                  "user is there twice",
		"user=a":                         "used is missing; write used=ATTRIBUTE",
		"used=a":                         "user is missing; write user=ATTRIBUTE or, if each item is of a whole organisation, org=ATTRIBUTE",
		"user=a,used=b,limit=c":          `there is no "limit"; it may have user, used, endpoint, org, units and window`,
		"user=@u,used=b":                 "user=@u: only endpoint and org can have a value that is the same for all rows",
		"user=a,used=b,window=@2026-11":  "window=@2026-11: only endpoint and org can have a value that is the same for all rows",
		"user=a,used=b,endpoint=@":       "endpoint has no attribute",
		"user=a,used=b,endpoint=@x,org=": "org has no attribute",
	} {
		if _, err := ParseMapping(text); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
	// An attribute's name may have an equals sign.
	if m := mapping(t, "user=a=b,used=c"); m.user.name != "a=b" || m.HasEndpoint() || m.HasWindow() {
		t.Errorf("%+v", m)
	}
}

// A row belongs to a window if what it says lies in it.
func TestRowsBelongToWindows(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	calendar := quota.NewCalendar(berlin)
	const in, out, wrong = "in", "out", "wrong"
	for _, c := range []struct{ window, text, want string }{
		{"2026-11", "2026-11", in}, {"2026-11", "202611", in}, {"2026-11", "2026-11-01", in}, {"2026-11", "20261130", in},
		{"2026-11", "2026-11-30T23:59:59", in}, {"2026-11", "2026-11-30 23:59:59.5", in}, {"2026-11", "2026-11-15T10", in},
		{"2026-11", "2026-W46", in}, {"2026-11", "2026-12", out}, {"2026-11", "2026-10-31", out}, {"2026-11", "2025-11", out},
		{"2026-11", "2026-10-31T23:30:00Z", in}, // midnight has passed in Berlin
		{"2026-11", "2026-11-30T23:30:00Z", out}, {"2026-11", "2026-12-01T00:30:00+02:00", in},
		{"2026-11", "1793487600", in}, {"2026-11", "1793487599", out}, {"2026-11", "1793487600000", in}, {"2026-11", "1793487599999", out},
		{"2026-11", "2026", wrong}, {"2026-11", "2025", out}, {"2026-11", "2026-W49", wrong}, {"2026-11", "", wrong}, {"2026-11", "November", wrong},
		{"2026-11", "ever", wrong}, {"2026-11", "2026-13", wrong}, {"2026-11", "99999999999", wrong},
		{"2026", "2026-11", in}, {"2026", "2026", in}, {"2026", "2025-12-31", out},
		{"2026-11-03", "2026-11-03", in}, {"2026-11-03", "20261104", out}, {"2026-11-03", "2026-11", wrong}, {"2026-W45", "2026-11-03", in},
		{"2026-11-03T10+0100", "2026-11-03 10:59:00", in}, {"2026-11-03T10+0100", "2026-11-03 11:00", out}, {"2026-11-03T10+0100", "2026-11-03T09:30:00Z", in},
		{"ever", "2026-11", in}, {"ever", "whatever", in},
	} {
		w, err := calendar.WindowByID(c.window)
		if err != nil {
			t.Fatal(err)
		}
		f, err := newWindowFilter(w)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second answer is remembered
			has, err := f.has(c.text)
			got := out
			if err != nil {
				got = wrong
			} else if has {
				got = in
			}
			if got != c.want {
				t.Errorf("window %s, row %q: %s (%v), want %s", c.window, c.text, got, err, c.want)
			}
		}
	}
	_, err = Read([]string{"-"}, Options{Mapping: mapping(t, usual+",window=month"), Window: quota.Window{ID: "month-2026-11-15", Period: quota.Month}})
	if err == nil || !strings.Contains(err.Error(), "month-2026-11-15, which begins on a day of its own; leave window out") {
		t.Errorf("error %v", err)
	}
}

func TestReadAddsUpRows(t *testing.T) {
	o := Options{Mapping: mapping(t, usual+",units=units,org=org"), Sum: true}
	text := `{"Items":[{"user_id":{"S":"u"},"endpoint":{"S":"a"},"count":{"N":"2"}},
		{"user_id":{"S":"u"},"endpoint":{"S":"a"},"count":{"N":"3"},"units":{"N":"10"}},
		{"user_id":{"S":"u"},"endpoint":{"S":"a"},"count":{"N":"4"}},
		{"user_id":{"S":"u"},"endpoint":{"S":"b"},"count":{"N":"5"},"org":{"NULL":true}},
		{"user_id":{"S":"u"},"endpoint":{"S":"a"},"count":{"N":"6"},"org":{"S":"acme"}}]}`
	got := read(t, strings.NewReader(text), o)
	want := []*UserCounts{
		{Account: Account{"", "u"}, Counts: []Count{{"a", 9, 16, Place{"stdin", 1}}, {"b", 5, -1, Place{"stdin", 4}}}},
		{Account: Account{"acme", "u"}, Counts: []Count{{"a", 6, -1, Place{"stdin", 5}}}},
	}
	if diff := cmp.Diff(want, got.Users); diff != "" || faults(got) != "" {
		t.Errorf("%s%s", diff, faults(got))
	}
	most := item("u", "a", "1000000000000") + "\n" + item("u", "a", "1")
	if got := faults(read(t, strings.NewReader(most), o)); got != `stdin:2: the sum of user "u" is more than 1000000000000`+"\n" {
		t.Error(got)
	}
}

// A file that cannot be read is a fault; the files after it are read all the same.
func TestReadGoesOnAfterBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	packed := pack(t, item("u-2", "a", "1")+"\n"+item("u-2", "b", "1"))
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	names := []string{
		write("a.json", []byte(item("u-1", "a", "1")+"\n]")),
		write("b.json.gz", packed[:len(packed)-1]),
		write("c.json.gz", []byte("\x1f\x8bnot compressed with deflate")),
		write("d.json", []byte("\xff\xfe{\x00}\x00")),
		write("e.json", []byte("\xe0\x01\x00\xea")),
		write("f.json", []byte("\ufeff{\"Item\":{\"user_id\":{\"S\":\"\xff\"}}}\n"+item("u-3", "a", "x"))),
		write("g.json", nil),
		write("h.json", []byte(`{"Items":{}}`)),
		write("i.json", []byte(`{"Items":[{"user_id":{"S":"u-4"}`)),
	}
	got, err := Read(names, Options{Mapping: mapping(t, usual)})
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Split(strings.TrimSpace(strings.ReplaceAll(faults(got), dir+"/", "")), "\n")
	want := []string{
		"a.json:2: is not JSON: invalid character ']' looking for beginning of value",
		"b.json.gz:2: the file ends too early; copy it again",
		"c.json.gz: cannot unpack it: gzip: invalid header",
		"d.json:1: is in UTF-16, as PowerShell writes it; save it as UTF-8, with: | Out-File -Encoding utf8 FILE",
		"e.json:1: is in Amazon Ion; export the table again, with --export-format DYNAMODB_JSON",
		"f.json:1: is not UTF-8",
		`f.json:2: used must be a whole number, got "x"`,
		"h.json:1: Items must be a list",
		"i.json:1: the file ends too early; copy it again",
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Error(diff)
	}
}

func pack(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// In S3, the data of incremental exports lies beside the folder of the manifest; a folder can also
// have lost its shape.
func TestReadFindsDataOfManifest(t *testing.T) {
	for _, place := range []string{"id/data/a.json.gz", "id/data/a.json", "data/a.json.gz", "id/a.json.gz"} {
		dir := t.TempDir()
		for name, text := range map[string][]byte{
			place:                      []byte(item("u", "a", "3")),
			"id/manifest-files.json":   []byte(`{"itemCount":1,"dataFileS3Key":"prefix/AWSDynamoDB/id/data/a.json.gz"}` + "\n\n"),
			"id/manifest-summary.json": []byte("{}"),
			"id/data/other.json":       []byte("not listed"),
		} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Read([]string{dir}, Options{Mapping: mapping(t, usual)})
		if err != nil || len(got.Users) != 1 || faults(got) != "" {
			t.Errorf("%s: error %v, %+v", place, err, got)
		}
		if err := os.WriteFile(filepath.Join(dir, "id/manifest-files.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read([]string{dir}, Options{Mapping: mapping(t, usual)}); err == nil || !strings.Contains(err.Error(), `manifest-files.json:1: must be a line like {"itemCount"`) {
			t.Errorf("error %v", err)
		}
	}
}

// A table is larger than what is kept of it: rows that are added up or skipped, and attributes that are
// not mapped, stay in memory no longer than they are read.
func TestReadKeepsOnlyCounts(t *testing.T) {
	const rows = 500
	window, err := labels.WindowByID("2026-11")
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, after := heap(), uint64(0)
	notes := strings.Repeat("x", 20<<10)
	file, write := io.Pipe()
	go func() {
		for i := range rows {
			month := []string{"2026-11", "2026-10"}[i%2]
			fmt.Fprintf(write, `{"Item":{"user_id":{"S":"u-%d"},"month":{"S":%q},"count":{"N":"1"},"notes":{"S":"%s"}}}`+"\n", i%10, month, notes)
		}
		after = heap() // nearly all has been read
		write.Close()
	}()
	got := read(t, file, Options{Mapping: mapping(t, "user=user_id,used=count,endpoint=@a,window=month"), Window: window, Sum: true})
	if len(got.Users) != 5 || got.Users[0].Counts[0].Used != rows/10 || got.Skipped != rows/2 {
		t.Errorf("%d users, %d skipped, the first has %+v", len(got.Users), got.Skipped, got.Users[0])
	}
	if grown := int64(after) - int64(before); grown > 4<<20 {
		t.Errorf("%d bytes stay in memory of a file of %d", grown, rows*len(notes))
	}
}

func TestReadTellsProgress(t *testing.T) {
	var told []int
	o := Options{Mapping: mapping(t, usual), Sum: true, Progress: func(rows int) { told = append(told, rows) }}
	read(t, strings.NewReader(strings.Repeat(item("u", "a", "1")+"\n", 2*progressRows+1)), o)
	if !slices.Equal(told, []int{progressRows, 2 * progressRows}) {
		t.Errorf("told %v", told)
	}
}

// FuzzRead: whatever a file has, reading it in other portions or packed finds the same; faults have a
// line of the file; and what is read can be written as another file and read again.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		item("u", "a", "1"), item("u", "a", "1") + item("u", "a", "2") + "\n" + item("v", "b", "x"),
		"{\"Items\": [\n{\"user_id\": {\"S\": \"u\"}, \"endpoint\": {\"S\": \"a\"},\n \"count\": {\"N\": \"3\"}}\n], \"Count\": 1, \"LastEvaluatedKey\": {}}\n{\"Items\": []}",
		"user,endpoint,used\nu,a,1\n\"v\nw\",a,2", "user,used\nu,1", "\ufeffu,a,1", "$ion_1_0 {}", `{"Item":{"m":{"M":{"c":{"N":"1"}}}}}`, `{"NewImage":1}`, "[]", "", "{",
		`{"Item":{"user_id":{"S":"u"},"endpoint":{"S":"a"},"count":{"N":"1"},"month":{"N":"1793487600"},"org":{"S":"o"},"units":{"N":"7"}}}`,
	} {
		for _, maps := range []string{"", usual, usual + ",org=org,units=units,window=month", "user=user_id,used=m.c"} {
			f.Add([]byte(text), maps, false)
			f.Add([]byte(text), maps, true)
		}
	}
	window, err := labels.WindowByID("2026-11")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte, maps string, sum bool) {
		o := Options{Window: window, Sum: sum, AllowTotals: true}
		if maps != "" {
			var err error
			if o.Mapping, err = ParseMapping(maps); err != nil {
				return
			}
		}
		got := read(t, bytes.NewReader(text), o)
		if diff := cmp.Diff(got, read(t, iotest.OneByteReader(bytes.NewReader(text)), o)); diff != "" {
			t.Fatalf("read byte by byte: %s", diff)
		}
		if !bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
			if diff := cmp.Diff(got, read(t, bytes.NewReader(pack(t, string(text))), o)); diff != "" {
				t.Fatalf("packed: %s", diff)
			}
			for _, fault := range got.Faults.List {
				if fault.Line < 1 || fault.Line > 1+bytes.Count(text, []byte("\n")) {
					t.Fatalf("%d lines, and a fault in %s", 1+bytes.Count(text, []byte("\n")), fault)
				}
			}
		}
		if len(got.Faults.List) > 0 {
			return
		}
		var again strings.Builder
		for _, u := range got.Users {
			for _, c := range u.Counts {
				if c.Used < 0 || c.Used > quota.MaxAmount || c.Units < -1 || c.Units > quota.MaxAmount {
					t.Fatalf("%v has %+v", u.Account, c)
				}
				fmt.Fprintf(&again, "%s,%s,%d\n", csvField(u.Account.User), csvField(c.Endpoint), c.Used)
			}
		}
		if got.Totals || slices.ContainsFunc(got.Users, func(u *UserCounts) bool { return u.Account.Org != "" }) {
			return
		}
		written := read(t, strings.NewReader("user,endpoint,used\n"+again.String()), Options{})
		for i, u := range written.Users {
			if u.Account != got.Users[i].Account || len(u.Counts) != len(got.Users[i].Counts) || u.Counts[0].Used != got.Users[i].Counts[0].Used {
				t.Fatalf("%+v became %+v", got.Users[i], u)
			}
		}
		if len(written.Users) != len(got.Users) || faults(written) != "" {
			t.Fatalf("%d users became %d: %s", len(got.Users), len(written.Users), faults(written))
		}
	})
}

func csvField(text string) string { return `"` + strings.ReplaceAll(text, `"`, `""`) + `"` }
