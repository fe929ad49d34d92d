// Package documents proves that what the documents say is so: the commands work as they
// are pasted, the configurations load, the metrics exist, and the API answers as
// docs/openapi.yaml describes it.
package documents

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
