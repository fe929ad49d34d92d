package browsers

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/browser/browsertest"
	"metergate/quota/testkit"
)

var localURL = regexp.MustCompile(`Local: +(http://127\.0\.0\.1:\d+)`)

// serve runs a server of the npm packages in the folder of the app until the test ends, and returns
// the address that it prints.
func (a reactApp) serve(t *testing.T, name string, args ...string) (url string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(a.dir, "../node_modules/.bin", name), args...)
	cmd.Dir, cmd.Env = a.dir, offline()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it starts processes of its own
	p := gatewaytest.StartCommand(t, cmd)
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	p.WaitForOutput(func(text string) bool { return localURL.MatchString(text) })
	return localURL.FindStringSubmatch(p.Output())[1]
}

// The servers of Vite and Next.js, set up as docs/frontend.md says, pass calls and the stream on as they come.
func TestDevelopmentProxiesWork(t *testing.T) {
	packages := filepath.Dir(browsertest.Bundlers(t))
	p := docsGateway(t)
	codes := recipes(t, p.URL)
	for _, proxy := range []struct {
		heading, file string
		command       []string
		page          map[string]string
	}{
		{"Proxy of Vite", "vite.config.ts", []string{"vite", "--host", "127.0.0.1", "--port", "0"}, nil},
		{"Rewrites of Next.js", "next.config.ts", []string{"next", "dev", "--hostname", "127.0.0.1", "--port", "0"}, map[string]string{
			"app/layout.jsx": "export default function Layout({ children }) { return <html lang=\"en\"><body>{children}</body></html>; }",
			"app/page.jsx":   "export default function Page() { return 'An app'; }",
		}},
	} {
		t.Run(proxy.heading, func(t *testing.T) {
			dir, err := os.MkdirTemp(packages, "app-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			write(t, filepath.Join(dir, "package.json"), `{ "type": "module" }`)
			write(t, filepath.Join(dir, proxy.file), codes[proxy.heading])
			for name, code := range proxy.page {
				write(t, filepath.Join(dir, name), code)
			}
			testStreamThrough(t, reactApp{dir}.serve(t, proxy.command[0], proxy.command[1:]...), testkit.Token(proxy.heading, "free"))
		})
	}
}

// testStreamThrough reads the stream of a user through a proxy, as browsers do, while they make calls.
func testStreamThrough(t *testing.T, url, token string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", url+"/usage/stream", nil)
	req.Header = http.Header{"Authorization": {"Bearer " + token}, "Accept-Encoding": {"gzip, deflate, br, zstd"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if encoding := resp.Header.Get("Content-Encoding"); resp.StatusCode != 200 || encoding != "" {
		t.Fatalf("status %d, Content-Encoding %q", resp.StatusCode, encoding)
	}
	lines := bufio.NewScanner(resp.Body)
	for calls := range 3 {
		// The event arrives before the next call, so nothing holds it back.
		want := fmt.Sprintf(`"used":%d,`, calls)
		for !strings.Contains(lines.Text(), want) {
			if !lines.Scan() {
				t.Fatalf("the stream ended without %s: %v", want, lines.Err())
			}
		}
		if status := gatewaytest.Post(http.DefaultClient, url+"/api/analyze", token); status != 200 {
			t.Fatalf("a call: %d", status)
		}
	}
}
