package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) {
	// In a script, and only there, the test binary is the program.
	testscript.Main(gatewaytest.Build(m), map[string]func(){"metergate": main})
}
