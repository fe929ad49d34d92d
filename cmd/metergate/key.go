package main

import (
	"fmt"
	"time"

	"metergate/proxy/apikeys"
)

func key(c *console) error {
	f := c.flags()
	user := f.String("user", "", "the `USER` that the key is for (needed)")
	plan := f.String("plan", "", "a `PLAN` of the configuration (default: the default plan)")
	org := f.String("org", "", "the `ORGANISATION` that the user is a member of (default: none)")
	id := f.String("id", "", "the `ID` of the key in the file and in the log (default: one is made)")
	expires := f.String("expires", "", "the `DATE`, 2027-01-01, or time from which the key is refused (default: never)")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if *user == "" {
		return c.usageError("-user is needed")
	}
	text := apikeys.New()
	k := apikeys.NewKey(text)
	k.ID, k.User, k.Plan, k.Org = *id, *user, *plan, *org
	if k.ID == "" {
		k.ID = fmt.Sprintf("key-%x", k.Hash[:4])
	}
	if *expires != "" {
		var err error
		if k.Expires, err = apikeys.ParseExpiry(*expires); err != nil {
			return c.usageError("-expires %v", err)
		}
		if !k.Expires.After(time.Now()) {
			return c.usageError("-expires must be in the future")
		}
	}
	line, err := k.FileLine()
	if err != nil {
		return c.usageError("-%v", err) // it begins with the name of a member, and so of a flag
	}
	fmt.Fprintf(c.stdout, "%s\n%s\n", text, line)
	return nil
}
