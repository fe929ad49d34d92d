package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

func export(c *console) error {
	f := c.flags("export")
	admin := adminFlag(f)
	at := f.String("at", "", "the `WINDOW`, 2026-10 say (needed)")
	per := f.String("per", "", "another kind of `WINDOW` at that time: minute, hour, day, week, month or year")
	format := f.String("format", "csv", "`FORMAT`: csv, a row for each user and endpoint, or jsonl, an object for each user")
	if _, err := c.arguments(f); err != nil {
		return err
	}
	if *at == "" {
		return errUsage("export: -at is needed, 2026-10 say")
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	query := url.Values{"at": {*at}, "format": {*format}}
	if *per != "" {
		query.Set("per", *per)
	}
	res, err := client.open(context.Background(), http.MethodGet, "/admin/users?"+query.Encode(), nil, "")
	if err != nil {
		return asUsage("export", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(c.stdout, res.Body); err != nil {
		return fmt.Errorf("the list has broken off, and what is there is not all of it: %w", err)
	}
	return nil
}
