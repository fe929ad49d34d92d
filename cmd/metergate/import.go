package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"metergate/quota"
)

func importCounts(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	perText := f.String("per", "month", "the running `WINDOW` that the counts are for: "+quota.PeriodNames)
	args, err := c.parse(f, "FILE")
	if err != nil {
		return err
	}
	var per quota.Period
	if err := per.UnmarshalText([]byte(*perText)); err != nil {
		return c.usageError("-per %v", err)
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
		return c.usageError("%v", err)
	}
	users, faults := parseCounts(text)
	if len(faults) == 0 {
		endpoints, err := client.endpoints()
		if err != nil {
			return err
		}
		faults = unknownEndpoints(users, endpoints)
	}
	if len(faults) == 0 {
		if faults, err = client.otherWindows(users, per); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b csvFault) int { return a.line - b.line })
		for _, fault := range faults {
			fmt.Fprintf(c.stderr, "%s:%d: %s\n", name, fault.line, fault.text)
		}
		return errShown
	}
	counts, err := client.sendCounts(users, per, c.stderr)
	if err != nil {
		return fmt.Errorf("%s: %w\nImport the file again: counts are set, not added", name, err)
	}
	window := "the running " + per.String()
	if per == quota.Ever {
		window = "the window " + per.String()
	}
	fmt.Fprintf(c.stdout, "imported %s of %s into %s\n", plural(counts, "count"), plural(len(users), "user"), window)
	return nil
}

const (
	// importUsers and importBytes bound one request of an import. The admin API takes 1000
	// users and 1 MiB.
	importUsers = 1000
	importBytes = 512 << 10
	// importRequests is how many requests are under way: while one is on its way to disk,
	// the gateway reads the next.
	importRequests = 2
	// progressEvery is the time between two lines about a long import.
	progressEvery = 5 * time.Second
)

// sendCounts sets the counts of users in the running window of a period, and returns how many
// counts there were. It tells progress how far it is.
func (c *adminClient) sendCounts(users []*userCounts, per quota.Period, progress io.Writer) (counts int, err error) {
	// Neighbours in the order of the embedded store share pages of its file.
	slices.SortFunc(users, func(a, b *userCounts) int { return a.account.compare(b.account) })
	path := countsPath(url.Values{"per": {per.String()}, "reason": {"import"}})
	type part struct {
		users, counts int
		err           error
	}
	results := make(chan part, importRequests)
	begun, done, told := 0, 0, time.Now()
	for running := 0; ; {
		if begun < len(users) && running < importRequests && err == nil {
			body, n, sum := encodeCounts(users[begun:])
			go func() {
				_, err := c.read(adminRequest{method: http.MethodPut, path: path, lines: body})
				results <- part{n, sum, err}
			}()
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
		done, counts = done+p.users, counts+p.counts
		if time.Since(told) >= progressEvery {
			told = time.Now()
			fmt.Fprintf(progress, "imported %d of %d users\n", done, len(users))
		}
	}
	if refused := (*errRefused)(nil); errors.As(err, &refused) && refused.status == http.StatusNotFound {
		err = errEarlierRelease
	}
	if err != nil {
		return counts, fmt.Errorf("stopped after %d of %d users: %w", done, len(users), err)
	}
	return counts, nil
}

var errEarlierRelease = errors.New("the gateway is of an earlier release; import with the command of that release")

func countsPath(query url.Values) string { return "/admin/counts?" + query.Encode() }

// otherWindows returns a fault for each count that the file has of another window than the one that
// is running for its account. Only the gateway knows that window. Nothing is changed.
func (c *adminClient) otherWindows(users []*userCounts, per quota.Period) (faults []csvFault, err error) {
	var rest []*userCounts
	for _, u := range users {
		if !u.window.isZero() {
			rest = append(rest, u)
		}
	}
	for path := countsPath(url.Values{"per": {per.String()}, "dry_run": {"true"}}); len(rest) > 0; {
		body, n, _ := encodeCounts(rest)
		_, err := c.read(adminRequest{method: http.MethodPut, path: path, lines: body})
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
			return nil, err
		case refused.status == http.StatusNotFound, refused.status == http.StatusBadRequest && strings.Contains(refused.detail, `"dry_run"`):
			return nil, errEarlierRelease
		case json.Unmarshal(refused.body, &problem) != nil || len(problem.OtherWindows) == 0:
			return nil, err
		}
		for _, other := range problem.OtherWindows {
			if other.Line < 1 || other.Line > n {
				return nil, err
			}
			u, running := rest[other.Line-1], "the running "+per.String()+" is "+fileWindow{other.Start, other.End}.String()
			if per == quota.Ever {
				running = "the window ever has no start and no end"
			}
			for _, count := range u.counts {
				faults = append(faults, csvFault{count.line, fmt.Sprintf("%s has a count of the window %s, but %s; export the running window, or remove the columns start and end to import into it on purpose",
					u.account.quoted(), u.window, running)})
			}
		}
		rest = rest[n:]
	}
	return faults, nil
}

// encodeCounts returns a request's body with the first of the users, how many these are and how
// many counts they have.
func encodeCounts(users []*userCounts) (body []byte, n, counts int) {
	for _, u := range users {
		if n == importUsers || len(body) > importBytes {
			break
		}
		endpoints, units := make(map[string]int64, len(u.counts)), map[string]int64{}
		for _, c := range u.counts {
			endpoints[c.endpoint] = c.used
			if c.units >= 0 {
				units[c.endpoint] = c.units
			}
		}
		members := map[string]any{"user": u.account.user, "endpoints": endpoints}
		if u.account.org != "" {
			members["org"] = u.account.org
		}
		if len(units) > 0 {
			members["units"] = units
		}
		if !u.window.start.IsZero() {
			members["start"] = u.window.start
		}
		if !u.window.end.IsZero() {
			members["end"] = u.window.end
		}
		line, err := json.Marshal(members)
		if err != nil {
			panic(err) // strings and numbers always marshal
		}
		body = append(append(body, line...), '\n')
		n, counts = n+1, counts+len(u.counts)
	}
	return body, n, counts
}

// endpoints returns the endpoints of the gateway's configuration. The admin API lists
// them for any user, also for one it has never seen.
func (c *adminClient) endpoints() (map[string]quota.EndpointUsage, error) {
	var u quota.Usage
	err := c.readJSON(adminRequest{method: http.MethodGet, path: account{user: "import"}.path("")}, &u)
	return u.Endpoints, err
}

// unknownEndpoints returns a fault for each count of an endpoint that the gateway does
// not have. Nobody would ever see such a count.
func unknownEndpoints(users []*userCounts, endpoints map[string]quota.EndpointUsage) (faults []csvFault) {
	for _, u := range users {
		for _, c := range u.counts {
			if _, ok := endpoints[c.endpoint]; !ok {
				faults = append(faults, csvFault{c.line, fmt.Sprintf("no route of the gateway counts under %q; %s",
					c.endpoint, quota.ListNames("endpoint", slices.Sorted(maps.Keys(endpoints))))})
			}
		}
	}
	return faults
}
