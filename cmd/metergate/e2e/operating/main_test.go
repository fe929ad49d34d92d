// Package operating proves what an operator relies on: signals and exit codes, what the
// log says at the start, metrics, and that neither secrets nor hostile user ids get out.
package operating

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
