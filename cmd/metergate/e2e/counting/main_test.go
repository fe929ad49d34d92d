// Package counting proves that counts are exact: what clients saw succeed <= counted <=
// what the upstream sent as a success, never over a limit, and nothing held in the end.
// The tests run whole gateways, kill them, cut them off from Redis and break Redis.
package counting

import (
	"flag"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
)

// It stands behind the package: go test ./cmd/metergate/e2e/counting -run Chaos -chaos 10m
var chaosFor = flag.Duration("chaos", time.Minute, "how `long` TestChaos puts a load on the gateways")

func TestMain(m *testing.M) { gatewaytest.Main(m) }
