package main

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"metergate/quota"
)

// This file has the commands that change something about a user: grant, reset, plan, plan-clear, anchor
// and anchor-clear.

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

func reset(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	who, _, err := c.parseAccount(f)
	if err != nil {
		return err
	}
	return c.changeUser(*admin, adminRequest{
		method: http.MethodPost,
		path:   who.path("reset"),
		body:   map[string]any{"reason": *reason},
	}, *asJSON)
}

func plan(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	until := f.String("until", "", "the `TIME` at which the plan ends, such as 2026-12-31T00:00:00Z (default: it does not end)")
	clear := f.Bool("clear", false, "the old form of metergate plan-clear")
	org := orgFlag(f)
	args, err := c.parseAny(f)
	if err != nil {
		return err
	}
	if *clear {
		who, _, err := c.accountOf(*org, args)
		if err != nil {
			return err
		}
		if *until != "" {
			return c.usageError("-clear ends the plan now, and takes no -until")
		}
		return c.clearPlan(*admin, who, *reason, *asJSON)
	}
	who, args, err := c.accountOf(*org, args, "PLAN")
	if err != nil {
		return err
	}
	body := map[string]any{"plan": args[0], "reason": *reason}
	if *until != "" {
		t, err := time.Parse(time.RFC3339, *until)
		if err != nil {
			return c.usageError("-until must be a time like 2026-12-31T00:00:00Z, got %q", *until)
		}
		body["until"] = t
	}
	return c.changeUser(*admin, adminRequest{method: http.MethodPut, path: who.path("plan"), body: body}, *asJSON)
}

func planClear(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	who, _, err := c.parseAccount(f)
	if err != nil {
		return err
	}
	return c.clearPlan(*admin, who, *reason, *asJSON)
}

// clearPlan ends the plan that an administrator chose for an account.
func (c *console) clearPlan(admin string, who account, reason string, asJSON bool) error {
	path := who.path("plan")
	if reason != "" {
		path += "?reason=" + url.QueryEscape(reason)
	}
	return c.changeUser(admin, adminRequest{method: http.MethodDelete, path: path}, asJSON)
}

func anchor(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	who, args, err := c.parseAccount(f, "DAY")
	if err != nil {
		return err
	}
	body := map[string]any{"anchor": args[0], "reason": *reason}
	return c.changeUser(*admin, adminRequest{method: http.MethodPut, path: who.path("anchor"), body: body}, *asJSON)
}

func anchorClear(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	who, _, err := c.parseAccount(f)
	if err != nil {
		return err
	}
	path := who.path("anchor")
	if *reason != "" {
		path += "?reason=" + url.QueryEscape(*reason)
	}
	return c.changeUser(*admin, adminRequest{method: http.MethodDelete, path: path}, *asJSON)
}
