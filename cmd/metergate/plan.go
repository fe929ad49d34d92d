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
	args, err := c.parseAny(f)
	if err != nil {
		return err
	}
	if *clear {
		if err := c.checkArguments(args, "USER"); err != nil {
			return err
		}
		if *until != "" {
			return c.usageError("-clear ends the plan now, and takes no -until")
		}
		return c.clearPlan(*admin, args[0], *reason, *asJSON)
	}
	if err := c.checkArguments(args, "USER", "PLAN"); err != nil {
		return err
	}
	body := map[string]any{"plan": args[1], "reason": *reason}
	if *until != "" {
		t, err := time.Parse(time.RFC3339, *until)
		if err != nil {
			return c.usageError("-until must be a time like 2026-12-31T00:00:00Z, got %q", *until)
		}
		body["until"] = t
	}
	return c.changeUser(*admin, adminRequest{method: http.MethodPut, path: userPath(args[0], "plan"), body: body}, *asJSON)
}

func planClear(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	args, err := c.parse(f, "USER")
	if err != nil {
		return err
	}
	return c.clearPlan(*admin, args[0], *reason, *asJSON)
}

// clearPlan ends the plan that an administrator chose for a user.
func (c *console) clearPlan(admin, user, reason string, asJSON bool) error {
	path := userPath(user, "plan")
	if reason != "" {
		path += "?reason=" + url.QueryEscape(reason)
	}
	return c.changeUser(admin, adminRequest{method: http.MethodDelete, path: path}, asJSON)
}
