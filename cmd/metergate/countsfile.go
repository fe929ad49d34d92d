package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"metergate/quota"
)

// A csvFault is what is wrong in a line of a file.
type csvFault struct {
	line int
	text string
}

// userCounts are the counts of one account in a file.
type userCounts struct {
	account account
	counts  []lineCount // of different endpoints; of the first line first
	window  fileWindow  // of all counts
}

// A fileWindow is the window of a count as the file has it, in the columns that export writes. Both are
// zero if the file does not say, or for all time.
type fileWindow struct{ start, end time.Time }

func (w fileWindow) isZero() bool { return w.start.IsZero() && w.end.IsZero() }

// String is the window from its start to its end, as far as the file says.
func (w fileWindow) String() string {
	var parts []string
	if !w.start.IsZero() {
		parts = append(parts, "from "+w.start.Format(time.RFC3339))
	}
	if !w.end.IsZero() {
		parts = append(parts, "to "+w.end.Format(time.RFC3339))
	}
	return strings.Join(parts, " ")
}

// A lineCount is the count in one line of a file.
type lineCount struct {
	endpoint string
	used     int64
	units    int64 // -1: the file does not say
	line     int
}

// A countsFile collects the counts of a CSV file.
type countsFile struct {
	users  []*userCounts // in the order of the file
	byName map[account]*userCounts
	faults []csvFault
}

func (f *countsFile) fault(line int, format string, args ...any) {
	f.faults = append(f.faults, csvFault{line, fmt.Sprintf(format, args...)})
}

// parseCounts reads a CSV of user, endpoint, used. With a header, these may be any of the
// columns, and units, org, start and end others. The users are in the order of the file.
func parseCounts(text []byte) ([]*userCounts, []csvFault) {
	f := &countsFile{byName: map[account]*userCounts{}}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))) // spreadsheets write a byte order mark
	r.FieldsPerRecord = -1
	column := map[string]int{"user": 0, "endpoint": 1, "used": 2}
	columns := len(column)
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, cause := 1, err
			var at *csv.ParseError
			if errors.As(err, &at) {
				line, cause = at.Line, at.Err
			}
			f.fault(line, "%v", cause)
			break // what follows cannot be split into fields
		}
		line, _ := r.FieldPos(0)
		if header := headerColumns(row); first && header != nil {
			column, columns = header, len(row)
			continue
		}
		if len(row) != columns {
			f.fault(line, "there must be %d columns, separated by commas, got %d", columns, len(row))
			continue
		}
		who, units := account{user: row[column["user"]]}, ""
		if i, ok := column["units"]; ok {
			units = strings.TrimSpace(row[i])
		}
		if i, ok := column["org"]; ok {
			who.org = row[i]
		}
		bound := func(name string) (t time.Time, ok bool) {
			i, has := column[name]
			if !has || strings.TrimSpace(row[i]) == "" {
				return t, true
			}
			t, err := time.Parse(time.RFC3339, strings.TrimSpace(row[i]))
			if err != nil {
				f.fault(line, "%s must be a time like 2026-11-15T00:00:00Z, or empty, got %.80q", name, row[i])
			}
			return t.UTC(), err == nil
		}
		start, startOK := bound("start")
		end, endOK := bound("end")
		if startOK && endOK {
			f.add(line, who, countTexts{row[column["endpoint"]], strings.TrimSpace(row[column["used"]]), units}, fileWindow{start, end})
		}
	}
	if len(f.users) == 0 && len(f.faults) == 0 {
		f.fault(1, "there are no counts; a line is USER,ENDPOINT,USED")
	}
	return f.users, f.faults
}

// countTexts are the columns of a line with a count. Empty units: each request is one.
type countTexts struct{ endpoint, used, units string }

// add adds a line of the file.
func (f *countsFile) add(line int, who account, text countTexts, window fileWindow) {
	endpoint, units := text.endpoint, text.units
	n, err := strconv.ParseInt(text.used, 10, 64)
	if err != nil {
		f.fault(line, "used must be a whole number, got %.80q", text.used)
		return
	}
	change := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{endpoint: n}}
	nUnits := int64(-1)
	if units != "" {
		if nUnits, err = strconv.ParseInt(units, 10, 64); err != nil {
			f.fault(line, "units must be a whole number, got %.80q", units)
			return
		}
		change.CountUnits = map[string]int64{endpoint: nUnits}
	}
	account, err := quota.CheckedAccount(who.org, who.user)
	if err == nil {
		err = change.Validate(account)
	}
	if err != nil {
		f.fault(line, "%s", strings.TrimPrefix(err.Error(), quota.ErrInvalidChange.Error()+": "))
		return
	}
	u := f.byName[who]
	if u == nil {
		u = &userCounts{account: who, window: window}
		f.byName[who] = u
		f.users = append(f.users, u)
	}
	if u.window != window {
		f.fault(line, "%s has counts of another window in line %d; keep the lines of one window", who.quoted(), u.counts[0].line)
		return
	}
	for _, before := range u.counts {
		if before.endpoint == endpoint {
			f.fault(line, "%s already has a count of %s, in line %d", who.quoted(), endpoint, before.line)
			return
		}
	}
	u.counts = append(u.counts, lineCount{endpoint, n, nUnits, line})
	if len(u.counts) == quota.MaxCountsPerChange+1 {
		f.fault(line, "%s has more than %d endpoints", who.quoted(), quota.MaxCountsPerChange)
	}
}

// headerColumns returns which column is which if row is a header, else nil.
func headerColumns(row []string) map[string]int {
	columns := map[string]int{}
	for i, name := range row {
		switch name := strings.ToLower(strings.TrimSpace(name)); name {
		case "user", "endpoint", "used", "units", "org", "start", "end":
			if _, twice := columns[name]; twice {
				return nil
			}
			columns[name] = i
		}
	}
	for _, name := range []string{"user", "endpoint", "used"} {
		if _, ok := columns[name]; !ok {
			return nil
		}
	}
	return columns
}
