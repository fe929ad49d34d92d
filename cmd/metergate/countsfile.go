package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

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
	// windows has the starts of the windows in the file, which export writes, by line.
	windows map[int]string
}

func (f *countsFile) fault(line int, format string, args ...any) {
	f.faults = append(f.faults, csvFault{line, fmt.Sprintf(format, args...)})
}

// parseCounts reads a CSV of user, endpoint, used. With a header, these may be any of the
// columns, and units, org and start others. The users are in the order of the file.
func parseCounts(text []byte) ([]*userCounts, []csvFault) {
	f := &countsFile{byName: map[account]*userCounts{}, windows: map[int]string{}}
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
		if i, ok := column["start"]; ok {
			f.windows[line] = strings.TrimSpace(row[i])
		}
		f.add(line, who, countTexts{row[column["endpoint"]], strings.TrimSpace(row[column["used"]]), units})
	}
	if len(f.users) == 0 && len(f.faults) == 0 {
		f.fault(1, "there are no counts; a line is USER,ENDPOINT,USED")
	}
	return f.users, f.faults
}

// countTexts are the columns of a line with a count. Empty units: each request is one.
type countTexts struct{ endpoint, used, units string }

// add adds a line of the file.
func (f *countsFile) add(line int, who account, text countTexts) {
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
		u = &userCounts{account: who}
		f.byName[who] = u
		f.users = append(f.users, u)
	}
	if len(u.counts) > 0 && f.windows[line] != f.windows[u.counts[0].line] {
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
		case "user", "endpoint", "used", "units", "org", "start":
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
