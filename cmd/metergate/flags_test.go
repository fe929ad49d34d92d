package main

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

// They stand behind the package: go test ./cmd/metergate -run Chaos -chaos 10m
var (
	long     = flag.Bool("long", false, "run what takes minutes: 100 kills instead of 10")
	chaosFor = flag.Duration("chaos", 60*time.Second, "how `long` TestChaos puts a load on the gateways")
	seedFlag = flag.Uint64("seed", 0, "repeat the schedule that a test has printed the `seed` of; 0: a new one")
)

// newRandom returns a source of chance for a test, whose seed the test prints.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with -seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
