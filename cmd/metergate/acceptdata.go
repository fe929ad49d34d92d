package main

import (
	"fmt"
	"net/http"
)

// acceptData has the gateways go on after a loss of data in Redis.
func acceptData(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	if _, err := c.parse(f); err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	var accepted struct {
		Parts int `json:"parts"`
	}
	if err := client.readJSON(adminRequest{method: http.MethodPost, path: "/admin/data/accept"}, &accepted); err != nil {
		return err
	}
	if accepted.Parts == 0 {
		fmt.Fprintln(c.stdout, "this gateway misses no data; there was nothing to accept")
		return nil
	}
	fmt.Fprintln(c.stdout, "accepted: all gateways go on with the counts that Redis has now")
	return nil
}
