package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// The linker sets these, see the Makefile. A plain go build leaves them empty.
var version, commit = "", ""

func printVersion(c *console) error {
	if _, err := c.parse(c.flags()); err != nil {
		return err
	}
	v, rev := buildVersion()
	fmt.Fprintf(c.stdout, "metergate %s, commit %s, %s\n", v, rev, runtime.Version())
	return nil
}

// buildVersion returns the version and the commit, by the linker or else by what the
// toolchain recorded.
func buildVersion() (v, rev string) {
	v, rev = version, commit
	info, ok := debug.ReadBuildInfo()
	if ok && v == "" {
		v = info.Main.Version
	}
	if ok && rev == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				rev = s.Value
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	if rev == "" {
		rev = "unknown"
	}
	return v, rev
}
