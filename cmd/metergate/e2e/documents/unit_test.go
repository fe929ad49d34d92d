package documents

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

const (
	unitFile   = "deploy/metergate.service"
	socketFile = "deploy/metergate.socket"
)

// unitSettings returns the values of a setting of the systemd unit.
func unitSettings(t *testing.T, name string) (values []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllSubmatch(testkit.ReadFile(t, unitFile), -1) {
		values = append(values, string(m[1]))
	}
	return values
}

// systemd accepts the units, the service with and without the drop-in that docs/operate.md shows.
func TestSystemdAcceptsUnit(t *testing.T) {
	analyze := findProgram(t, "systemd-analyze")
	unit := strings.ReplaceAll(string(testkit.ReadFile(t, unitFile)), "/usr/local/bin/metergate", gatewaytest.Program())
	dropIn := ""
	for _, block := range codeBlocks(t, "docs/operate.md", "") {
		if strings.HasPrefix(block, "[Service]") {
			dropIn = block
		}
	}
	if dropIn == "" {
		t.Error("docs/operate.md has no drop-in for ports below 1024")
	}
	for _, dropIn := range []string{"", dropIn} {
		dir := t.TempDir()
		file := filepath.Join(dir, filepath.Base(unitFile))
		testkit.WriteFile(t, file, unit)
		socket := filepath.Join(dir, filepath.Base(socketFile))
		testkit.WriteFile(t, socket, testkit.ReadFile(t, socketFile))
		if err := os.Mkdir(file+".d", 0o700); err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(file+".d", "override.conf"), dropIn)
		out, err := exec.Command(analyze, "verify", "--man=no", file, socket).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("error %v, with the drop-in %q:\n%s", err, dropIn, out)
		}
	}
}

// The unit runs the gateway and a shell, which every system has, and nothing else. Its reload
// reaches the gateway.
func TestSystemdUnitReloadsGateway(t *testing.T) {
	for _, name := range []string{"ExecStartPre", "ExecStart", "ExecReload"} {
		for _, command := range unitSettings(t, name) {
			if program, _, _ := strings.Cut(command, " "); !slices.Contains([]string{"/usr/local/bin/metergate", "/bin/sh"}, program) {
				t.Errorf("%s runs %s, which a minimal system may not have", name, program)
			}
		}
	}
	gateway := gatewaytest.StartReloadable(t, "http://127.0.0.1:1")
	// As systemd does: the words of the line, and MAINPID in the environment.
	words := regexp.MustCompile(`^(/bin/sh) -c '(.*)'$`).FindStringSubmatch(unitSettings(t, "ExecReload")[0])
	if words == nil {
		t.Fatal("ExecReload is not a command of the shell")
	}
	// A PATH without programs: the shell's own kill must do.
	reload := exec.Command(words[1], "-c", words[2])
	reload.Env = []string{"PATH=/nonexistent", fmt.Sprint("MAINPID=", gateway.Cmd.Process.Pid)}
	if out, err := reload.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	gateway.WaitForText("the configuration was reloaded")
}
