package main

import "net/http"

func reset(c *console) error {
	f := c.flags()
	admin, reason, asJSON := adminFlag(f), reasonFlag(f), jsonFlag(f)
	args, err := c.parse(f, "USER")
	if err != nil {
		return err
	}
	return c.changeUser(*admin, adminRequest{
		method: http.MethodPost,
		path:   userPath(args[0], "reset"),
		body:   map[string]any{"reason": *reason},
	}, *asJSON)
}
