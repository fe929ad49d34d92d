package documents

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// imageCommand returns what an instruction of the Dockerfile runs, with the configuration in
// dir and without the program.
func imageCommand(t *testing.T, instruction, dir string) (args []string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + instruction + `[^\[\n]*(\[.*\])$`).FindSubmatch(testkit.ReadFile(t, "Dockerfile"))
	if line == nil {
		t.Fatalf("the Dockerfile has no %s with a list", instruction)
	}
	if err := json.Unmarshal(line[1], &args); err != nil {
		t.Fatal(err)
	}
	if args[0] == "/metergate" {
		args = args[1:]
	}
	for i := range args {
		args[i] = strings.Replace(args[i], "/etc/metergate", dir, 1)
	}
	return args
}

// The image's health check finds the gateway wherever its admin listener is.
func TestImageHealthCheckFollowsAdminListener(t *testing.T) {
	dir := newFolder(t, "gateway.yaml")
	env := append(environment(dir), "LISTEN=127.0.0.1:0", "ADMIN_LISTEN="+testkit.FreeAddress(t), "REDIS_URL=embedded:"+t.TempDir())
	gateway := gatewaytest.Start(t, env, imageCommand(t, "CMD", dir)...)
	gateway.WaitUntilServing()
	if code, out := gatewaytest.Run(t, env, imageCommand(t, "HEALTHCHECK", dir)...); code != 0 || !strings.Contains(out, `"status":"ready"`) {
		t.Errorf("exit status %d: %s", code, out)
	}
	gateway.Kill()
	if code, out := gatewaytest.Run(t, env, imageCommand(t, "HEALTHCHECK", dir)...); code != 1 {
		t.Errorf("without a gateway: exit status %d: %s", code, out)
	}
}
