package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"metergate/cmd/metergate/gatewaytest"
)

func TestMain(m *testing.M) {
	// Scripts, and only they, run the test binary as the program.
	testscript.Main(gatewaytest.Build(m), map[string]func(){"metergate": main})
}
