package main

import (
	"net/http"
	"net/url"
)

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
