// Package billing proves that what metergate bill delivers adds up to what was counted, whatever fails: the
// command, a gateway, Redis or the receiver.
package billing

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
