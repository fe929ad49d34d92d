package operating

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// setOpenFiles changes how many files a running process may open.
func setOpenFiles(t *testing.T, pid int, n uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: n, Max: 4096}
	if _, _, errno := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
}

// A connection that cannot be accepted is counted, and logged at most once a second. The
// gateway serves again when it can.
func TestAcceptErrorsAreCounted(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := startLimited(t, "ulimit -n 4096", upstream.URL)
	// A client with a connection of its own can ask for the metrics all the time.
	admin := &http.Client{Timeout: time.Minute}
	says := func(path, text string) bool {
		res, err := admin.Get(g.Admin + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(body), text)
	}
	if !says("/metrics", acceptErrorCount+" 0\n") {
		t.Error("the metric does not begin at 0")
	}
	files, err := os.ReadDir("/proc/" + strconv.Itoa(g.Cmd.Process.Pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	setOpenFiles(t, g.Cmd.Process.Pid, uint64(len(files)))
	c := newCrowd(t, g)
	c.join(20, c.request("POST", "/api/analyze", func(int) string { return "u" }), false)
	g.WaitForText(acceptFailed)
	g.WaitForText("too many open files")
	testkit.EventuallyWithin(t, time.Minute, "/readyz says so", func() bool { return says("/readyz", "could not be accepted") })
	if says("/metrics", acceptErrorCount+" 0\n") {
		t.Error("the metric does not count it")
	}
	setOpenFiles(t, g.Cmd.Process.Pid, 4096)
	c.running.Wait()
	// A request whose connection took the last descriptor finds none for the upstream.
	if c.answered(200, 503) != 20 || c.answered(200) == 0 {
		t.Errorf("statuses %v, want 200, and 503 for a few", c.statuses)
	}
	wantFewLines(t, g, acceptFailed)
	wantCounted(t, g, "u", c.answered(200), c.answered(200))
}
