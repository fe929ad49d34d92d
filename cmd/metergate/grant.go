package main

import (
	"net/http"
	"strconv"

	"metergate/quota"
)

func grant(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	endpoint := f.String("endpoint", "", "the `ENDPOINT` whose limit is raised; needs -per (default: a limit on all endpoints)")
	per := f.String("per", "", "the `WINDOW` of the limit: "+quota.PeriodNames+" (default: the headline limit's)")
	units := f.Bool("units", false, "raise a limit on units instead of one on requests")
	key := f.String("key", "", "a `KEY` that makes it safe to send the grant twice within a day")
	who, args, err := c.parseAccount(f, "N")
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || n < 1 || n > quota.MaxAmount {
		return c.usageError("N must be a whole number from 1 to %d, got %q", int64(quota.MaxAmount), args[0])
	}
	if *endpoint != "" && *per == "" {
		return c.usageError("-endpoint needs -per, such as -per month")
	}
	body := map[string]any{"reason": *reason}
	if *units {
		body["units"] = n
	} else {
		body["requests"] = n
	}
	if *endpoint != "" {
		body["endpoint"] = *endpoint
	}
	if *per != "" {
		body["per"] = *per
	}
	return c.changeUser(*admin, adminRequest{
		method:         http.MethodPost,
		path:           who.path("grants"),
		body:           body,
		idempotencyKey: *key,
	}, *asJSON)
}
