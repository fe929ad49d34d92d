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
)

// org shows what an organisation has used, and which of its members.
func org(c *console) error {
	f := c.flags()
	admin, asJSON := adminFlag(f), jsonFlag(f)
	at := f.String("at", "", "the `WINDOW` to look at, such as 2026-10 (default: the running windows)")
	most := f.Int("n", 20, "the most members to show, those who have used most first; 0: all")
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
	text, err := client.read(adminRequest{method: http.MethodGet, path: who.path("") + query})
	if err != nil {
		return c.asUsage(err)
	}
	if err := c.showUser(text, *asJSON); err != nil {
		return err
	}
	members, err := client.read(adminRequest{method: http.MethodGet, path: who.path("members") + query})
	if err != nil {
		return c.asUsage(err)
	}
	if *asJSON {
		_, err := c.stdout.Write(members)
		return err
	}
	return printMembers(c.stdout, string(members), *most)
}

// printMembers writes the members in JSON Lines for people, at most so many, or all if most is 0.
func printMembers(w io.Writer, lines string, most int) error {
	type member struct {
		User, Plan string
		Used       int64
	}
	var members []member
	for dec := json.NewDecoder(strings.NewReader(lines)); ; {
		var m member
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("decoding the list of members: %w", err)
		}
		members = append(members, m)
	}
	if len(members) == 0 {
		fmt.Fprintln(w, "\nno member has used anything")
		return nil
	}
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), strings.Compare(a.User, b.User))
	})
	shown := members
	if most > 0 && len(shown) > most {
		shown = shown[:most]
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEMBER\tPLAN\tUSED")
	for _, m := range shown {
		fmt.Fprintf(t, "%s\t%s\t%d\n", m.User, m.Plan, m.Used)
	}
	t.Flush()
	if n := len(members) - len(shown); n > 0 {
		fmt.Fprintf(w, "and %d more; -n 0 shows all\n", n)
	}
	return nil
}
