// Package frameworks proves that a gateway counts what web frameworks run: Express, Flask and
// Spring MVC serve one handler at many paths, and none of them may lead past its limit.
package frameworks

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
