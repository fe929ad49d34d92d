package listeners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// through returns a client that sends every request to a socket.
func through(t *testing.T, path string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// socketYAML is a configuration where both listeners are replaced.
func socketYAML(listen, admin, more string) string {
	text := strings.Replace(gatewaytest.BasicYAML, "listen: 127.0.0.1:0\n", "listen: "+listen+"\n"+more, 1)
	return strings.Replace(text, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: "`+admin+`", token: "`+gatewaytest.AdminToken+`" }`, 1)
}

// lastPID is the PID in the last line of a log that says that a process serves.
func lastPID(log string) (pid int) {
	for text := range strings.Lines(log) {
		var line struct {
			Msg string
			PID int
		}
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "serving" {
			pid = line.PID
		}
	}
	return pid
}

// forwardedFor returns an upstream that sends back what it was told of the client.
func forwardedFor(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Got-Forwarded", r.Header.Get("X-Forwarded-For")+"|"+r.Header.Get("X-Real-Ip"))
	}))
	t.Cleanup(s.Close)
	return s
}

// Both listeners can be Unix sockets. Whoever can connect to one is believed only if trusted_proxies has
// "unix". The commands find the admin listener there, and a gateway that was killed does not keep the next
// one from starting.
func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	public, admin := filepath.Join(dir, "public.sock"), filepath.Join(dir, "admin.sock")
	env := []string{"STORE=embedded:" + filepath.Join(dir, "data"), "UPSTREAM=" + forwardedFor(t).URL, "LEVEL=info"}
	file := filepath.Join(dir, "gateway.yaml")
	for more, want := range map[string]string{
		"":                          "|",
		"trusted_proxies: [unix]\n": "198.51.100.1, 203.0.113.9|203.0.113.9",
		"trusted_proxies: [unix, 203.0.113.0/24]\n": "198.51.100.1, 203.0.113.9|198.51.100.1",
	} {
		testkit.WriteFile(t, file, socketYAML("unix:"+public, "unix:"+admin, more))
		gateway := gatewaytest.Start(t, env, "serve", "-config", file)
		gateway.WaitForText(`"msg":"serving","listen":"unix:` + public + `","tls":false,"admin":"unix:` + admin)
		req, _ := http.NewRequest("POST", "http://api.example/api/analyze", nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		req.Header.Set("X-Forwarded-For", "198.51.100.1, 203.0.113.9")
		res, err := through(t, public).Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		if got := res.Header.Get("Got-Forwarded"); got != want {
			t.Errorf("%q: the upstream got %s, want %s", more, got, want)
		}
		gateway.Kill() // the files stay
	}
	gateway := gatewaytest.Start(t, env, "serve", "-config", file)
	gateway.WaitForText(`"msg":"serving"`)
	asAdmin := "METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken
	for _, args := range [][]string{{"healthcheck", "-config", file}, {"healthcheck", "-admin", "unix:" + admin}, {"usage", "-admin", "unix:" + admin, "u"}} {
		if code, out := gatewaytest.Run(t, append(env, asAdmin), args...); code != 0 {
			t.Errorf("%v: exit status %d: %s", args, code, out)
		}
	}
	if code, out := gatewaytest.Run(t, []string{asAdmin}, "usage", "-admin", "unix:admin.sock", "u"); code != 2 || !strings.Contains(out, "-admin: must be unix: and the absolute path of a socket") {
		t.Errorf("a relative path: exit status %d: %s", code, out)
	}
	testkit.WriteFile(t, filepath.Join(dir, "other.yaml"), strings.Replace(socketYAML("unix:"+public, "127.0.0.1:0", ""), "${STORE}", "embedded:other", 1))
	if code, out := gatewaytest.Run(t, env, "serve", "-config", filepath.Join(dir, "other.yaml")); code != 1 || !strings.Contains(out, "listen: unix:"+public+": another program listens there") {
		t.Errorf("a second gateway: exit status %d: %s", code, out)
	}
	// A successor has the same sockets, and removes their files when it stops.
	successor := 0
	gateway.Signal(syscall.SIGUSR2)
	gateway.WaitForOutput(func(text string) bool { successor = lastPID(text); return strings.Count(text, `"msg":"serving"`) == 2 })
	if res, err := through(t, admin).Get("http://localhost/readyz"); err != nil || res.StatusCode != 200 {
		t.Errorf("the successor: %v %v", res, err)
	}
	syscall.Kill(successor, syscall.SIGTERM)
	if code := gateway.Wait(); code != 0 { // which waits for the end of both, by what they print
		t.Errorf("exit status %d", code)
	}
	for _, path := range []string{public, admin} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the stop there is still %s: %v", path, err)
		}
	}
}

// systemd opens both sockets, starts the gateway with the first connection, which is served, and is told
// of the gateway's state.
func TestSocketActivation(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		if os.Getenv(redistest.RequireEnv) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	notified, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notified.Close()
	file := filepath.Join(dir, "gateway.yaml")
	testkit.WriteFile(t, file, socketYAML("systemd:http", "systemd:admin", ""))
	address, admin := testkit.FreeAddress(t), filepath.Join(dir, "admin.sock")
	cmd := exec.Command(activate, "-l", address, "-l", admin, "--fdname=http:admin",
		"-E", "STORE=embedded:"+filepath.Join(dir, "data"), "-E", "UPSTREAM="+forwardedFor(t).URL, "-E", "LEVEL=info", "-E", "NOTIFY_SOCKET="+notified.LocalAddr().String(),
		gatewaytest.Program(), "serve", "-config", file)
	cmd.Env = os.Environ()
	gateway := gatewaytest.StartCommand(t, cmd)
	gateway.WaitForText("Listening on " + admin)
	if status := gatewaytest.Post(http.DefaultClient, "http://"+address+"/api/analyze", testkit.Token("u", "free")); status != 200 {
		t.Fatalf("the first request: status %d", status)
	}
	if res, err := through(t, admin).Get("http://localhost/readyz"); err != nil || res.StatusCode != 200 {
		t.Errorf("the admin listener: %v %v", res, err)
	}
	told := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		n, err := notified.Read(buf)
		if got := string(buf[:n]); err != nil || got != want {
			t.Errorf("systemd is told %q, %v; want %q", got, err, want)
		}
	}
	told("READY=1")
	gateway.Signal(syscall.SIGHUP)
	told("RELOADING=1")
	told("READY=1")
	gateway.Signal(syscall.SIGUSR2)
	gateway.WaitForOutput(func(text string) bool { return strings.Count(text, `"msg":"serving"`) == 2 })
	successor := lastPID(gateway.Output())
	told(fmt.Sprintf("MAINPID=%d\nREADY=1", successor))
	if status := gatewaytest.Post(http.DefaultClient, "http://"+address+"/api/analyze", testkit.Token("u", "free")); status != 200 {
		t.Errorf("a request to the successor: status %d", status)
	}
	syscall.Kill(successor, syscall.SIGTERM)
	told("STOPPING=1")
	if code := gateway.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Lstat(admin); err != nil {
		t.Errorf("the socket of systemd is gone: %v", err)
	}
	var line struct{ Listen, Admin string }
	for text := range strings.Lines(gateway.Output()) {
		if strings.Contains(text, `"msg":"serving"`) {
			json.Unmarshal([]byte(text), &line)
		}
	}
	if line.Listen != address || line.Admin != "unix:"+admin {
		t.Errorf("the log says %+v", line)
	}
}
