package browsertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A firefox is a running Firefox, which speaks WebDriver BiDi.
type firefox struct{ *bidi }

// firefoxPrefs keep Firefox from asking its vendor for anything, and sites for icons. Pages of one site
// have up to four processes.
const firefoxPrefs = `
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.aboutConfig.showWarning", false);
user_pref("browser.chrome.site_icons", false);
user_pref("browser.backup.scheduled.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.search.update", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("dom.ipc.keepProcessesAlive.webIsolated.max", 0);
user_pref("dom.ipc.processCount.webIsolated", 4);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("intl.accept_languages", "en-US, en");
user_pref("media.gmp-manager.updateEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.dns.disablePrefetch", true);
user_pref("services.settings.server", "data:,none");
user_pref("toolkit.telemetry.enabled", false);
user_pref("toolkit.telemetry.server", "data:,none");
`

func startFirefox(t testing.TB, path string) process {
	t.Helper()
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPrefs), 0o600); err != nil {
		t.Fatal(err)
	}
	// System access is what freeze needs.
	cmd := exec.Command(path, "--headless", "--no-remote", "--profile", profile,
		"--remote-debugging-port", "0", "--remote-allow-system-access", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+profile, "LANGUAGE=en_US", "TZ=UTC", "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal("starting firefox: ", err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its content processes too; one may be stopped
		cmd.Wait()
	})
	url, err := bidiURL(output)
	if err != nil {
		t.Fatal("starting firefox: ", err)
	}
	connection, err := dialBidi(url)
	if err != nil {
		t.Fatal("starting firefox: ", err)
	}
	t.Cleanup(connection.close)
	return firefox{connection}
}

// bidiURL reads where Firefox listens from its output, and keeps the pipe empty after that.
func bidiURL(output io.Reader) (string, error) {
	lines := bufio.NewScanner(output)
	var read []string
	for lines.Scan() {
		if _, url, found := strings.Cut(lines.Text(), "WebDriver BiDi listening on "); found {
			go io.Copy(io.Discard, output)
			return url, nil
		}
		read = append(read, lines.Text())
	}
	return "", fmt.Errorf("it ended: %s", strings.Join(read, "\n"))
}

func (f firefox) open(before string, behind page, console func(string)) (page, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var created struct{ Context string }
	where := object{"type": "window"}
	if behind, ok := behind.(*firefoxPage); ok {
		where = object{"type": "tab", "referenceContext": behind.context}
	}
	if err := f.call(ctx, "browsingContext.create", where, &created); err != nil {
		return nil, err
	}
	p := &firefoxPage{bidi: f.bidi, context: created.Context}
	f.listen(p.context, console)
	if before == "" {
		return p, nil
	}
	script := object{"functionDeclaration": "() => {" + before + "\n}", "contexts": []string{p.context}}
	return p, f.call(ctx, "script.addPreloadScript", script, nil)
}

// A firefoxPage is a tab of Firefox.
type firefoxPage struct {
	*bidi
	context string // the id of its browsing context
	frozen  int    // the process that was stopped; 0: none
}

func (p *firefoxPage) navigate(ctx context.Context, url string) error {
	return p.call(ctx, "browsingContext.navigate", object{"context": p.context, "url": url, "wait": "complete"}, nil)
}

func (p *firefoxPage) reload(ctx context.Context) error {
	return p.call(ctx, "browsingContext.reload", object{"context": p.context, "wait": "complete"}, nil)
}

func (p *firefoxPage) evaluate(ctx context.Context, expression string) (string, error) {
	return p.evaluateIn(ctx, object{"context": p.context}, expression)
}

// media is for Chromium alone: Firefox takes these features from the preferences of the whole browser.
func (p *firefoxPage) media(context.Context, []string) error { return errors.ErrUnsupported }

func (p *firefoxPage) resize(ctx context.Context, width, height int64) error {
	return p.call(ctx, "browsingContext.setViewport", object{"context": p.context, "viewport": object{"width": width, "height": height}}, nil)
}

// freeze stops the process of the page. The first four tabs of a site have processes of their own.
func (p *firefoxPage) freeze(ctx context.Context) error {
	processes, err := p.processes(ctx)
	if err != nil {
		return err
	}
	pid := processes[p.context]
	for other, id := range processes {
		if other != p.context && id == pid {
			return errors.New("another tab has the same process")
		}
	}
	p.frozen = pid
	return syscall.Kill(pid, syscall.SIGSTOP)
}

// processes returns the process of each tab.
func (p *firefoxPage) processes(ctx context.Context) (map[string]int, error) {
	var tabs, windows struct {
		Contexts []struct{ Context, ClientWindow string }
	}
	if err := p.call(ctx, "browsingContext.getTree", object{"maxDepth": 0}, &tabs); err != nil {
		return nil, err
	}
	// These windows belong to Firefox itself, whose scripts know the processes of pages.
	if err := p.call(ctx, "browsingContext.getTree", object{"moz:scope": "chrome", "maxDepth": 0}, &windows); err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, tab := range tabs.Contexts {
		for _, window := range windows.Contexts {
			if window.ClientWindow != tab.ClientWindow {
				continue
			}
			text, err := p.evaluateIn(ctx, object{"context": window.Context}, "Promise.resolve(String(gBrowser.selectedBrowser.browsingContext.currentWindowGlobal.osPid))")
			if err != nil {
				return nil, err
			}
			if found[tab.Context], err = strconv.Atoi(text); err != nil {
				return nil, err
			}
		}
	}
	if found[p.context] <= 0 { // a signal to 0 or less would reach others
		return nil, errors.New("the tab has no process")
	}
	return found, nil
}

func (p *firefoxPage) thaw(context.Context) error {
	if p.frozen == 0 {
		return errors.New("the tab is not frozen")
	}
	pid := p.frozen
	p.frozen = 0
	return syscall.Kill(pid, syscall.SIGCONT)
}

func (p *firefoxPage) close(ctx context.Context) error {
	return p.call(ctx, "browsingContext.close", object{"context": p.context}, nil)
}

func (p *firefoxPage) discard() {
	if p.frozen != 0 {
		syscall.Kill(p.frozen, syscall.SIGCONT)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p.close(ctx) // an error: it is closed
}
