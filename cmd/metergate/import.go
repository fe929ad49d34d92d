package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"metergate/quota"
)

func importCounts(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	perText := f.String("per", "month", "the running `WINDOW` that the counts are for: minute, hour, day, week, month or year")
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
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b csvFault) int { return a.line - b.line })
		for _, fault := range faults {
			fmt.Fprintf(c.stderr, "%s:%d: %s\n", name, fault.line, fault.text)
		}
		return errShown
	}
	counts := 0
	for i, u := range users {
		if err := client.setCounts(u, per); err != nil {
			return fmt.Errorf("%s:%d: stopped at user %q, after %d of %d users: %w\nImport the file again: counts are set, not added", name, u.line, u.user, i, len(users), err)
		}
		counts += len(u.counts)
	}
	fmt.Fprintf(c.stdout, "imported %s of %s into the running %s\n", plural(counts, "count"), plural(len(users), "user"), per)
	return nil
}

// setCounts sets the counts of a user in the running window of a period.
func (c *adminClient) setCounts(u *userCounts, per quota.Period) error {
	_, err := c.read(adminRequest{
		method: http.MethodPut,
		path:   userPath(u.user, "counts"),
		body:   map[string]any{"per": per, "endpoints": u.counts, "reason": "import"},
	})
	return err
}

// endpoints returns the endpoints of the gateway's configuration. The admin API lists
// them for any user, also for one it has never seen.
func (c *adminClient) endpoints() (map[string]quota.EndpointUsage, error) {
	var u quota.Usage
	err := c.readJSON(adminRequest{method: http.MethodGet, path: userPath("import", "")}, &u)
	return u.Endpoints, err
}

// unknownEndpoints returns a fault for each count of an endpoint that the gateway does
// not have. Nobody would ever see such a count.
func unknownEndpoints(users []*userCounts, endpoints map[string]quota.EndpointUsage) (faults []csvFault) {
	for _, u := range users {
		for endpoint, line := range u.lines {
			if _, ok := endpoints[endpoint]; !ok {
				faults = append(faults, csvFault{line, fmt.Sprintf("no route of the gateway counts under %q; the endpoints are %s",
					endpoint, strings.Join(slices.Sorted(maps.Keys(endpoints)), ", "))})
			}
		}
	}
	return faults
}
