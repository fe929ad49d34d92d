// Command metergate is a metering reverse proxy: it checks quotas, forwards requests to an
// API and counts those that succeed. README.md says how to use it.
//
// This package has the commands. Most are in a file of their own. They know flags, signals
// and exit statuses. Package app is the gateway that the commands serve and demo run.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
