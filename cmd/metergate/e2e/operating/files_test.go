package operating

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A countedGateway is a gateway with an upstream and a client that both count 2xx.
type countedGateway struct {
	*gatewaytest.Process
	t          *testing.T
	seen, sent atomic.Int64
}

func startCounted(t *testing.T, store string, env ...string) *countedGateway {
	t.Helper()
	c := &countedGateway{t: t}
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { c.sent.Add(1) }))
	t.Cleanup(upstream.Close)
	c.Process = gatewaytest.StartWithAdminAPI(t, store, upstream.URL, env...)
	return c
}

// user of all requests; the plan has no limit.
func (c *countedGateway) token() string { return testkit.Token("u", "enterprise") }

// post sends n requests.
func (c *countedGateway) post(n int) {
	c.t.Helper()
	for range n {
		status := gatewaytest.Post(http.DefaultClient, c.URL+"/api/analyze", c.token())
		if status/100 == 2 {
			c.seen.Add(1)
		} else {
			c.t.Errorf("status %d, want 2xx", status)
		}
	}
}

// postWhile sends requests until f returns.
func (c *countedGateway) postWhile(f func()) {
	c.t.Helper()
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				c.post(1)
			}
		}
	}()
	f()
	close(done)
	<-stopped
}

// settledUsage waits until no outage is left and its journal is counted, and returns the usage.
// Until then the numbers are those from before the outage.
func (c *countedGateway) settledUsage() quota.Usage {
	c.t.Helper()
	testkit.Eventually(c.t, "the gateway counts in the store", func() bool {
		return !gatewaytest.Usage(c.t, c.Process, c.token()).Stale && gatewaytest.Metric(c.Process, "metergate_journal_backlog") == "0"
	})
	return gatewaytest.Usage(c.t, c.Process, c.token())
}

// wantCounted compares the count with what the client and the upstream have counted.
func (c *countedGateway) wantCounted() {
	c.t.Helper()
	u := c.settledUsage()
	if u.Used < c.seen.Load() || u.Used > c.sent.Load() || u.InFlight != 0 || u.Stale {
		c.t.Errorf("%d counted, %d in flight, stale %v; clients saw %d, the upstream sent %d", u.Used, u.InFlight, u.Stale, c.seen.Load(), c.sent.Load())
	}
}

func (c *countedGateway) readyz() string {
	_, body := gatewaytest.Get(c.Admin+"/readyz", "")
	return body
}

// wantSaid waits until /readyz and a metric say something, and checks that the log has one line
// about it.
func (c *countedGateway) wantSaid(readyz, metric, line string) {
	c.t.Helper()
	testkit.Eventually(c.t, "/readyz says: "+readyz, func() bool { return strings.Contains(c.readyz(), readyz) })
	testkit.Eventually(c.t, "the metric "+metric+" is not 0", func() bool {
		value := gatewaytest.Metric(c.Process, metric)
		return value != "0" && value != ""
	})
	c.WaitForText(line)
	if n := strings.Count(c.Output(), line); n != 1 {
		c.t.Errorf("%d lines say %q, want 1", n, line)
	}
}

// A journal whose folder is deleted, renamed or replaced during an outage is written again. A
// gateway that is killed then has lost nothing.
func TestJournalIsWrittenAgain(t *testing.T) {
	for what, takeAway := range map[string]func(t *testing.T, dir string){
		"deleted": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
		"renamed": func(t *testing.T, dir string) {
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, dir string) {
			gatewaytest.ReplaceFile(t, filepath.Join(dir, "journal.db"), []byte("something else"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "journal")
			redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			c := startCounted(t, redis.URL(), "JOURNAL="+dir, "ON_FAILURE=allow", gatewaytest.Patient)
			c.post(10)
			if body := c.readyz(); !strings.Contains(body, `"journal":"ok"`) {
				t.Errorf("before: %s", body)
			}
			redis.Kill()
			c.postWhile(func() {
				c.WaitForText("the gateway cannot count in the store")
				takeAway(t, dir)
				c.wantSaid(filepath.Join(dir, "journal.db")+" was ", "metergate_journal_errors_total", "a file of the gateway was deleted or replaced")
				c.wantSaid("written again", `metergate_file_replaced_total{file="journal.db"}`, "written again")
			})
			c.Kill()
			redis.Start()
			c.Process = c.Restart()
			c.wantCounted()
			if what == "renamed" { // nothing is left in it that could be counted again
				other := startCounted(t, redis.URL(), "JOURNAL="+dir+".old", gatewaytest.Patient)
				if got := gatewaytest.Metric(other.Process, "metergate_journal_replayed_total"); got != "0" {
					t.Errorf("a gateway on the renamed folder replays %s counts", got)
				}
				c.wantCounted()
			}
		})
	}
}

// While the journal cannot be written again, the counts are in memory, and everything says so.
// Once it can be, they are in the journal: a gateway that is killed then has lost nothing.
func TestJournalTakesWhatIsInMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := startCounted(t, redis.URL(), "JOURNAL="+dir, "ON_FAILURE=allow", gatewaytest.Patient)
	c.post(10)
	redis.Kill()
	c.post(10)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, dir, "a file in place of the folder")
	c.postWhile(func() {
		c.wantSaid("cannot be written again", "metergate_journal_errors_total", "a file cannot be written: what it should keep is only in memory")
	})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	c.WaitForText("the file can be written again")
	written := func() string { return gatewaytest.Metric(c.Process, "metergate_journal_written_total") }
	testkit.Eventually(t, "all counts are in the journal", func() bool { return written() == gatewaytest.Metric(c.Process, "metergate_journal_backlog") })
	c.Kill()
	redis.Start()
	c.Process = c.Restart()
	c.wantCounted()
}

// The file of the embedded store is written again as well.
func TestUsageFileIsWrittenAgain(t *testing.T) {
	for what, takeAway := range map[string]func(t *testing.T, dir string){
		"deleted": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by an old copy": func(t *testing.T, dir string) {
			path := filepath.Join(dir, "usage.db")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			gatewaytest.ReplaceFile(t, path, data)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			c := startCounted(t, "embedded:"+dir)
			c.post(10)
			c.postWhile(func() {
				takeAway(t, dir)
				c.wantSaid(filepath.Join(dir, "usage.db")+" was ", `metergate_file_replaced_total{file="usage.db"}`, "a file of the gateway was deleted or replaced")
			})
			c.Kill()
			c.Process = c.Restart()
			c.wantCounted()
		})
	}
}
