package documents

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// The commands of docs/backup.md print what the page shows, in its order. The gateway runs for those that ask it,
// and is stopped for the others.
func TestBackupPageCommandsWork(t *testing.T) {
	p, redis := newPastes(t), redistest.Start(t)
	start := func() *gatewaytest.Process {
		return gatewaytest.StartWithAdminAPI(t, "embedded:"+filepath.Join(p.dir, "data"), "http://127.0.0.1:1")
	}
	used := func(g *gatewaytest.Process) int64 {
		return gatewaytest.Usage(t, g, testkit.Token("u-17", "free")).Used
	}
	gateway, commands := start(), 0
	gatewaytest.Administer(t, gateway, "PUT", "/admin/users/u-17/counts", `{"per":"month","endpoints":{"analyze":42}}`)
	for script, shown := range transcripts(t, "docs/backup.md") {
		commands++
		if isOnline := strings.Contains(script, "metergate backup"); isOnline && gateway == nil {
			gateway = start()
		} else if !isOnline && gateway != nil {
			gatewaytest.Administer(t, gateway, "PUT", "/admin/users/u-17/counts", `{"per":"month","endpoints":{"analyze":43}}`)
			gateway.Kill()
			gateway = nil
		}
		if gateway != nil {
			script = regexp.MustCompile(`(?m)^metergate (backup)`).ReplaceAllString(script, "metergate $1 -admin "+gateway.Admin)
		}
		script = strings.ReplaceAll(script, "redis://127.0.0.1:6379", redis.URL())
		cmd := exec.Command("bash", "-ec", script)
		cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH"), "METERGATE_ADMIN_TOKEN="+gatewaytest.AdminToken)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v:\n%s\nprinted\n%s", err, script, out)
		}
		if shown != "" && sizes.ReplaceAllString(string(out), "N") != sizes.ReplaceAllString(shown, "N") {
			t.Errorf("the page shows\n%s\nand\n%s\nprinted\n%s", shown, script, out)
		}
	}
	if commands < 6 {
		t.Errorf("the page has only %d commands", commands)
	}
	if gateway = start(); used(gateway) != 42 {
		t.Errorf("after the restore, the user has used %d, want 42 as in the backup", used(gateway))
	}
}

// sizes depend on the machine.
var sizes = regexp.MustCompile(`\d+(\.\d+)? (MiB|ms|s)\b`)
