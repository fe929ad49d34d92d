package main

import "net/http"

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
