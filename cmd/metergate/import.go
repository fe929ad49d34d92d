package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"metergate/quota"
)

func importCounts(c *console) error {
	f := c.flags("import")
	admin := adminFlag(f)
	perText := f.String("per", "month", "the running `WINDOW` that the counts are of: minute, hour, day, week, month or year")
	args, err := c.arguments(f, "FILE")
	if err != nil {
		return err
	}
	var per quota.Period
	if err := per.UnmarshalText([]byte(*perText)); err != nil {
		return errUsage("import: -per " + err.Error())
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	name, text := args[0], []byte(nil)
	if name == "-" {
		name = "stdin"
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return errUsage("import: " + err.Error())
	}
	users, faults := parseCounts(text)
	if len(faults) == 0 {
		endpoints, err := client.endpoints()
		if err != nil {
			return err
		}
		faults = unknownEndpoints(users, endpoints)
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b csvFault) int { return a.line - b.line })
		for _, fault := range faults {
			fmt.Fprintf(c.stderr, "%s:%d: %s\n", name, fault.line, fault.text)
		}
		return errShown
	}
	counts := 0
	for i, u := range users {
		body := map[string]any{"per": per, "endpoints": u.counts, "reason": "import"}
		if _, err := client.call(http.MethodPut, userPath(u.user, "counts"), body, ""); err != nil {
			return fmt.Errorf("%s:%d: stopped at user %q, after %d of %d users: %w\nImport the file again: counts are set, not added", name, u.line, u.user, i, len(users), err)
		}
		counts += len(u.counts)
	}
	fmt.Fprintf(c.stdout, "imported %d counts of %d users into the running %s\n", counts, len(users), per)
	return nil
}

// endpoints are those of the gateway's configuration.
func (c *adminClient) endpoints() (map[string]quota.EndpointUsage, error) {
	answer, err := c.call(http.MethodGet, userPath("import", ""), nil, "") // of any user
	if err != nil {
		return nil, err
	}
	var u quota.Usage
	if err := json.Unmarshal(answer, &u); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return u.Endpoints, nil
}

// A csvFault is what is wrong in a line of a file.
type csvFault struct {
	line int
	text string
}

// userCounts are those of one user in a file.
type userCounts struct {
	user   string
	line   int // the first
	counts map[string]int64
	lines  map[string]int // by endpoint
}

// parseCounts reads a CSV of user, endpoint, used; users are in the order of the file.
// With a header these can be any of the columns.
func parseCounts(text []byte) (users []*userCounts, faults []csvFault) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))) // spreadsheets write a byte order mark
	r.FieldsPerRecord = -1
	byName := map[string]*userCounts{}
	column := map[string]int{"user": 0, "endpoint": 1, "used": 2}
	columns := len(column)
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var at *csv.ParseError
			if errors.As(err, &at) {
				faults = append(faults, csvFault{at.Line, at.Err.Error()})
			} else {
				faults = append(faults, csvFault{1, err.Error()})
			}
			break // what follows cannot be told apart
		}
		line, _ := r.FieldPos(0)
		if header := headerOf(row); first && header != nil {
			column, columns = header, len(row)
			continue
		}
		if len(row) != columns {
			faults = append(faults, csvFault{line, fmt.Sprintf("there must be %d columns, got %d", columns, len(row))})
			continue
		}
		user, endpoint, used := row[column["user"]], row[column["endpoint"]], strings.TrimSpace(row[column["used"]])
		n, err := strconv.ParseInt(used, 10, 64)
		change := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{endpoint: n}}
		if err != nil {
			faults = append(faults, csvFault{line, fmt.Sprintf("used must be a whole number, got %.80q", used)})
			continue
		}
		if err := change.Validate(user); err != nil {
			faults = append(faults, csvFault{line, strings.TrimPrefix(err.Error(), quota.ErrInvalidChange.Error()+": ")})
			continue
		}
		u := byName[user]
		if u == nil {
			u = &userCounts{user, line, map[string]int64{}, map[string]int{}}
			byName[user] = u
			users = append(users, u)
		}
		if before, ok := u.lines[endpoint]; ok {
			faults = append(faults, csvFault{line, fmt.Sprintf("user %q has a count of %s already, in line %d", user, endpoint, before)})
			continue
		}
		u.counts[endpoint], u.lines[endpoint] = n, line
		if len(u.counts) == quota.MaxCountsPerChange+1 {
			faults = append(faults, csvFault{line, fmt.Sprintf("user %q has more than %d endpoints", user, quota.MaxCountsPerChange)})
		}
	}
	if len(users) == 0 && len(faults) == 0 {
		faults = append(faults, csvFault{1, "there are no counts; a line is USER,ENDPOINT,USED"})
	}
	return users, faults
}

// headerOf says which column is which, if row is a header; nil: it is not.
func headerOf(row []string) map[string]int {
	columns := map[string]int{}
	for i, name := range row {
		switch name := strings.ToLower(strings.TrimSpace(name)); name {
		case "user", "endpoint", "used":
			if _, twice := columns[name]; twice {
				return nil
			}
			columns[name] = i
		}
	}
	if len(columns) < 3 {
		return nil
	}
	return columns
}

// unknownEndpoints are those that the gateway does not have. Nobody would see what is
// counted under them.
func unknownEndpoints(users []*userCounts, endpoints map[string]quota.EndpointUsage) (faults []csvFault) {
	for _, u := range users {
		for endpoint, line := range u.lines {
			if _, ok := endpoints[endpoint]; !ok {
				faults = append(faults, csvFault{line, fmt.Sprintf("no route of the gateway counts under %q, there are %s",
					endpoint, strings.Join(slices.Sorted(maps.Keys(endpoints)), ", "))})
			}
		}
	}
	return faults
}
