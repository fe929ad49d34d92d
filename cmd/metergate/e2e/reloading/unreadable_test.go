package reloading

import (
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// nobody is an ordinary user, who cannot read a file that has mode 000.
const nobody = 65534

// newFolderOfUser makes a folder that belongs to an ordinary user: to nobody, if root runs the
// test.
func newFolderOfUser(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "metergate-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	giveToUser(t, dir)
	return dir
}

// giveToUser gives all files below dir to the user of [newFolderOfUser].
func giveToUser(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// startAsUser runs a gateway as the user of [newFolderOfUser], and waits until it serves.
func startAsUser(t *testing.T, file string) *gatewaytest.Reloadable {
	t.Helper()
	cmd := exec.Command(gatewaytest.Program(), "serve", "-config", file)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	g := &gatewaytest.Reloadable{Process: gatewaytest.StartCommand(t, cmd), File: file}
	g.WaitUntilServing()
	return g
}

// unreadableYAML names one file of each kind. The folder TOP has the store.
const unreadableYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { url: "embedded:TOP/data" }
auth: { jwt: { secret_file: jwt.secret, algorithms: [HS256] } }
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month }] } }
upstreams:
  analysis: { targets: [{ url: "UPSTREAM" }] }
  secure: { targets: [{ url: "https://127.0.0.1:9" }], tls: { ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem } }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "GET /api/secure", upstream: secure }
`

// A configuration of which a file can no longer be read is refused like one with a fault: the
// metric, /readyz and one line of the log say so, and requests are served and counted. It is
// in force again as soon as its files can be read.
func TestUnreadableConfigurationIsRefused(t *testing.T) {
	upstream, pair := gatewaytest.StartUpstream(t, "ok"), gatewaytest.ValidKeyPair(t)
	top := newFolderOfUser(t)
	dir, real := filepath.Join(top, "conf"), filepath.Join(top, "elsewhere", "real.yaml")
	for _, d := range []string{dir, filepath.Dir(real)} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("TOP", top, "UPSTREAM", upstream.URL).Replace(unreadableYAML)
	file := filepath.Join(dir, "gateway.yaml")
	testkit.WriteFile(t, file, text)
	testkit.WriteFile(t, real+".old", text)
	testkit.WriteFile(t, filepath.Join(dir, "jwt.secret"), testkit.Secret)
	testkit.WriteFile(t, filepath.Join(dir, "ca.pem"), pair.Cert)
	testkit.WriteFile(t, filepath.Join(dir, "cert.pem"), pair.Cert)
	testkit.WriteFile(t, filepath.Join(dir, "key.pem"), pair.Key)
	giveToUser(t, top)
	g := startAsUser(t, file)

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mode := func(path string, mode fs.FileMode) func() { return func() { must(os.Chmod(path, mode)) } }
	rename := func(from, to string) func() { return func() { must(os.Rename(from, to)) } }
	served := 0
	serve := func() {
		t.Helper()
		if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token("u", "free")); status != 200 {
			t.Errorf("a request got %d", status)
		}
		served++
	}
	inForce := func(what string, want bool) {
		t.Helper()
		// Less than the 30 s after which a change that the system does not report used to be
		// noticed, and much more than the 2 s of today.
		testkit.EventuallyWithin(t, 20*time.Second, what, func() bool {
			_, ready := gatewaytest.Get(g.Admin+"/readyz", "")
			metric := gatewaytest.Metric(g.Process, "metergate_config_last_reload_successful")
			return metric == map[bool]string{true: "1", false: "0"}[want] && strings.Contains(ready, `"configuration":"ok"`) == want
		})
	}
	for _, fault := range []struct {
		name       string
		make, undo func()
		says       string
	}{
		{"the file has mode 000", mode(file, 0), mode(file, 0o644), "gateway.yaml: permission denied"},
		{"the file was deleted", rename(file, file+".old"), rename(file+".old", file), "gateway.yaml: no such file"},
		{"its folder has mode 000", mode(dir, 0), mode(dir, 0o755), "gateway.yaml: permission denied"},
		{"its folder was moved", rename(dir, dir+".old"), rename(dir+".old", dir), "gateway.yaml: no such file"},
		{"a folder above has mode 000", mode(top, 0), mode(top, 0o755), "gateway.yaml: permission denied"},
		{"the secret", mode(filepath.Join(dir, "jwt.secret"), 0), mode(filepath.Join(dir, "jwt.secret"), 0o600), "auth.jwt.secret_file: cannot read"},
		{"the authorities", mode(filepath.Join(dir, "ca.pem"), 0), mode(filepath.Join(dir, "ca.pem"), 0o600), "tls.ca_file: cannot read"},
		{"the certificate", mode(filepath.Join(dir, "cert.pem"), 0), mode(filepath.Join(dir, "cert.pem"), 0o600), "tls.cert_file: cannot read"},
		{"the private key", rename(filepath.Join(dir, "key.pem"), filepath.Join(dir, "old.pem")), rename(filepath.Join(dir, "old.pem"), filepath.Join(dir, "key.pem")), "tls.key_file: cannot read"},
		// From here on the file is a link to another folder, of which the system reports nothing.
		{"the link dangles", func() { must(os.Remove(file)); must(os.Symlink("../elsewhere/real.yaml", file)) },
			rename(real+".old", real), "gateway.yaml: no such file"},
		{"the linked file has mode 000", mode(real, 0), mode(real, 0o644), "gateway.yaml: permission denied"},
		{"the linked file was deleted", rename(real, real+".old"), rename(real+".old", real), "gateway.yaml: no such file"},
	} {
		before := len(g.Output())
		fault.make()
		inForce("refused: "+fault.name, false)
		serve()
		if _, ready := gatewaytest.Get(g.Admin+"/readyz", ""); !strings.Contains(ready, fault.says) || !strings.Contains(ready, `"status":"ready"`) {
			t.Errorf("%s: /readyz does not say %q: %s", fault.name, fault.says, ready)
		}
		fault.undo()
		inForce("loaded again: "+fault.name, true)
		serve()
		log := g.Output()[before:]
		if n := strings.Count(log, "the configuration was not reloaded"); n != 1 || !strings.Contains(log, fault.says) {
			t.Errorf("%s: the log has %d lines, want one with %q:\n%s", fault.name, n, fault.says, log)
		}
	}
	if u := gatewaytest.Usage(t, g.Process, testkit.Token("u", "free")); u.Used != int64(served) || u.InFlight != 0 {
		t.Errorf("used %d, in flight %d; want %d and 0", u.Used, u.InFlight, served)
	}
}
