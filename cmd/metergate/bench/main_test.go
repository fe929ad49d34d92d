// Package bench measures whole processes and watches them for growth. What is measured
// runs in a process of its own, so that its processor time and its memory can be told
// from those of the load, of the upstream and of Redis, which share the machine with it.
//
//	server_test.go       the processes, and what they use
//	roles_test.go        the processes that the test binary plays: upstream, plain proxies
//	goals_test.go        the goals, and what was measured of them
//	others_test.go       other proxies, where they are installed
//	meters_test.go       whether a proxy meters at all
//	load_test.go         the load: as fast as the server answers, or at a fixed rate
//	table_test.go        medians and ratios, as tables for docs/performance.md
//	sample_test.go       memory, goroutines and descriptors at one moment
//	instruments_test.go  tests of all these instruments
//
//	compare_test.go      the gateway and other proxies
//	connections_test.go  the same by connections and users
//	cost_test.go         the gateway with and without costs
//	growth_test.go       connections, users, limits and routes
//	slow_test.go         ten thousand slow requests at once
//	stream_test.go       five thousand open streams
//	generator_test.go    the load compared with wrk
//	soak_test.go         traffic of all kinds, during which nothing may grow
//
// The other proxies stand here and not in a module of their own: the comparison needs
// nothing but the programs themselves, and only ratios of one run can be compared.
// Figures of different runs or machines cannot.
package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
)

// Flags stand behind the package: go test ./cmd/metergate/bench -bench Compare -rounds 3
var (
	soakFor  = flag.Duration("soak", 5*time.Second, "how `long` TestSoak puts a load on a gateway; from 1m on it looks for growth")
	rounds   = flag.Int("rounds", 7, "how `often` a benchmark measures each process")
	roundFor = flag.Duration("round", time.Second, "how `long` one round takes; at a fixed rate five times as long")
)

func TestMain(m *testing.M) {
	playRole()
	code := gatewaytest.Build(m).Run()
	if table := goalTable(redisGoal, scriptGoal, embeddedGoal, addedGoal, memoryGoal); table != "" {
		fmt.Printf("\n%s\n", table)
	}
	os.Exit(code)
}
