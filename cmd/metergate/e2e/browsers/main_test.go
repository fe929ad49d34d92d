// Package browsers proves, in Chromium and Firefox, that front ends work: the elements and the client
// of the gateway, the examples of docs/frontend.md, and the page of the demo.
package browsers

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
