// Package counterfile reads what users have used from the files of another counter: CSV, an export
// of a DynamoDB table, or the output of "aws dynamodb scan".
//
// [Read] reads all files before it returns, and collects the faults of all of them, each with its
// file and line. It keeps the counts in memory, and nothing else of a file: rows that are left out,
// and attributes that are not mapped, cost none.
package counterfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"metergate/quota"
)

// maxFaults is how many faults are kept. Further ones are counted.
const maxFaults = 100

// An Account is whose count a file has: a user, a member of an organisation or, without a user, the
// organisation itself.
type Account struct{ Org, User string }

// String names the account, such as user "u-17" of organisation "acme".
func (a Account) String() string {
	switch {
	case a.Org == "":
		return fmt.Sprintf("user %q", a.User)
	case a.User == "":
		return fmt.Sprintf("organisation %q", a.Org)
	}
	return fmt.Sprintf("user %q of organisation %q", a.User, a.Org)
}

// A Place is a line of a file, from 1; 0: the whole file.
type Place struct {
	File string
	Line int
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// from names the place to a reader who is at other.
func (p Place) from(other Place) string {
	if p.File == other.File {
		return fmt.Sprintf("in line %d", p.Line)
	}
	return "in " + p.String()
}

// A Fault is what is wrong in a place.
type Fault struct {
	Place
	Text string
}

func (f Fault) String() string { return f.Place.String() + ": " + f.Text }

// Faults are what is wrong, in the order in which it was found.
type Faults struct {
	List []Fault
	More int // that are not in List
}

// Add adds a fault, unless there are very many.
func (f *Faults) Add(at Place, format string, args ...any) {
	if len(f.List) == maxFaults {
		f.More++
		return
	}
	f.List = append(f.List, Fault{at, fmt.Sprintf(format, args...)})
}

// A UserCounts has the counts of one account.
type UserCounts struct {
	Account Account
	Counts  []Count // of different endpoints; of the first line first
	Window  Bounds  // of all counts
	// Derived: no row of the files is of this organisation. Its counts are the sum of its members'.
	Derived bool
}

// Bounds are those of the window of a count as the file has them, in the columns that export writes.
// Both are zero if the file does not say, or for all time.
type Bounds struct{ Start, End time.Time }

// IsZero reports whether the file does not say.
func (b Bounds) IsZero() bool { return b.Start.IsZero() && b.End.IsZero() }

// String is the window from its start to its end, as far as the file says.
func (b Bounds) String() string {
	var parts []string
	if !b.Start.IsZero() {
		parts = append(parts, "from "+b.Start.Format(time.RFC3339))
	}
	if !b.End.IsZero() {
		parts = append(parts, "to "+b.End.Format(time.RFC3339))
	}
	return strings.Join(parts, " ")
}

// A Count is what was used of one endpoint.
type Count struct {
	Endpoint string // empty: of all together
	Used     int64
	Units    int64 // -1: the file does not say
	Place    Place
}

// Options say how to read.
type Options struct {
	// Mapping is what the attributes of DynamoDB mean; nil: the files are CSV.
	Mapping *Mapping
	// Window is the window to read. Only a Mapping with a window needs it.
	Window quota.Window
	// Sum adds up the counts of one user and endpoint. Otherwise there may be only one.
	Sum bool
	// AllowTotals allows files that have no endpoints: their counts are of all together.
	AllowTotals bool
	// Progress, if it is not nil, is told now and then how many rows have been read.
	Progress func(rows int)
	// Stdin is the file "-".
	Stdin io.Reader
}

// A Result is what files have.
type Result struct {
	Users  []*UserCounts // in the order of the files
	Faults Faults
	// Skipped is how many rows are of other windows than Options.Window.
	Skipped int
	// Totals: the files have no endpoints.
	Totals bool
}

// Read reads files and, for DynamoDB, folders. The error is for what cannot be opened.
func Read(names []string, o Options) (*Result, error) {
	inputs, err := findInputs(names, o.Mapping != nil)
	if err != nil {
		return nil, err
	}
	r := &reader{Options: o, byAccount: map[Account]*UserCounts{}, names: map[string]string{}}
	if o.Mapping != nil && o.Mapping.HasWindow() {
		if r.filter, err = newWindowFilter(o.Window); err != nil {
			return nil, err
		}
	}
	for _, in := range inputs {
		if err := r.readInput(in); err != nil {
			return nil, err
		}
	}
	r.finish(inputs)
	return &r.Result, nil
}

// A reader collects the counts of files.
type reader struct {
	Options
	Result
	byAccount map[Account]*UserCounts
	names     map[string]string // of endpoints and organisations: one copy of each
	filter    *windowFilter     // nil: all rows are of one window
	skipped   Place             // a row that was skipped
	skippedOf string            // the window of that row
	unended   Place             // the last page of a scan so far, if there are more after it; else zero
	rows      int               // of the current file
	allRows   int
}

// progressRows is after how many rows Options.Progress is called.
const progressRows = 10_000

// countRow counts a row, whatever it has.
func (r *reader) countRow() {
	r.rows++
	if r.allRows++; r.Progress != nil && r.allRows%progressRows == 0 {
		r.Progress(r.allRows)
	}
}

// startOfJSON matches what a CSV cannot begin with.
var startOfJSON = regexp.MustCompile(`^\s*[{\[]\s*(["{]|$)`)

// readInput reads one file.
func (r *reader) readInput(in input) error {
	file, err := in.open(r.Stdin)
	if err != nil {
		return err
	}
	defer file.Close()
	text := bufio.NewReaderSize(file, 64<<10)
	if start, _ := text.Peek(2); bytes.Equal(start, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(text)
		if err != nil {
			r.Faults.Add(Place{File: in.name}, "cannot unpack it: %v", readable(err))
			return nil
		}
		text = bufio.NewReaderSize(unpacked, 64<<10)
	}
	r.rows = 0
	fault := unreadable(text)
	if start, _ := text.Peek(64); fault == "" && r.Mapping == nil && startOfJSON.Match(start) {
		fault = "is JSON; an export or a scan of a DynamoDB table needs -format dynamodb and -map " + MappingForm
	}
	if fault != "" {
		r.Faults.Add(Place{in.name, 1}, "%s", fault)
		return nil
	}
	before := len(r.Faults.List)
	if r.Mapping == nil {
		r.readCSV(in.name, text)
	} else {
		r.Totals = r.AllowTotals && !r.Mapping.HasEndpoint()
		r.readDynamoDB(in.name, text)
	}
	if in.items >= 0 && in.items != r.rows && len(r.Faults.List) == before {
		r.Faults.Add(Place{File: in.name}, "items found: %d, and %s says %d; copy the export again", r.rows, in.manifest, in.items)
	}
	return nil
}

// readable is an error of reading a file, in words that say what to do.
func readable(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the file ends too early; copy it again")
	}
	return err
}

// unreadable says what is wrong with a file whose text cannot be read at all. It skips a byte order
// mark, which spreadsheets write.
func unreadable(text *bufio.Reader) string {
	start, _ := text.Peek(8)
	switch {
	case bytes.HasPrefix(start, []byte("\ufeff")):
		text.Discard(len("\ufeff"))
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}), bytes.HasPrefix(start, []byte{0xfe, 0xff}):
		return "is in UTF-16, as PowerShell writes it; save it as UTF-8, with: | Out-File -Encoding utf8 FILE"
	case bytes.HasPrefix(start, []byte{0xe0, 0x01, 0x00, 0xea}), bytes.HasPrefix(start, []byte("$ion_1_0")):
		return "is in Amazon Ion; export the table again, with --export-format DYNAMODB_JSON"
	}
	return ""
}

// finish checks what all files have together.
func (r *reader) finish(inputs []input) {
	if r.unended != (Place{}) {
		r.Faults.Add(r.unended, "the scan goes on after this page, and no file has its last one; "+
			`scan without --max-items and --no-paginate, or add the pages that are missing, in their order`)
	}
	if len(r.Users) > 0 || len(r.Faults.List) > 0 {
		return
	}
	switch {
	case r.Skipped > 0:
		r.Faults.Add(r.skipped, "no row is of the window %s: this one, like all %d, is of another, %s", r.Window.ID, r.Skipped, r.skippedOf)
	case r.Mapping == nil:
		r.Faults.Add(Place{inputs[0].name, 1}, "there are no counts; a line is USER,ENDPOINT,USED")
	default:
		r.Faults.Add(Place{inputs[0].name, 1}, "there are no items")
	}
}

// A row is what a file has of one count, as text.
type row struct {
	account               Account
	endpoint, used, units string // empty units: each request is one
	window                Bounds
}

// add adds a row.
func (r *reader) add(at Place, row row) {
	used, err := wholeNumber(row.used)
	if err != nil {
		r.Faults.Add(at, "used %v", err)
		return
	}
	endpoint := row.endpoint
	if endpoint == "" && r.Totals {
		endpoint = "all" // stands for them in an error
	}
	change, units := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{endpoint: used}}, int64(-1)
	if row.units != "" {
		if units, err = wholeNumber(row.units); err != nil {
			r.Faults.Add(at, "units %v", err)
			return
		}
		change.CountUnits = map[string]int64{endpoint: units}
	}
	account, err := quota.CheckedAccount(row.account.Org, row.account.User)
	if err == nil {
		err = change.Validate(account)
	}
	if err != nil {
		r.Faults.Add(at, "%s", strings.TrimPrefix(err.Error(), quota.ErrInvalidChange.Error()+": "))
		return
	}
	u := r.byAccount[row.account]
	if u == nil {
		// A copy: the text of the whole line must not stay in memory.
		u = &UserCounts{Account: Account{r.name(row.account.Org), strings.Clone(row.account.User)}, Window: row.window}
		r.byAccount[u.Account] = u
		r.Users = append(r.Users, u)
	}
	if u.Window != row.window {
		r.Faults.Add(at, "%s has counts of another window %s; keep the lines of one window", row.account, u.Counts[0].Place.from(at))
		return
	}
	for i := range u.Counts {
		if u.Counts[i].Endpoint == row.endpoint {
			r.addTo(&u.Counts[i], at, row.account, used, units)
			return
		}
	}
	u.Counts = append(u.Counts, Count{r.name(row.endpoint), used, units, at})
	if len(u.Counts) == quota.MaxCountsPerChange+1 {
		r.Faults.Add(at, "%s has more than %d endpoints", row.account, quota.MaxCountsPerChange)
	}
}

// name returns the one copy of a name of which there are few.
func (r *reader) name(name string) string {
	if _, ok := r.names[name]; !ok {
		name = strings.Clone(name)
		r.names[name] = name
	}
	return r.names[name]
}

// addTo adds another count of the same account and endpoint.
func (r *reader) addTo(c *Count, at Place, who Account, used, units int64) {
	if !r.Sum {
		of := c.Endpoint
		if of == "" {
			of = "all endpoints"
		}
		cure := ""
		if r.Mapping != nil && r.Mapping.window.isZero() {
			cure = "; if each month has a row of its own, add window=ATTRIBUTE to -map, or use -sum to add the rows up"
		} else if r.Mapping != nil {
			cure = "; use -sum to add the rows up"
		}
		r.Faults.Add(at, "%s already has a count of %s, %s%s", who, of, c.Place.from(at), cure)
		return
	}
	c.join(used, units)
	if c.Used > quota.MaxAmount || c.Units > quota.MaxAmount {
		r.Faults.Add(at, "the sum of %s is more than %d", who, int64(quota.MaxAmount))
		c.Used, c.Units = 0, -1
	}
}

// orUsed are the units of a count that may not say them: each request is one.
func orUsed(units, used int64) int64 {
	if units < 0 {
		return used
	}
	return units
}

// wholeNumber reads a count. The error goes on with what must be one.
func wholeNumber(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("must be 0 to %d, got %.80s", int64(quota.MaxAmount), text)
	case err != nil:
		return 0, fmt.Errorf("must be a whole number, got %.80q", text)
	}
	return n, nil
}
