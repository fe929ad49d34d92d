package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"metergate/cmd/metergate/app"
)

func validate(c *console) error {
	f := c.flags()
	file := configFlag(f)
	online := f.Bool("online", false, "also try to reach the store, the key server and the targets of the upstreams")
	if _, err := c.parse(f); err != nil {
		return err
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s: valid: %s, %s, %s\n", *file,
		plural(len(cfg.Plans), "plan"), plural(len(cfg.Routes), "route"), plural(len(cfg.Upstreams), "upstream"))
	warnings, err := app.CertificateWarnings(cfg, time.Now())
	if err != nil {
		return err
	}
	for _, warning := range slices.Concat(cfg.Warnings(), app.NearRouteWarnings(cfg), warnings) {
		fmt.Fprintf(c.stdout, "%s: warning: %s\n", *file, warning)
	}
	if !*online {
		return nil
	}
	failed := false
	app.CheckOnline(context.Background(), cfg, func(r app.Reached) {
		for _, warning := range r.Warnings {
			fmt.Fprintf(c.stdout, "%s: warning: %s\n", r.Part, warning)
		}
		if r.Err != nil {
			failed = true
			fmt.Fprintf(c.stdout, "%s: %v\n", r.Part, r.Err)
			return
		}
		fmt.Fprintf(c.stdout, "%s: ok\n", r.Part)
	})
	if failed {
		return errors.New("not everything can be reached")
	}
	return nil
}
