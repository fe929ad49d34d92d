package releasing

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// imageUser is the user and group of the image, also outside of the container if the tests run
// as root.
const imageUser = 65532

// A container runs programs of the image as an engine does: as its user, without rights, in a
// read-only root filesystem with a volume, and as process 1. It has the network of the tests.
// bubblewrap makes it, which needs user namespaces, but neither root nor cgroups.
type container struct {
	image        image
	root, volume string
	env          []string
	bwrap        string
}

func newContainer(t *testing.T, env ...string) *container {
	t.Helper()
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		if os.Getenv(redistest.RequireEnv) != "" {
			t.Fatal("bwrap is not installed")
		}
		t.Skip("bwrap is not installed")
	}
	c := &container{loadImages(t)[runtime.GOARCH], t.TempDir(), t.TempDir(), env, bwrap}
	for dir := c.root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755) // the image's user must get in
	}
	for _, e := range c.image.layers {
		c.unpack(t, e)
	}
	// A new volume gets the owner and mode of the image's folder.
	c.own(t, c.volume, find(t, c.image.layers, "var/lib/metergate"))
	for _, mounted := range []string{"proc", "dev"} { // an engine makes these
		if err := os.MkdirAll(filepath.Join(c.root, mounted), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *container) unpack(t *testing.T, e packed) {
	t.Helper()
	target := filepath.Join(c.root, e.Name)
	var err error
	switch {
	case e.FileInfo().IsDir():
		err = os.MkdirAll(target, 0o755)
	case e.Linkname != "":
		err = os.Symlink(e.Linkname, target)
	default:
		err = os.WriteFile(target, e.body, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if e.Linkname == "" {
		c.own(t, target, e)
	}
}

// own gives a file the mode of an entry, and its owner if the tests may do that.
func (c *container) own(t *testing.T, path string, e packed) {
	t.Helper()
	err := os.Chmod(path, e.FileInfo().Mode())
	if os.Geteuid() == 0 && err == nil {
		err = os.Chown(path, e.Uid, e.Gid)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// command returns a command in the container. What bubblewrap says about it goes to info.
func (c *container) command(info *os.File, args ...string) *exec.Cmd {
	uid, gid, _ := strings.Cut(c.image.Config.User, ":")
	flags := []string{
		"--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--uid", uid, "--gid", gid, "--cap-drop", "ALL",
		"--as-pid-1", "--die-with-parent", "--new-session",
		"--ro-bind", c.root, "/", "--proc", "/proc", "--dev", "/dev", "--bind", c.volume, "/var/lib/metergate", "--chdir", "/", "--clearenv",
	}
	for _, variable := range append(c.image.Config.Env, c.env...) {
		name, value, _ := strings.Cut(variable, "=")
		flags = append(flags, "--setenv", name, value)
	}
	cmd := exec.Command(c.bwrap, flags...)
	if info != nil {
		cmd.ExtraFiles = []*os.File{info}
		cmd.Args = append(cmd.Args, "--info-fd", "3")
	}
	cmd.Args = append(append(cmd.Args, "--"), args...)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
	}
	return cmd
}

// run runs a command of the image to its end.
func (c *container) run(args ...string) (string, error) {
	out, err := c.command(nil, args...).CombinedOutput()
	return string(out), err
}

// start starts the image with its own command, waits until the gateway serves, and returns the
// process inside.
func (c *container) start(t *testing.T) (gateway *gatewaytest.Process, inside *os.Process) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	gateway = gatewaytest.StartCommand(t, c.command(write, append(c.image.Config.Entrypoint, c.image.Config.Cmd...)...))
	write.Close()
	var info struct {
		PID int `json:"child-pid"`
	}
	if err := json.NewDecoder(read).Decode(&info); err != nil {
		gateway.Wait()
		t.Fatalf("bubblewrap, which needs user namespaces: %v", err)
	}
	read.Close()
	inside, err = os.FindProcess(info.PID)
	if err != nil {
		t.Fatal(err)
	}
	gateway.WaitUntilServing()
	return gateway, inside
}

// The image runs as its user on a read-only root filesystem with its volume: it is healthy, counts,
// drains, and finds its counts when it starts again.
func TestImageServesAsItsUser(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Test") == "slow" {
			close(arrived)
			<-finish
		}
	}))
	t.Cleanup(upstream.Close)
	c := newContainer(t, "JWT_SECRET="+testkit.Secret, "METERGATE_ADMIN_TOKEN="+gatewaytest.AdminToken, "UPSTREAM_URL="+upstream.URL,
		"LISTEN=127.0.0.1:0", "ADMIN_LISTEN="+testkit.FreeAddress(t))
	if out, err := c.run("/metergate", "version"); err != nil || !strings.HasPrefix(out, "metergate "+version+", ") {
		t.Fatalf("%v: %s", err, out)
	}

	gateway, inside := c.start(t)
	checkRights(t, inside.Pid)
	if out, err := c.run(c.image.Config.Healthcheck.Test[1:]...); err != nil || !strings.Contains(out, `"status":"ready"`) {
		t.Errorf("the health check: %v: %s", err, out)
	}
	token, err := c.run("/metergate", "token", "-config", "/etc/metergate/gateway.yaml", "-user", "ann", "-plan", "pro")
	if err != nil {
		t.Fatalf("%v: %s", err, token)
	}
	token = strings.TrimSpace(token)
	client := gatewaytest.NewClient(t)
	if status := gatewaytest.Post(client, gateway.URL+"/api/analyze", token); status != 200 {
		t.Fatalf("status %d", status)
	}
	if used := gatewaytest.Usage(t, gateway, token).Limits[0].Used; used != 1 {
		t.Errorf("used %d, want 1", used)
	}

	slow := make(chan int, 1)
	go func() {
		req, _ := http.NewRequest("POST", gateway.URL+"/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Test", "slow")
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			slow <- 0
			return
		}
		res.Body.Close()
		slow <- res.StatusCode
	}()
	testkit.Receive(t, "the request", arrived)
	if err := inside.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the gateway drains", func() bool {
		status, _ := gatewaytest.Get(gateway.Admin+"/readyz", "")
		return status == 503
	})
	close(finish)
	if status := testkit.Receive(t, "the response", slow); status != 200 {
		t.Errorf("the request in flight got %d", status)
	}
	if code := gateway.Wait(); code != 0 {
		t.Errorf("exit status %d after SIGTERM", code)
	}
	if out, err := c.run(c.image.Config.Healthcheck.Test[1:]...); err == nil {
		t.Errorf("the health check succeeds without a gateway: %s", out)
	}

	gateway, _ = c.start(t)
	if used := gatewaytest.Usage(t, gateway, token).Limits[0].Used; used != 2 {
		t.Errorf("used %d after the restart, want 2", used)
	}
}

// checkRights checks who the process in the container is, as the kernel sees it.
func checkRights(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = imageUser
	}
	for _, want := range []string{fmt.Sprintf("\nUid:\t%d\t", uid), "\nCapEff:\t0000000000000000\n", "\nNoNewPrivs:\t1\n", fmt.Sprintf("\nNSpid:\t%d\t1\n", pid)} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the process has not %q:\n%s", want, status)
		}
	}
}
