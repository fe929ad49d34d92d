package gatewaytest

import (
	"flag"
	"math/rand/v2"
	"testing"
)

// Flags of every package of tests that imports this one. They stand behind the package:
// go test ./cmd/metergate/e2e/counting -run Kill -long
var (
	long = flag.Bool("long", false, "run what takes minutes: 100 kills instead of 10")
	seed = flag.Uint64("seed", 0, "repeat the schedule of the test that printed this `seed`; 0: a new one")
)

// Times is how often a test repeats what it does: short, or full with the flag -long.
func Times(short, full int) int {
	if *long {
		return full
	}
	return short
}

// NewRandom returns a source of random numbers and logs its seed. The flag -seed repeats
// them.
func NewRandom(t testing.TB) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = rand.Uint64() | 1
	}
	t.Logf("repeat with -seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}
