package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"metergate/quota"
)

func audit(c *console) error {
	f := c.flags()
	admin, asJSON := adminFlag(f), jsonFlag(f)
	who, _, err := c.parseAccount(f)
	if err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	text, err := client.read(adminRequest{method: http.MethodGet, path: who.path("audit")})
	if err != nil {
		return c.asUsage(err)
	}
	if *asJSON {
		_, err := c.stdout.Write(text)
		return err
	}
	var list struct{ Entries []quota.AuditEntry }
	if err := decodeResponse(text, &list); err != nil {
		return err
	}
	if len(list.Entries) == 0 {
		fmt.Fprintln(c.stdout, "no administrator has changed anything about this "+who.noun())
		return nil
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AT\tBY\tWHAT\tREASON")
	for _, e := range list.Entries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.At.Format(time.RFC3339), e.By, summary(e.Change, who.user == ""), e.Reason)
	}
	return t.Flush()
}

// summary says in a few words what a change does. shared: it is about an organisation.
func summary(c quota.Change, shared bool) string {
	switch c.Action {
	case quota.ActionGrant:
		return fmt.Sprintf("grant %d to %s", c.Requests+c.Units, quota.Limit{Period: c.Period, Endpoint: c.Endpoint, Quantity: c.Quantity(), Shared: shared}.Name())
	case quota.ActionSetPlan:
		if !c.Until.IsZero() {
			return fmt.Sprintf("plan %s until %s", c.Plan, c.Until.Format(time.RFC3339))
		}
		return "plan " + c.Plan
	case quota.ActionClearPlan:
		return "plan cleared"
	case quota.ActionSetAnchor:
		return "anchor " + c.Anchor
	case quota.ActionClearAnchor:
		return "anchor cleared"
	case quota.ActionSetCounts:
		var counts []string
		for _, endpoint := range slices.Sorted(maps.Keys(c.Counts)) {
			count := fmt.Sprintf("%s=%d", endpoint, c.Counts[endpoint])
			if units, ok := c.CountUnits[endpoint]; ok {
				count += fmt.Sprintf(" (%d units)", units)
			}
			counts = append(counts, count)
		}
		return fmt.Sprintf("%s counts %s", c.Period, strings.Join(counts, " "))
	}
	return string(c.Action)
}
