// Package reloading proves that a gateway takes over a changed configuration, changed
// keys, certificates and targets while it serves, that no request fails for it, and that
// a configuration that does not load changes nothing.
package reloading

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
