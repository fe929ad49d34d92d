// Package listeners proves what the public listener accepts from clients and what it
// refuses: TLS, HTTP/1.1 and HTTP/2 by ALPN, malformed requests, floods of frames, and
// clients that send or read slowly.
package listeners

import (
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.Main(m) }
