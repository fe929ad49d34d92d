package main

import (
	"encoding/json"
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
	f := c.flags("usage")
	admin := adminFlag(f)
	at := f.String("at", "", "the `WINDOW` to look at, 2026-10 say; none: the running ones")
	asJSON := f.Bool("json", false, "print the object that the admin API answers")
	args, err := c.arguments(f, "USER")
	if err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	path := userPath(args[0], "")
	if *at != "" {
		path += "?at=" + url.QueryEscape(*at)
	}
	answer, err := client.call(http.MethodGet, path, nil, "")
	if err != nil {
		return asUsage("usage", err)
	}
	return c.showUser(answer, *asJSON)
}

// print writes a user's state for people.
func (u *adminUser) print(w io.Writer) {
	plan := u.Plan
	switch {
	case u.Override != nil && u.Override.Until != nil:
		plan += ", set by an administrator until " + u.Override.Until.Format(time.RFC3339)
	case u.Override != nil:
		plan += ", set by an administrator"
	case u.Claimed == nil:
		plan += ", the default: no token of the user has been admitted yet"
	}
	fmt.Fprintf(w, "user %s, plan %s\n", u.User, plan)
	of := "unlimited"
	if u.Limit != nil {
		of = fmt.Sprint(*u.Limit)
	}
	fmt.Fprintf(w, "%s %s: %d of %s used, %d in flight, %s\n", u.Period.Period, u.Window, u.Used, of, u.InFlight, u.Status)
	if u.Stale {
		fmt.Fprintln(w, "the store does not answer: these are the last known numbers")
	}
	if len(u.Limits) > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "LIMIT\tUSED\tOF\tLEFT\tGRANTED\tRESETS AT")
		for _, l := range u.Limits {
			granted := int64(0)
			for _, g := range u.Granted {
				if g.Endpoint == l.Endpoint && g.Per == l.Period {
					granted = g.Requests
				}
			}
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", l.Name, l.Used, l.Limit, l.Remaining, granted, l.ResetsAt.Format(time.RFC3339))
		}
		t.Flush()
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENDPOINT\tUSED")
	for _, endpoint := range slices.Sorted(maps.Keys(u.Endpoints)) {
		fmt.Fprintf(t, "%s\t%d\n", endpoint, u.Endpoints[endpoint].Used)
	}
	t.Flush()
}

func audit(c *console) error {
	f := c.flags("audit")
	admin := adminFlag(f)
	asJSON := f.Bool("json", false, "print the object that the admin API answers")
	args, err := c.arguments(f, "USER")
	if err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	answer, err := client.call(http.MethodGet, userPath(args[0], "audit"), nil, "")
	if err != nil {
		return asUsage("audit", err)
	}
	if *asJSON {
		_, err := c.stdout.Write(answer)
		return err
	}
	var list struct{ Entries []quota.AuditEntry }
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(list.Entries) == 0 {
		fmt.Fprintln(c.stdout, "no administrator has changed anything of this user")
		return nil
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AT\tBY\tWHAT\tREASON")
	for _, e := range list.Entries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.At.Format(time.RFC3339), e.By, describe(e.Change), e.Reason)
	}
	return t.Flush()
}

// describe says in a few words what a change does.
func describe(c quota.Change) string {
	switch c.Action {
	case quota.ActionGrant:
		return fmt.Sprintf("grant %d to %s", c.Requests, quota.Limit{Period: c.Period, Endpoint: c.Endpoint}.Name())
	case quota.ActionSetPlan:
		if !c.Until.IsZero() {
			return fmt.Sprintf("plan %s until %s", c.Plan, c.Until.Format(time.RFC3339))
		}
		return "plan " + c.Plan
	case quota.ActionClearPlan:
		return "plan cleared"
	case quota.ActionSetCounts:
		var counts []string
		for _, endpoint := range slices.Sorted(maps.Keys(c.Counts)) {
			counts = append(counts, fmt.Sprintf("%s=%d", endpoint, c.Counts[endpoint]))
		}
		return fmt.Sprintf("%s counts %s", c.Period, strings.Join(counts, " "))
	}
	return string(c.Action)
}
