// Package tokens proves that streams are charged what stands at their end: exactly, never above a
// limit, and nothing held in the end. The tests run whole gateways before an upstream that streams
// like a language model.
package tokens

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
