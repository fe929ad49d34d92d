package main

import "fmt"

func validate(c *console) error {
	f := c.flags("validate")
	file := configFlag(f)
	if err := c.parse(f); err != nil {
		return err
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	if err := checkBuild(cfg); err != nil {
		return errUsage(fmt.Sprintf("%s: %v", *file, err))
	}
	fmt.Fprintf(c.stdout, "%s: valid: %d plans, %d routes, %d upstreams\n", *file, len(cfg.Plans), len(cfg.Routes), len(cfg.Upstreams))
	return nil
}
