package documents

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

const operatePage = "docs/operate.md"

// notPasted are the commands of docs/operate.md that this machine cannot run, and why.
// Others check what they use: TestSwapUpstream, TestDockerComposeAcceptsFile, TestImageHealthCheckFollowsAdminListener
// and TestKubernetesManifestIsValid.
var notPasted = map[string]string{
	"sha256sum":  "TestReleaseIsComplete runs it",
	"make build": "make release runs it",
	"docker":     "needs Docker",
	"kubectl":    "needs Kubernetes",
	"/drain":     "TestSwapUpstream does the same",
}

// The commands of docs/operate.md work as they are pasted into one shell, and a second time,
// as for an upgrade. Redis and the gateway are real. Only sudo, apt-get and systemctl are
// replaced, and what they change is in a folder of the test.
func TestOperatePageCommandsWork(t *testing.T) {
	findProgram(t, "redis-server")
	p := newPastes(t)
	var script strings.Builder
	left := map[string]bool{}
	for _, block := range codeBlocks(t, operatePage, "sh") {
		run := true
		for command := range notPasted {
			if strings.Contains(block, command) {
				left[command], run = true, false
			}
		}
		if !run {
			continue
		}
		if strings.Contains(block, "curl -i") {
			script.WriteString("metergate demo -upstream 127.0.0.1:9000 &\nuntil curl -s http://127.0.0.1:9000/healthz; do sleep 0.1; done\n")
		}
		script.WriteString(block)
	}
	for command, reason := range notPasted {
		if !left[command] {
			t.Errorf("no block has %q any more (%s)", command, reason)
		}
	}
	p.prepareMachine()
	commands := p.withAdmin(p.inFolder(script.String()))
	again := strings.Replace(commands, "metergate demo -upstream", "true ", 1)
	const settings = "\nredis-cli -u redis://127.0.0.1:6379 config get appendonly\nredis-cli -u redis://127.0.0.1:6379 config get maxmemory-policy\n"
	out, state := p.run("set -e\n" + commands + settings + "echo the second time\n" + again + settings)
	if !state.Success() {
		t.Fatalf("%v:\n%s", state, out)
	}
	first, second, _ := strings.Cut(out, "the second time\n")
	for n, printed := range []string{first, second} {
		for _, want := range []string{`{"status":"ready"`, "HTTP/1.1 200 OK", fmt.Sprintf("X-Usage: %d/5000", n+1), "user you, plan pro", `"store":"ok"`,
			"appendonly\nyes\n", "maxmemory-policy\nnoeviction\n"} {
			if !strings.Contains(printed, want) {
				t.Errorf("no %q in:\n%s", want, printed)
			}
		}
	}
}

// inFolder lets commands change files below the folder of the test, not those of the machine.
func (p *pastes) inFolder(text string) string {
	for _, path := range []string{"/etc/metergate", "/etc/redis", "/etc/systemd", "/usr/local/bin", "/var/lib"} {
		text = strings.ReplaceAll(text, path, filepath.Join(p.dir, "machine")+path)
	}
	return text
}

// prepareMachine makes a Debian with systemd of the folder, as far as the commands use it.
func (p *pastes) prepareMachine() {
	p.Helper()
	machine := p.inFolder("/etc/redis/redis.conf")
	for _, dir := range []string{filepath.Dir(machine), p.inFolder("/etc/systemd/system"), p.inFolder("/usr/local/bin"), p.inFolder("/var/lib/redis"), p.inFolder("/var/lib/metergate"), filepath.Join(p.dir, "stand-ins")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			p.Fatal(err)
		}
	}
	// Step 2: the files that the page says to copy.
	testkit.WriteFile(p.T, filepath.Join(p.dir, "metergate.service"), p.inFolder(string(testkit.ReadFile(p.T, unitFile))))
	port := strings.TrimPrefix(p.ports.Replace(":6379"), ":")
	testkit.WriteFile(p.T, machine, "bind 127.0.0.1\nport "+port+"\nappendonly no\ndaemonize no\ndir "+p.inFolder("/var/lib/redis")+"\n")
	p.standIn("sudo", `exec "$@"`)
	p.standIn("apt-get", `exit 0`)
	unit := p.inFolder("/etc/systemd/system/metergate.service")
	// It runs what the unit says: with its environment, and the check before the start.
	p.standIn("systemctl", `
conf=`+machine+` unit=`+unit+`
stop() { [ ! -e $1.pid ] || { kill $(cat $1.pid); tail --pid $(cat $1.pid) -f /dev/null; }; }
setting() { sed -n "s/^$1=//p" $unit; }
case "$*" in
daemon-reload | "enable metergate") [ -e $unit ] ;;
"restart redis-server") stop $conf; redis-server $conf >/dev/null & echo $! >$conf.pid
	until redis-cli -p `+port+` ping >/dev/null 2>&1; do sleep 0.05; done ;; # as systemd waits for Redis
"restart metergate")
	stop $unit
	set -a; . $(setting EnvironmentFile); export $(setting Environment); set +a
	$(setting ExecStartPre) || exit
	$(setting ExecStart) & echo $! >$unit.pid ;;
*) echo "this test knows no systemctl $*" >&2; exit 1 ;;
esac`)
}

// standIn makes a program that comes before the machine's own.
func (p *pastes) standIn(name, script string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "stand-ins", name), []byte("#!/bin/bash\n"+script+"\n"), 0o700); err != nil {
		p.Fatal(err)
	}
}

// Every page marks its commands as such, so that the tests find and run them.
func TestPagesMarkTheirCommands(t *testing.T) {
	for name := range markdownPages(t) {
		if name == "CHANGELOG.md" || name == "CONTRIBUTING.md" {
			continue
		}
		for _, block := range codeBlocks(t, name, "") {
			for line := range strings.Lines(block) {
				for _, program := range []string{"metergate", "docker", "kubectl", "curl", "sudo", "export", "make"} {
					if strings.HasPrefix(line, program+" ") {
						t.Errorf("%s: the block with %q is not marked as sh", name, line)
					}
				}
			}
		}
	}
}
