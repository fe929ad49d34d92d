package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"metergate/quota"
)

// org shows what an organisation has used, and which of its members.
func org(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	asJSON := f.Bool("json", false, "print the JSON that the admin API returns: the object of the organisation, then a line for each member")
	at := f.String("at", "", "the `WINDOW` to look at, such as 2026-10 (default: the running windows)")
	most := f.Int("n", 20, "the most members to show, those who have used most first; 0: all; with -json it is always all")
	args, err := c.parse(f, "ORGANISATION")
	if err != nil {
		return err
	}
	if *most < 0 {
		return c.usageError("-n must not be negative")
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	who, query := account{org: args[0]}, ""
	if *at != "" {
		query = "?at=" + url.QueryEscape(*at)
	}
	pool, err := client.read(adminRequest{method: http.MethodGet, path: who.path("") + query})
	if err != nil {
		return c.asUsage(err)
	}
	lines, err := client.read(adminRequest{method: http.MethodGet, path: who.path("members") + query})
	if err != nil {
		return c.asUsage(err)
	}
	members, err := parseMembers(string(lines))
	if err != nil {
		return err
	}
	var u adminUser
	if err := decodeResponse(pool, &u); err != nil {
		return err
	}
	sortMembers(members, u.Unit == quota.Units.String())
	if *asJSON {
		c.stdout.Write(pool)
		for _, m := range members {
			fmt.Fprintf(c.stdout, "%s\n", m.line)
		}
		return nil
	}
	u.print(c.stdout)
	printMembers(c.stdout, members, *most)
	return nil
}

// A member is one line of the list of an organisation's members.
type member struct {
	User, Plan string
	Used       int64
	Units      map[string]int64 // by endpoint; nil: the configuration is not about units
	line       json.RawMessage
}

// parseMembers reads the list of members, which is in JSON Lines.
func parseMembers(lines string) (members []member, err error) {
	for dec := json.NewDecoder(strings.NewReader(lines)); ; {
		var m member
		if err := dec.Decode(&m.line); errors.Is(err, io.EOF) {
			return members, nil
		} else if err == nil {
			err = json.Unmarshal(m.line, &m)
		}
		if err != nil {
			return nil, fmt.Errorf("decoding the list of members: %w", err)
		}
		members = append(members, m)
	}
}

// units is what the member's requests cost.
func (m member) units() (sum int64) {
	for _, n := range m.Units {
		sum += n
	}
	return sum
}

// sortMembers puts those who have used most first: most units if byUnits, else most requests.
func sortMembers(members []member, byUnits bool) {
	slices.SortFunc(members, func(a, b member) int {
		byCost := 0
		if byUnits {
			byCost = cmp.Compare(b.units(), a.units())
		}
		return cmp.Or(byCost, cmp.Compare(b.Used, a.Used), strings.Compare(a.User, b.User))
	})
}

// printMembers writes the members for people, at most so many, or all if most is 0.
func printMembers(w io.Writer, members []member, most int) {
	if len(members) == 0 {
		fmt.Fprintln(w, "\nno member has used anything")
		return
	}
	shown := members
	if most > 0 && len(shown) > most {
		shown = shown[:most]
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := "MEMBER\tPLAN\tUSED"
	if members[0].Units != nil {
		header += "\tUNITS"
	}
	fmt.Fprintln(t, header)
	for _, m := range shown {
		fmt.Fprintf(t, "%s\t%s\t%d", m.User, m.Plan, m.Used)
		if m.Units != nil {
			fmt.Fprintf(t, "\t%d", m.units())
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	if n := len(members) - len(shown); n > 0 {
		fmt.Fprintf(w, "and %d more; -n 0 shows all\n", n)
	}
}
