package counterfile

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// readCSV reads a CSV of user, endpoint, used. With a header, these may be any of the columns, and
// units, org, start and end others.
func (r *reader) readCSV(name string, text io.Reader) {
	lines := csv.NewReader(text)
	lines.FieldsPerRecord = -1
	lines.ReuseRecord = true
	column := map[string]int{"user": 0, "endpoint": 1, "used": 2}
	columns := len(column)
	line := 1
	for first := true; ; first = false {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			cause := err
			var at *csv.ParseError
			if errors.As(err, &at) {
				line, cause = at.Line, at.Err
			}
			r.Faults.Add(Place{name, line}, "%v", readable(cause))
			return // what follows cannot be split into fields
		}
		r.countRow()
		line, _ = lines.FieldPos(0)
		at := Place{name, line}
		if first {
			if fault := incompleteHeader(fields, r.AllowTotals); fault != "" {
				r.Faults.Add(at, "%s", fault)
				return
			}
			header := r.headerColumns(fields)
			if header != nil {
				column, columns = header, len(fields)
			}
			_, hasEndpoint := column["endpoint"]
			if len(r.Users) > 0 && hasEndpoint == r.Totals {
				r.Faults.Add(at, "of the files, some have a column endpoint and some do not; read them one by one")
				return
			}
			if r.Totals = !hasEndpoint; header != nil {
				continue
			}
		}
		if len(fields) != columns {
			r.Faults.Add(at, "there must be %d columns, separated by commas, got %d", columns, len(fields))
			continue
		}
		field := func(name string) string {
			if i, ok := column[name]; ok {
				return fields[i]
			}
			return ""
		}
		bound := func(name string) (t time.Time, ok bool) {
			text := strings.TrimSpace(field(name))
			if text == "" {
				return t, true
			}
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				r.Faults.Add(at, "%s must be a time like 2026-11-15T00:00:00Z, or empty, got %.80q", name, field(name))
			}
			return t.UTC(), err == nil
		}
		start, startOK := bound("start")
		end, endOK := bound("end")
		if startOK && endOK {
			r.add(at, row{Account{field("org"), field("user")}, field("endpoint"), strings.TrimSpace(field("used")), strings.TrimSpace(field("units")), Bounds{start, end}})
		}
	}
}

// incompleteHeader says what is wrong with a header that lacks a needed column.
func incompleteHeader(fields []string, allowTotals bool) string {
	has := map[string]bool{}
	for _, name := range fields {
		has[strings.ToLower(strings.TrimSpace(name))] = true
	}
	// An id may be "user", so one name alone does not make a header.
	if !has["user"] && !has["used"] || len(fields) == 3 && isNumber(fields[2]) {
		return ""
	}
	for _, name := range []string{"user", "endpoint", "used"} {
		if !has[name] && (name != "endpoint" || !allowTotals) {
			return fmt.Sprintf("the header has no column %s; it has %s", name, strings.Join(fields, ", "))
		}
	}
	return ""
}

// isNumber reports whether a field is a count.
func isNumber(field string) bool {
	_, err := wholeNumber(strings.TrimSpace(field))
	return err == nil
}

// headerColumns returns which column is which if fields are a header, else nil.
func (r *reader) headerColumns(fields []string) map[string]int {
	columns := map[string]int{}
	for i, name := range fields {
		switch name := strings.ToLower(strings.TrimSpace(name)); name {
		case "user", "endpoint", "used", "units", "org", "start", "end":
			if _, twice := columns[name]; twice {
				return nil
			}
			columns[name] = i
		}
	}
	for _, name := range []string{"user", "endpoint", "used"} {
		if _, ok := columns[name]; !ok && (name != "endpoint" || !r.AllowTotals) {
			return nil
		}
	}
	return columns
}
