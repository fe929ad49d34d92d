package gatewaytest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Metric returns the value of one metric that has no labels, or of one series with its
// labels; empty if it is not there.
func Metric(p *Process, name string) string {
	_, body := Get(p.Admin+"/metrics", "")
	for line := range strings.Lines(body) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// RequestsInFlight is how many requests a gateway is serving.
func RequestsInFlight(t testing.TB, p *Process) int {
	t.Helper()
	n, err := strconv.Atoi(Metric(p, "metergate_requests_in_flight"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TargetsUp is how many targets of its upstreams a gateway takes for healthy.
func TargetsUp(p *Process) (n int) {
	_, metrics := Get(p.Admin+"/metrics", "")
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "metergate_upstream_target_up{") && strings.HasSuffix(strings.TrimSpace(line), " 1") {
			n++
		}
	}
	return n
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// PeakMemory is the most memory that a process has had at any time, in bytes. It skips
// the test on a system without /proc.
func PeakMemory(t testing.TB, p *Process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc on this system")
	}
	kib := peakLine.FindSubmatch(status)
	n, _ := strconv.Atoi(string(kib[1]))
	return n << 10
}
