package main

import (
	"net/http"
	"net/url"
	"time"
)

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
