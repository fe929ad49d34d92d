package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"metergate/cmd/metergate/counterfile"
	"metergate/quota"
)

// compare shows where the numbers of another counter differ from those of the gateway.
func compare(c *console) error {
	f := c.flags()
	admin, from := adminFlag(f), counterFlags(f)
	at := f.String("at", "", "the `WINDOW` to compare, such as 2026-10 (default: the running one)")
	per := f.String("per", "", "another kind of `WINDOW` at that time: "+quota.PeriodNames+" (default: month)")
	tolerance := f.Int64("tolerance", 0, "by how `MANY` requests numbers may differ and count as equal")
	most := f.Int("n", 20, "the most differences to show, the largest first; 0: all")
	names, err := c.parseAny(f)
	if err != nil {
		return err
	}
	if *most < 0 || *tolerance < 0 {
		return c.usageError("-n and -tolerance must not be negative")
	}
	if err := c.checkCounters(names, from); err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	query := url.Values{}
	if *at != "" {
		query.Set("at", *at)
	}
	if *per != "" || *at == "" {
		query.Set("per", cmp.Or(*per, quota.Month.String()))
	}
	window, err := client.window(query)
	if err != nil {
		return c.asUsage(err)
	}
	read, err := c.readCounters(names, from, counterfile.Options{Window: window, AllowTotals: true})
	if err != nil {
		return err
	}
	if *at == "" && !read.Totals && len(read.Faults.List) == 0 { // a window that is over may have endpoints of that time
		endpoints, err := client.endpoints()
		if err != nil {
			return err
		}
		addUnknownEndpoints(&read.Faults, read.Users, endpoints)
	}
	read.AddPools()
	if len(read.Faults.List) > 0 {
		return c.showFaults(&read.Faults)
	}
	found := newComparison(read, *tolerance, *most, window)
	if err := found.compareWith(client, query, c.stderr); err != nil {
		return err
	}
	if found.listed == 0 && window.Period != quota.Month {
		fmt.Fprintf(c.stderr, "metergate: nobody has a count of the %s %s here: it is counted only where a limit of a plan is per %s; leave -per out to compare months\n", window.Period, window.ID, window.Period)
	}
	found.print(c.stdout)
	c.showSkipped(read, window)
	if found.differ > 0 {
		return errDiffers
	}
	return nil
}

// An amount is what was used of an endpoint.
type amount struct {
	requests int64
	units    int64 // -1: unknown
}

// amounts are by endpoint; with an empty name, of all together.
type amounts map[string]amount

// add adds what was used of an endpoint.
func (a amounts) add(endpoint string, more amount) {
	sum, known := a[endpoint]
	switch {
	case !known:
		sum = more
	case sum.units < 0 || more.units < 0:
		sum = amount{sum.requests + more.requests, -1}
	default:
		sum = amount{sum.requests + more.requests, sum.units + more.units}
	}
	a[endpoint] = sum
}

// A difference is an endpoint of which one side has counted more.
type difference struct {
	account              account
	endpoint             string // empty: all together
	units                bool   // it is of units, not of requests
	here, file           int64
	onlyHere, onlyInFile bool // the other side does not have the account
}

func (d *difference) size() int64 { return max(d.here-d.file, d.file-d.here) }

// A comparison finds where a file and the gateway differ.
type comparison struct {
	totals    bool // the file does not tell endpoints apart
	bounded   bool // the file says when the windows of users begin and end
	window    quota.Window
	tolerance int64
	most      int                                 // differences to keep; 0: all
	file      map[account]*counterfile.UserCounts // which no user of the gateway was compared with yet

	found                        []difference // the largest, and some more
	left                         int          // of those that were found
	listed                       int          // rows of the gateway's list
	users, orgs                  int
	differ, onlyHere, onlyInFile int
	otherMonths                  map[account]bool // whose windows are not that of the calendar
	here, inFile                 int64            // requests of all
}

func newComparison(read *counterfile.Result, tolerance int64, most int, window quota.Window) *comparison {
	c := &comparison{totals: read.Totals, tolerance: tolerance, most: most, window: window, otherMonths: map[account]bool{},
		file: make(map[account]*counterfile.UserCounts, len(read.Users))}
	for _, u := range read.Users {
		c.bounded = c.bounded || !u.Window.IsZero()
		c.file[account{u.Account.Org, u.Account.User}] = u
	}
	return c
}

// compareWith compares with what the gateway has in the window that a query of the admin API names.
func (c *comparison) compareWith(client *adminClient, query url.Values, progress io.Writer) error {
	query = maps.Clone(query)
	query.Set("format", "jsonl")
	res, err := client.send(context.Background(), adminRequest{method: http.MethodGet, path: "/admin/users?" + query.Encode()})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// With windows of their own, users may have two in one month of the calendar.
	several := map[account]amounts{}
	told := time.Now()
	for dec := json.NewDecoder(res.Body); ; {
		var row listedUser
		if err := dec.Decode(&row); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("the list of users broke off: %w", err)
		}
		c.listed++
		tellProgress(progress, &told, "compared %d users", c.listed)
		who := account{row.Org, row.User}
		if !c.bounded && !row.isOf(counterfile.Bounds{Start: c.window.Start, End: c.window.End}) {
			c.otherMonths[who] = true
			delete(c.file, who)
			continue
		}
		used := row.amounts(c.totals)
		switch u := c.file[who]; {
		case u != nil && !row.isOf(u.Window): // the file has the counts of the user's other window
		case row.Start == nil && row.End == nil:
			c.compareUser(who, used)
		case several[who] == nil:
			several[who] = used
		default:
			for endpoint, more := range used {
				several[who].add(endpoint, more)
			}
		}
	}
	for who, used := range several {
		c.compareUser(who, used)
	}
	return c.compareRest(client, query)
}

// compareRest compares the accounts of the file that are in no list of users.
func (c *comparison) compareRest(client *adminClient, query url.Values) error {
	query.Del("format")
	for _, who := range slices.SortedFunc(maps.Keys(c.file), account.compare) {
		if who.user != "" {
			c.compareUser(who, nil)
			continue
		}
		var pool adminUser
		if err := client.readJSON(adminRequest{method: http.MethodGet, path: who.path("") + "?" + query.Encode()}, &pool); err != nil {
			return err
		}
		if start := pool.Period.Start; start != nil && !c.window.Start.IsZero() && !start.Equal(c.window.Start) {
			c.otherMonths[who] = true
			delete(c.file, who)
			continue
		}
		row := listedUser{Endpoints: map[string]int64{}}
		for name, e := range pool.Endpoints {
			row.Endpoints[name] = e.Used
			if e.Units != nil {
				if row.Units == nil {
					row.Units = map[string]int64{}
				}
				row.Units[name] = *e.Units
			}
		}
		if c.file[who].Derived && pool.Used == 0 && len(pool.Limits) == 0 {
			delete(c.file, who) // no plan has made the members share anything
			continue
		}
		c.compareUser(who, row.amounts(c.totals))
	}
	return nil
}

// A listedUser is a line of the list of users that the admin API returns.
type listedUser struct {
	User, Org  string
	Endpoints  map[string]int64
	Units      map[string]int64 // nil: the configuration is not about units
	Start, End *time.Time       // of the user's window, where users have their own
}

// amounts returns what the user has used, by endpoint or all together.
func (u *listedUser) amounts(totals bool) amounts {
	used := amounts{}
	for endpoint, n := range u.Endpoints {
		units := int64(-1)
		if u.Units != nil {
			units = u.Units[endpoint]
		}
		if totals {
			endpoint = ""
		}
		used.add(endpoint, amount{n, units})
	}
	return used
}

// isOf reports whether the user's window has these bounds, as far as they are known.
func (u *listedUser) isOf(b counterfile.Bounds) bool {
	return (u.Start == nil || b.Start.IsZero() || u.Start.Equal(b.Start)) && (u.End == nil || b.End.IsZero() || u.End.Equal(b.End))
}

// compareUser compares an account. here is nil if the gateway does not have it.
func (c *comparison) compareUser(who account, here amounts) {
	u := c.file[who]
	delete(c.file, who)
	if who.user == "" {
		c.orgs++
	} else {
		c.users++
	}
	onlyHere, onlyInFile := u == nil, here == nil
	inFile := amounts{}
	if u != nil {
		for _, count := range u.Counts {
			inFile[count.Endpoint] = amount{count.Used, count.Units}
			if who.user != "" { // what an organisation has used, its members have used
				c.inFile += count.Used
			}
		}
	}
	endpoints := maps.Clone(inFile)
	for endpoint, used := range here {
		if who.user != "" {
			c.here += used.requests
		}
		endpoints[endpoint] = used
	}
	differs := false
	for endpoint := range endpoints {
		a, b := here[endpoint], inFile[endpoint]
		d := difference{account: who, endpoint: endpoint, here: a.requests, file: b.requests, onlyHere: onlyHere, onlyInFile: onlyInFile}
		differs = c.add(d) || differs
		if u != nil && here != nil && a.units >= 0 && b.units >= 0 {
			d.units, d.here, d.file = true, a.units, b.units
			differs = c.add(d) || differs
		}
	}
	if !differs {
		return
	}
	c.differ++
	if onlyHere {
		c.onlyHere++
	}
	if onlyInFile {
		c.onlyInFile++
	}
}

// spareDifferences is how many more differences than asked for are kept before they are sorted.
const spareDifferences = 10_000

// add adds a difference, and reports whether it is one.
func (c *comparison) add(d difference) bool {
	if d.size() <= c.tolerance {
		return false
	}
	c.found = append(c.found, d)
	if c.most > 0 && len(c.found) == c.most+spareDifferences {
		c.keepLargest()
	}
	return true
}

// keepLargest sorts the differences, and keeps no more than are shown.
func (c *comparison) keepLargest() {
	slices.SortFunc(c.found, func(a, b difference) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), a.account.compare(b.account), strings.Compare(a.endpoint, b.endpoint))
	})
	if c.most > 0 && len(c.found) > c.most {
		c.left += len(c.found) - c.most
		c.found = c.found[:c.most]
	}
}

// print writes the largest differences, and a summary.
func (c *comparison) print(w io.Writer) {
	c.keepLargest()
	shown := c.found
	if len(shown) > 0 {
		printDifferences(w, shown)
		if c.left > 0 {
			fmt.Fprintf(w, "and %d more; -n 0 shows all\n", c.left)
		}
		fmt.Fprintln(w)
	}
	equal := "agree"
	if c.tolerance > 0 {
		equal = fmt.Sprintf("agree within %d", c.tolerance)
	}
	of := plural(c.users, "user")
	if c.orgs > 0 {
		of += " and " + plural(c.orgs, "organisation")
	}
	fmt.Fprintf(w, "%s %s: of %s, %d %s and %d differ (%d only here, %d only in the file)\n",
		c.window.Period, c.window.ID, of, c.users+c.orgs-c.differ, equal, c.differ, c.onlyHere, c.onlyInFile)
	fmt.Fprintf(w, "all together: %s here, %d in the file\n", plural(int(c.here), "request"), c.inFile)
	if n := len(c.otherMonths); n > 0 {
		fmt.Fprintf(w, "left out %s whose %s begins on a day of its own\n", plural(n, "account"), c.window.Period)
	}
}

func printDifferences(w io.Writer, shown []difference) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header, org := "USER\tENDPOINT\tHERE\tFILE\tDIFFERENCE", ""
	members := slices.ContainsFunc(shown, func(d difference) bool { return d.account.org != "" })
	if members {
		header = "ORGANISATION\t" + header
	}
	fmt.Fprintln(t, header)
	for _, d := range shown {
		if members {
			org = cmp.Or(d.account.org, "-") + "\t"
		}
		endpoint, here, inFile := cmp.Or(d.endpoint, "(all)"), fmt.Sprint(d.here), fmt.Sprint(d.file)
		if d.units {
			endpoint += " (units)"
		}
		if d.onlyInFile {
			here = "-"
		}
		if d.onlyHere {
			inFile = "-"
		}
		fmt.Fprintf(t, "%s%s\t%s\t%s\t%s\t%+d\n", org, cmp.Or(d.account.user, "-"), endpoint, here, inFile, d.here-d.file)
	}
	t.Flush()
}
