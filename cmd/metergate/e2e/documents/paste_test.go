package documents

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// pastes runs what a reader pastes from a page, in a folder with the program and the example
// configuration. The ports of the pages may be taken here, so ports replaces them.
type pastes struct {
	*testing.T
	dir   string
	ports *strings.Replacer
}

func newPastes(t *testing.T) *pastes {
	t.Helper()
	p := &pastes{T: t, dir: newFolder(t, "gateway.yaml")}
	var replace []string
	for _, port := range []string{":8080", ":9090", ":9000", ":6379"} {
		_, free, _ := net.SplitHostPort(testkit.FreeAddress(t))
		replace = append(replace, port, ":"+free)
	}
	p.ports = strings.NewReplacer(replace...)
	file := filepath.Join(p.dir, "gateway.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, file, p.ports.Replace(string(text)))
	return p
}

// run runs a script as one shell. It returns what was printed, and ends what the script
// leaves running.
func (p *pastes) run(script string) (printed string, state *os.ProcessState) {
	p.Helper()
	script = strings.ReplaceAll(p.ports.Replace(script), "-wait 10s", "-wait 2m") // on a busy machine
	script = strings.ReplaceAll(script, "redis-server --dir", "redis-server --port "+strings.TrimPrefix(p.ports.Replace(":6379"), ":")+" --dir")
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(p.dir, "stand-ins")+":"+p.dir+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A file and no pipe: a pipe stays open until everything that the script started has
	// ended.
	output, err := os.Create(filepath.Join(p.TempDir(), "printed"))
	if err != nil {
		p.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	timeout := time.AfterFunc(5*time.Minute, kill)
	defer timeout.Stop()
	state, err = cmd.Process.Wait()
	kill()
	if err != nil {
		p.Fatal(err)
	}
	text, err := os.ReadFile(output.Name())
	if err != nil {
		p.Fatal(err)
	}
	return string(text), state
}

// withAdmin gives the commands that call the admin API the address that the gateway has here;
// by default it is the one that the pages have.
func (p *pastes) withAdmin(script string) string {
	command := regexp.MustCompile(`(?m)^( *)metergate (usage|org|grant|reset|plan|plan-clear|audit|import|compare|export|plan-check) `)
	return command.ReplaceAllString(script, "${1}metergate $2 -admin "+p.ports.Replace("http://127.0.0.1:9090")+" ")
}

// checkNothingLeft checks that the folder has only what .gitignore leaves out of a clone.
func (p *pastes) checkNothingLeft() {
	p.Helper()
	ignored := strings.Fields(string(testkit.ReadFile(p.T, ".gitignore")))
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		p.Fatal(err)
	}
	for _, e := range entries {
		name := "/" + e.Name()
		if e.IsDir() {
			name += "/"
		}
		if e.Name() != "gateway.yaml" && !slices.Contains(ignored, name) {
			p.Errorf("the commands left %s behind", e.Name())
		}
	}
}
