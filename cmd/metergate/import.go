package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"metergate/cmd/metergate/counterfile"
	"metergate/quota"
)

func importCounts(c *console) error {
	f := c.flags()
	admin, from := adminFlag(f), counterFlags(f)
	perText := f.String("per", "month", "the running `WINDOW` that the counts are for: "+quota.PeriodNames)
	orgs := f.String("orgs", "", "what becomes of organisations without a row of their own: `sum` sets their counts to the sum of their members' rows, keep leaves them as they are (default: sum with -format dynamodb, keep with csv)")
	replace := f.Bool("replace", false, "set the endpoints to 0 for which an account of the files has no row")
	patience := f.Duration("retry-for", 3*time.Minute, "how `LONG` to go on while the gateway or its store does not answer")
	names, err := c.parseAny(f)
	if err != nil {
		return err
	}
	var per quota.Period
	if err := per.UnmarshalText([]byte(*perText)); err != nil {
		return c.usageError("-per %v", err)
	}
	if !slices.Contains([]string{"", "sum", "keep"}, *orgs) {
		return c.usageError("-orgs must be sum or keep, got %q", *orgs)
	}
	if *patience < 0 {
		return c.usageError("-retry-for must not be negative")
	}
	if err := c.checkCounters(names, from); err != nil {
		return err
	}
	if from.mapping != nil && !from.mapping.HasEndpoint() {
		return c.usageError("-map: %v", counterfile.ErrNoEndpoint)
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	client.patience = *patience
	var running quota.Window
	if from.mapping != nil && from.mapping.HasWindow() {
		if running, err = client.window(url.Values{"per": {per.String()}}); err != nil {
			return err
		}
	}
	read, err := c.readCounters(names, from, counterfile.Options{Window: running})
	if err != nil {
		return err
	}
	counts, users := 0, len(read.Users)
	for _, u := range read.Users {
		counts += len(u.Counts)
	}
	pools, poolsLeftOut := 0, 0
	if *orgs == "sum" || *orgs == "" && from.mapping != nil {
		pools, poolsLeftOut = read.AddPools()
	}
	if err := client.checkCounts(read, per, running, *replace, c.stderr); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
	}
	if len(read.Faults.List) > 0 {
		return c.showFaults(&read.Faults)
	}
	if err := client.sendCounts(read.Users, per, c.stderr); err != nil {
		return fmt.Errorf("%s: %w\nImport the same again: counts are set, not added", strings.Join(names, ", "), err)
	}
	window := "the running " + per.String()
	if per == quota.Ever {
		window = "the window " + per.String()
	}
	fmt.Fprintf(c.stdout, "imported %s of %s into %s\n", plural(counts, "count"), plural(users, "user"), window)
	c.showPools(pools, poolsLeftOut)
	c.showSkipped(read, running)
	return c.warnOfNoLimit(client, read.Users[0], per)
}

// warnOfNoLimit warns if no limit of a user counts by the period. The month is shown even then.
func (c *console) warnOfNoLimit(client *adminClient, of *counterfile.UserCounts, per quota.Period) error {
	if per == quota.Month {
		return nil
	}
	who, u := account{of.Account.Org, of.Account.User}, quota.Usage{}
	if err := client.readJSON(adminRequest{method: http.MethodGet, path: who.path("")}, &u); err != nil {
		return err
	}
	if !slices.ContainsFunc(u.Limits, func(l quota.LimitUsage) bool { return l.Period == per }) {
		fmt.Fprintf(c.stderr, "metergate: no limit of the plan %s, which %s has, is per %s; without -per, counts are imported into the month\n", u.Plan, who, per)
	}
	return nil
}

// showPools says what became of the organisations that have no row of their own.
func (c *console) showPools(set, leftOut int) {
	if set > 0 {
		fmt.Fprintf(c.stdout, "set the counts of %s to the sum of their members\n", plural(set, "organisation"))
	}
	if leftOut > 0 {
		fmt.Fprintf(c.stdout, "left the counts of %s as they are, because the members' rows have a start or an end; add rows with org and an empty user\n", plural(leftOut, "organisation"))
	}
}

// checkCounts adds a fault for each count that the gateway would not take or nobody would see. With
// replace it also adds a count of 0 for each endpoint of which an account has none. Nothing is changed.
func (c *adminClient) checkCounts(read *counterfile.Result, per quota.Period, running quota.Window, replace bool, progress io.Writer) error {
	if len(read.Faults.List) > 0 {
		return nil
	}
	endpoints, err := c.endpoints()
	if err != nil {
		return err
	}
	if addUnknownEndpoints(&read.Faults, read.Users, endpoints); len(read.Faults.List) > 0 {
		return nil
	}
	if replace {
		addZeros(read.Users, slices.Sorted(maps.Keys(endpoints)))
	}
	cure := "export the running window, or remove the columns start and end to import into it on purpose"
	if !running.Start.IsZero() {
		// The running window of a user may be another, or begin before all is sent.
		cure = "leave window out of -map to import into it on purpose"
		for _, u := range read.Users {
			u.Window = counterfile.Bounds{Start: running.Start, End: running.End}
		}
	}
	return c.addOtherWindows(&read.Faults, read.Users, per, cure, progress)
}

// addZeros adds a count of 0 for each endpoint of which an account has none.
func addZeros(users []*counterfile.UserCounts, endpoints []string) {
	for _, u := range users {
		for _, name := range endpoints {
			if !slices.ContainsFunc(u.Counts, func(count counterfile.Count) bool { return count.Endpoint == name }) {
				u.Counts = append(u.Counts, counterfile.Count{Endpoint: name, Units: -1, Place: u.Counts[0].Place})
			}
		}
	}
}

// counterSource says how the files of another counter are read.
type counterSource struct {
	format  string
	maps    string // as given with -map
	mapping *counterfile.Mapping
	sum     bool
}

// counterFlags adds -format, -map and -sum.
func counterFlags(f *flag.FlagSet) *counterSource {
	s := &counterSource{}
	f.StringVar(&s.format, "format", "csv", "`FORMAT` of the files: csv, or dynamodb for an export of a table to S3, its folder, or the output of aws dynamodb scan")
	f.Func("map", "which attributes of DynamoDB have what: `user=A,used=A`, and endpoint=A (or endpoint=@NAME for all rows), org=A, units=A, window=A to read only the rows of one window", func(text string) error {
		if s.maps != "" {
			s.maps += ","
		}
		s.maps += text
		return nil
	})
	f.BoolVar(&s.sum, "sum", false, "add up the rows of one user and endpoint")
	return s
}

// checkCounters checks the names of files and how they are to be read.
func (c *console) checkCounters(names []string, from *counterSource) (err error) {
	switch {
	case len(names) == 0:
		return c.usageError("FILE is needed")
	case from.format != "csv" && from.format != "dynamodb":
		return c.usageError("-format must be csv or dynamodb, got %q", from.format)
	case from.format == "csv" && from.maps != "":
		return c.usageError("-map is for -format dynamodb; the first line of a CSV names its columns")
	case from.format == "dynamodb" && from.maps == "":
		return c.usageError("-format dynamodb needs -map %s", counterfile.MappingForm)
	case from.maps != "":
		if from.mapping, err = counterfile.ParseMapping(from.maps); err != nil {
			return c.usageError("-map: %v", err)
		}
	}
	return nil
}

// readCounters reads files.
func (c *console) readCounters(names []string, from *counterSource, o counterfile.Options) (*counterfile.Result, error) {
	o.Mapping, o.Sum, o.Stdin = from.mapping, from.sum, os.Stdin
	told := time.Now()
	o.Progress = func(rows int) { tellProgress(c.stderr, &told, "read %d rows", rows) }
	read, err := counterfile.Read(names, o)
	if err != nil {
		return nil, c.usageError("%v", err)
	}
	return read, nil
}

// window returns the window of the calendar that a query of the admin API names.
func (c *adminClient) window(query url.Values) (quota.Window, error) {
	var u adminUser
	err := c.readJSON(adminRequest{method: http.MethodGet, path: account{user: "import"}.path("") + "?" + query.Encode()}, &u)
	if err != nil {
		return quota.Window{}, err
	}
	w := quota.Window{ID: u.Window, Period: u.Period.Period}
	if u.Period.Start != nil && u.Period.End != nil {
		w.Start, w.End = *u.Period.Start, *u.Period.End
	}
	return w, nil
}

// showFaults prints what is wrong with files, in the order of the files and their lines.
func (c *console) showFaults(faults *counterfile.Faults) error {
	order := map[string]int{}
	for _, fault := range faults.List {
		if _, known := order[fault.File]; !known {
			order[fault.File] = len(order)
		}
	}
	slices.SortStableFunc(faults.List, func(a, b counterfile.Fault) int {
		return cmp.Or(order[a.File]-order[b.File], a.Line-b.Line)
	})
	for _, fault := range faults.List {
		fmt.Fprintln(c.stderr, fault)
	}
	if faults.More > 0 {
		fmt.Fprintf(c.stderr, "and %s more\n", plural(faults.More, "fault"))
	}
	return errShown
}

// showSkipped says how many rows were not read.
func (c *console) showSkipped(read *counterfile.Result, window quota.Window) {
	if read.Skipped > 0 {
		fmt.Fprintf(c.stdout, "skipped %s of other windows than %s\n", plural(read.Skipped, "row"), window.ID)
	}
}

const (
	// importUsers and importBytes bound one request of an import. The admin API takes 1000
	// users and 1 MiB.
	importUsers = 1000
	importBytes = 512 << 10
	// importRequests is how many requests are under way: while one is on its way to disk,
	// the gateway reads the next.
	importRequests = 2
	// progressEvery is the time between two lines about what takes long.
	progressEvery = 5 * time.Second
)

// sendCounts sets the counts of users in the running window of a period. It tells progress how far it is.
func (c *adminClient) sendCounts(users []*counterfile.UserCounts, per quota.Period, progress io.Writer) (err error) {
	// Neighbours in the order of the embedded store share pages of its file.
	slices.SortFunc(users, func(a, b *counterfile.UserCounts) int {
		return cmp.Or(strings.Compare(a.Account.Org, b.Account.Org), strings.Compare(a.Account.User, b.Account.User))
	})
	path := countsPath(url.Values{"per": {per.String()}, "reason": {"import"}})
	type part struct {
		users int
		err   error
	}
	results := make(chan part, importRequests)
	begun, done, told := 0, 0, time.Now()
	for running := 0; ; {
		if begun < len(users) && running < importRequests && err == nil {
			body, n := encodeCounts(users[begun:])
			go func() { results <- part{n, c.putCounts(path, body)} }()
			begun += n
			running++
			continue
		}
		if running == 0 {
			break
		}
		p := <-results
		running--
		if p.err != nil {
			err = p.err
			continue
		}
		done += p.users
		tellProgress(progress, &told, "imported %d of %d users", done, len(users))
	}
	if refused := (*errRefused)(nil); errors.As(err, &refused) && refused.status == http.StatusNotFound {
		err = errEarlierRelease
	}
	if err != nil {
		return fmt.Errorf("stopped after %d of %d users: %w", done, len(users), err)
	}
	return nil
}

// tellProgress prints how far a command is, unless it has done so in the last seconds.
func tellProgress(w io.Writer, told *time.Time, format string, args ...any) {
	if time.Since(*told) >= progressEvery {
		*told = time.Now()
		fmt.Fprintf(w, format+"\n", args...)
	}
}

// putCounts sends counts, again and again while the gateway or its store does not answer: counts are
// set, so it does not matter which of them were set before.
func (c *adminClient) putCounts(path string, body []byte) error {
	begun := time.Now()
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		_, err := c.read(adminRequest{method: http.MethodPut, path: path, lines: body})
		var refused *errRefused
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && refused.status != http.StatusBadGateway && refused.status != http.StatusServiceUnavailable && refused.status != http.StatusGatewayTimeout:
			return err
		case time.Since(begun)+pause > c.patience:
			if refused != nil { // its advice is for who sends requests by hand
				err = errors.New(strings.TrimSuffix(strings.SplitAfter(refused.detail, ". ")[0], " "))
			}
			return fmt.Errorf("gave up after %s: %w", time.Since(begun).Round(time.Second), err)
		}
		time.Sleep(pause)
	}
}

var errEarlierRelease = errors.New("the gateway is of an earlier release; import with the command of that release")

func countsPath(query url.Values) string { return "/admin/counts?" + query.Encode() }

// addOtherWindows adds a fault for each count that the file has of another window than the one that
// is running for its account, and says how that can be cured. Only the gateway knows that window. Nothing is
// changed.
func (c *adminClient) addOtherWindows(faults *counterfile.Faults, users []*counterfile.UserCounts, per quota.Period, cure string, progress io.Writer) error {
	var rest []*counterfile.UserCounts
	for _, u := range users {
		if !u.Window.IsZero() {
			rest = append(rest, u)
		}
	}
	all, told := len(rest), time.Now()
	for path := countsPath(url.Values{"per": {per.String()}, "dry_run": {"true"}}); len(rest) > 0; {
		tellProgress(progress, &told, "checked %d of %d users", all-len(rest), all)
		body, n := encodeCounts(rest)
		err := c.putCounts(path, body)
		var refused *errRefused
		var problem struct {
			OtherWindows []struct {
				Line       int
				Start, End time.Time
			} `json:"other_windows"`
		}
		switch {
		case err == nil:
		case !errors.As(err, &refused):
			return err
		case refused.status == http.StatusNotFound, refused.status == http.StatusBadRequest && strings.Contains(refused.detail, `"dry_run"`):
			return errEarlierRelease
		case json.Unmarshal(refused.body, &problem) != nil || len(problem.OtherWindows) == 0:
			return err
		}
		for _, other := range problem.OtherWindows {
			if other.Line < 1 || other.Line > n {
				return err
			}
			u, running := rest[other.Line-1], "the running "+per.String()+" is "+counterfile.Bounds{Start: other.Start, End: other.End}.String()
			if per == quota.Ever {
				running = "the window ever has no start and no end"
			}
			for _, count := range u.Counts {
				faults.Add(count.Place, "%s has a count of the window %s, but %s; %s", u.Account, u.Window, running, cure)
			}
		}
		rest = rest[n:]
	}
	return nil
}

// encodeCounts returns a request's body with the first of the users, and how many these are.
func encodeCounts(users []*counterfile.UserCounts) (body []byte, n int) {
	for _, u := range users {
		if n == importUsers || len(body) > importBytes {
			break
		}
		endpoints, units := make(map[string]int64, len(u.Counts)), map[string]int64{}
		for _, c := range u.Counts {
			endpoints[c.Endpoint] = c.Used
			if c.Units >= 0 {
				units[c.Endpoint] = c.Units
			}
		}
		members := map[string]any{"user": u.Account.User, "endpoints": endpoints}
		if u.Account.Org != "" {
			members["org"] = u.Account.Org
		}
		if len(units) > 0 {
			members["units"] = units
		}
		if !u.Window.Start.IsZero() {
			members["start"] = u.Window.Start
		}
		if !u.Window.End.IsZero() {
			members["end"] = u.Window.End
		}
		line, err := json.Marshal(members)
		if err != nil {
			panic(err) // strings and numbers always marshal
		}
		body = append(append(body, line...), '\n')
		n++
	}
	return body, n
}

// endpoints returns the endpoints of the gateway's configuration. The admin API lists
// them for any user, also for one it has never seen.
func (c *adminClient) endpoints() (map[string]quota.EndpointUsage, error) {
	var u quota.Usage
	err := c.readJSON(adminRequest{method: http.MethodGet, path: account{user: "import"}.path("")}, &u)
	return u.Endpoints, err
}

// addUnknownEndpoints adds a fault for each count of an endpoint that the gateway does not have. Nobody
// would ever see such a count.
func addUnknownEndpoints(faults *counterfile.Faults, users []*counterfile.UserCounts, endpoints map[string]quota.EndpointUsage) {
	for _, u := range users {
		for _, c := range u.Counts {
			if _, ok := endpoints[c.Endpoint]; !ok {
				faults.Add(c.Place, "no route of the gateway counts under %q; %s", c.Endpoint, quota.ListNames("endpoint", slices.Sorted(maps.Keys(endpoints))))
			}
		}
	}
}
