package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"metergate/quota"
)

func reset(c *console) error {
	f := c.flags("reset")
	admin := adminFlag(f)
	reason := f.String("reason", "", "`WHY`, for the audit list")
	asJSON := f.Bool("json", false, "print the object that the admin API answers")
	args, err := c.arguments(f, "USER")
	if err != nil {
		return err
	}
	return c.change(*admin, "reset", http.MethodPost, userPath(args[0], "reset"), map[string]any{"reason": *reason}, "", *asJSON)
}

func grant(c *console) error {
	f := c.flags("grant")
	admin := adminFlag(f)
	endpoint := f.String("endpoint", "", "the `ENDPOINT` whose limit is raised; none: a limit on all")
	per := f.String("per", "", "the `WINDOW` of the limit: minute, hour, day, week, month or year; none: the headline limit")
	reason := f.String("reason", "", "`WHY`, for the audit list")
	key := f.String("key", "", "a `KEY` that makes it safe to send twice within a day")
	asJSON := f.Bool("json", false, "print the object that the admin API answers")
	args, err := c.arguments(f, "USER", "N")
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || n < 1 || n > quota.MaxRequests {
		return errUsage(fmt.Sprintf("grant: N must be 1 to %d, got %q", int64(quota.MaxRequests), args[1]))
	}
	body := map[string]any{"requests": n, "reason": *reason}
	if *endpoint != "" {
		body["endpoint"] = *endpoint
	}
	if *per != "" {
		body["per"] = *per
	}
	return c.change(*admin, "grant", http.MethodPost, userPath(args[0], "grants"), body, *key, *asJSON)
}

func plan(c *console) error {
	f := c.flags("plan")
	admin := adminFlag(f)
	until := f.String("until", "", "the `TIME` at which it ends, 2026-12-31T00:00:00Z say; none: it does not")
	end := f.Bool("clear", false, "end the plan that an administrator has set: the token's holds again")
	reason := f.String("reason", "", "`WHY`, for the audit list")
	asJSON := f.Bool("json", false, "print the object that the admin API answers")
	names := []string{"USER", "PLAN"}
	for _, arg := range c.args { // it says how many arguments there are
		if arg == "-clear" || arg == "--clear" {
			names = names[:1]
		}
	}
	args, err := c.arguments(f, names...)
	if err != nil {
		return err
	}
	path := userPath(args[0], "plan")
	if *end {
		if *until != "" {
			return errUsage("plan: -clear ends the plan now, and takes no -until")
		}
		if *reason != "" {
			path += "?reason=" + url.QueryEscape(*reason)
		}
		return c.change(*admin, "plan", http.MethodDelete, path, nil, "", *asJSON)
	}
	if len(args) < 2 {
		return errUsage("plan: PLAN is needed")
	}
	body := map[string]any{"plan": args[1], "reason": *reason}
	if *until != "" {
		t, err := time.Parse(time.RFC3339, *until)
		if err != nil {
			return errUsage(fmt.Sprintf("plan: -until must be a time like 2026-12-31T00:00:00Z, got %q", *until))
		}
		body["until"] = t
	}
	return c.change(*admin, "plan", http.MethodPut, path, body, "", *asJSON)
}

// change makes a change and shows the user's state after it.
func (c *console) change(admin, command, method, path string, body any, key string, asJSON bool) error {
	client, err := newAdminClient(admin)
	if err != nil {
		return err
	}
	answer, err := client.call(method, path, body, key)
	if err != nil {
		return asUsage(command, err)
	}
	return c.showUser(answer, asJSON)
}
