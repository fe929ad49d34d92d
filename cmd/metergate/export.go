package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"metergate/quota"
)

func export(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	at := f.String("at", "", "the `WINDOW`, such as 2026-10 (needed)")
	per := f.String("per", "", "another kind of `WINDOW` at that time: "+quota.PeriodNames)
	format := f.String("format", "csv", "`FORMAT`: csv has a row for each user and endpoint, jsonl an object for each user")
	org := f.String("org", "", "only the members of this `ORGANISATION`")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if *at == "" {
		return c.usageError("-at is needed, such as -at 2026-10")
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	query := url.Values{"at": {*at}, "format": {*format}}
	if *per != "" {
		query.Set("per", *per)
	}
	path := "/admin/users"
	if *org != "" {
		path = account{org: *org}.path("members")
	}
	res, err := client.send(context.Background(), adminRequest{method: http.MethodGet, path: path + "?" + query.Encode()})
	if err != nil {
		return c.asUsage(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(c.stdout, res.Body); err != nil {
		return fmt.Errorf("the list broke off and is incomplete: %w", err)
	}
	return nil
}
