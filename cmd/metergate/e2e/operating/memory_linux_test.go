package operating

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// A memoryLimit limits the memory of the gateways that a test starts.
type memoryLimit struct {
	commands string // of a shell, before it becomes the gateway
	from     string // where the gateway finds the limit
	killed   func() bool
}

// limitMemory makes a cgroup below the one of this process, of version 1 or 2. Where that is not
// allowed, GOMEMLIMIT takes its place: the gateway must fit into that as well.
func limitMemory(t *testing.T, bytesAllowed int) memoryLimit {
	t.Helper()
	for _, v := range []struct{ parent, file, events, killed string }{
		{"/sys/fs/cgroup/memory" + ownCgroup(t, ":memory:"), "memory.limit_in_bytes", "memory.oom_control", "oom_kill 0"},
		{"/sys/fs/cgroup" + ownCgroup(t, "0::"), "memory.max", "memory.events", "oom_kill 0"},
	} {
		dir := filepath.Join(v.parent, fmt.Sprintf("metergate-test-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			testkit.Eventually(t, "the cgroup is empty", func() bool { return os.Remove(dir) == nil })
		})
		if os.WriteFile(filepath.Join(dir, v.file), fmt.Append(nil, bytesAllowed), 0o644) != nil {
			continue
		}
		t.Logf("with the cgroup %s", dir)
		return memoryLimit{"echo $$ >" + dir + "/cgroup.procs || exit 9", "the container", func() bool {
			events, err := os.ReadFile(filepath.Join(dir, v.events))
			return err == nil && !bytes.Contains(events, []byte(v.killed))
		}}
	}
	t.Logf("without a cgroup: none can be made here")
	return memoryLimit{fmt.Sprintf("export GOMEMLIMIT=%d", bytesAllowed), "GOMEMLIMIT", func() bool { return false }}
}

// ownCgroup is the path behind this mark in /proc/self/cgroup. Without such a line, it is a path that
// does not exist.
func ownCgroup(t *testing.T, mark string) string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, path, found := strings.Cut(strings.TrimSpace(line), mark); found {
			return path
		}
	}
	return "/none"
}

// In a container of 96 MiB, 2,500 clients at once do not end the gateway: it serves as many as
// fit and answers the others 503.
func TestRequestsFitIntoContainer(t *testing.T) {
	const clients, allowed = 2500, 96 << 20
	limit := limitMemory(t, allowed)
	upstream := newGate(t)
	g := startLimited(t, limit.commands, upstream.URL)
	g.WaitForText(`"memory":"96 MiB of ` + limit.from + `"`)
	bound := int(metric(t, g, "metergate_requests_in_flight_max"))
	if bound < 100 || bound > 1000 {
		t.Fatalf("the gateway serves %d requests at once", bound)
	}
	c := newCrowd(t, g)
	c.join(clients, c.request("POST", "/api/analyze", func(int) string { return "u" }), false)
	testkit.EventuallyWithin(t, time.Minute, "the others are refused", func() bool {
		return c.answered(503) == clients-bound && int(upstream.arrived.Load()) == bound
	})
	if ready := wantAdmin(t, g); !strings.Contains(ready, fmt.Sprintf("there is room for %d at once", bound)) {
		t.Errorf("/readyz: %s", ready)
	}
	wantFewLines(t, g, requestsRefused)
	close(upstream.open)
	c.running.Wait()
	if c.answered(200) != bound || c.answered(503) != clients-bound {
		t.Errorf("statuses %v, want %d times 200, and 503 otherwise", c.statuses, bound)
	}
	wantCounted(t, g, "u", c.answered(200), int(upstream.answered.Load()))
	t.Logf("%d requests at once, and at most %d MiB", bound, gatewaytest.PeakMemory(t, g)>>20)

	// Connections that only stay open take memory as well.
	idle := newCrowd(t, g)
	idle.join(clients, idle.request("GET", "/usage", func(int) string { return "u" }), true)
	testkit.EventuallyWithin(t, 2*time.Minute, "all are answered", func() bool { return idle.answered(200, 503) == clients })
	if open, most := metric(t, g, openConnections), metric(t, g, maxConnections); open > most+1 {
		t.Errorf("%v connections are open, and there is room for %v", open, most)
	}
	close(idle.close)
	idle.running.Wait()
	select {
	case <-g.Done():
		t.Error("the gateway has ended")
	default:
	}
	if limit.killed() {
		t.Error("the kernel has killed the gateway for want of memory")
	}
}
