package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker, see the Makefile. A plain go build leaves them to what the
// toolchain noted.
var version, commit = "", ""

func printVersion(c *console) error {
	if err := c.parse(c.flags("version")); err != nil {
		return err
	}
	v, rev := buildVersion()
	fmt.Fprintf(c.stdout, "metergate %s, commit %s, %s\n", v, rev, runtime.Version())
	return nil
}

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
