// Package issuers proves that a gateway accepts what real issuers send: null claims, large
// tokens, keys without a name, new names of algorithms. It also proves that the gateway
// refuses what no issuer may send.
package issuers

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
