package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"metergate/quota"
)

func usage(c *console) error {
	f := c.flags()
	admin, asJSON := adminFlag(f), jsonFlag(f)
	at := f.String("at", "", "the `WINDOW` to look at, such as 2026-10 (default: the running windows)")
	days := f.String("days", "", "print the history of `N` days instead: what was used on each")
	who, _, err := c.parseAccount(f)
	if err != nil {
		return err
	}
	switch {
	case *days != "" && *at != "":
		return c.usageError("-days and -at cannot be used together")
	case *days != "" && who.user == "":
		return c.usageError("an organisation has no history; name one of its members")
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	path := who.path("")
	if *at != "" {
		path += "?at=" + url.QueryEscape(*at)
	}
	if *days != "" {
		path = who.path("history") + "?days=" + url.QueryEscape(*days)
	}
	text, err := client.read(adminRequest{method: http.MethodGet, path: path})
	if err != nil {
		return c.asUsage(err)
	}
	if *days != "" {
		return c.showHistory(text, *asJSON)
	}
	return c.showUser(text, *asJSON)
}

// showHistory prints a quota.HistoryUsage in JSON, either as it is or for people.
func (c *console) showHistory(text []byte, asJSON bool) error {
	if asJSON {
		_, err := c.stdout.Write(text)
		return err
	}
	var h quota.HistoryUsage
	if err := decodeResponse(text, &h); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s, %s to %s in %s\n", account{h.Org, h.User}, h.From, h.To, h.Timezone)
	if h.Stale {
		fmt.Fprintln(c.stdout, staleNote)
	}
	fmt.Fprintln(c.stdout)
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	units := slices.ContainsFunc(h.Days, func(d quota.DayTotal) bool { return d.Units != nil })
	header := "DATE\tUSED\t"
	if units {
		header += "UNITS\t"
	}
	fmt.Fprintln(t, header+"ENDPOINTS")
	for _, d := range h.Days {
		fmt.Fprintf(t, "%s\t%d\t", d.Date, d.Used)
		if d.Units != nil {
			fmt.Fprintf(t, "%d\t", *d.Units)
		}
		var endpoints []string
		for _, name := range slices.Sorted(maps.Keys(d.Endpoints)) {
			endpoints = append(endpoints, fmt.Sprintf("%s %d", name, d.Endpoints[name].Used))
		}
		fmt.Fprintln(t, cmp.Or(strings.Join(endpoints, ", "), "-"))
	}
	return t.Flush()
}

// staleNote says that numbers are from an outage.
const staleNote = "the store does not answer: these are the last known numbers"

// An adminUser is what the admin API returns about a user.
type adminUser struct {
	quota.Usage
	Window   string
	Claimed  *string
	Override *struct {
		Plan   string
		Until  *time.Time
		Shared bool
	}
	Anchor *struct {
		Day, Month int
		From       *time.Time
		Set        bool
	}
	Granted []struct {
		Name            string
		Endpoint        string
		Shared          bool
		Per             quota.Period
		Requests, Units int64
	}
}

// showUser prints an adminUser in JSON, either as it is or for people.
func (c *console) showUser(text []byte, asJSON bool) error {
	if asJSON {
		_, err := c.stdout.Write(text)
		return err
	}
	var u adminUser
	if err := decodeResponse(text, &u); err != nil {
		return err
	}
	u.print(c.stdout)
	return nil
}

// print writes a user's state for people.
func (u *adminUser) print(w io.Writer) {
	plan := u.Plan
	if u.Override != nil {
		plan += ", set by an administrator"
		if u.Override.Shared {
			plan += " for the organisation"
		}
		if u.Override.Until != nil {
			plan += " until " + u.Override.Until.Format(time.RFC3339)
		}
	} else if u.Claimed == nil {
		plan += ", the default: no token of the " + account{u.Org, u.User}.noun() + " has been admitted yet"
	}
	fmt.Fprintf(w, "%s, plan %s\n", account{u.Org, u.User}, plan)
	if u.Anchor != nil {
		fmt.Fprintln(w, u.anchorText())
	}
	limit := "unlimited"
	if u.Limit != nil {
		limit = fmt.Sprint(*u.Limit)
	}
	if u.Unit == quota.Units.String() {
		limit += " " + cmp.Or(u.UnitName, u.Unit)
	}
	window := u.Period.Period.String() + " " + u.Window
	if u.Period.Period == quota.Ever || strings.HasPrefix(u.Window, u.Period.Period.String()+"-") { // it says so itself
		window = u.Window
	}
	fmt.Fprintf(w, "%s: %d of %s used, %d in flight, %s\n", window, u.Used, limit, u.InFlight, u.Status)
	if u.Stale {
		fmt.Fprintln(w, staleNote)
	}
	if len(u.Limits) > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		carries, carried := slices.ContainsFunc(u.Limits, func(l quota.LimitUsage) bool { return l.Carried != nil }), ""
		if carries {
			carried = "CARRIED\t"
		}
		fmt.Fprintln(t, "LIMIT\tUSED\tOF\tLEFT\tGRANTED\t"+carried+"RESETS AT")
		for _, l := range u.Limits {
			resetsAt := "never"
			if l.ResetsAt != nil {
				resetsAt = l.ResetsAt.Format(time.RFC3339)
			}
			switch {
			case l.Carried != nil:
				carried = fmt.Sprintf("%d\t", *l.Carried)
			case carries:
				carried = "0\t"
			}
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s%s\n", l.Name, l.Used, l.Limit, l.Remaining, u.granted(l.Name), carried, resetsAt)
		}
		t.Flush()
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := "ENDPOINT\tUSED"
	if u.Unit != "" {
		header += "\tUNITS"
	}
	fmt.Fprintln(t, header)
	for _, endpoint := range slices.Sorted(maps.Keys(u.Endpoints)) {
		e := u.Endpoints[endpoint]
		fmt.Fprintf(t, "%s\t%d", endpoint, e.Used)
		if e.Units != nil {
			fmt.Fprintf(t, "\t%d", *e.Units)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

// anchorText says on which day the user's months begin.
func (u *adminUser) anchorText() string {
	text := fmt.Sprintf("months begin on day %d", u.Anchor.Day)
	if u.Anchor.Month > 0 {
		text += fmt.Sprintf(", years on that day of %s", time.Month(u.Anchor.Month))
	}
	if u.Anchor.From != nil {
		text += ", from " + u.Anchor.From.Format(time.RFC3339) + " on"
	}
	if u.Anchor.Set {
		text += ", set by an administrator"
	}
	return text
}

// granted returns how much was granted on top of the limit of a name in the running window.
func (u *adminUser) granted(name string) (n int64) {
	for _, g := range u.Granted {
		if g.Name == name {
			n = g.Requests + g.Units
		}
	}
	return n
}
